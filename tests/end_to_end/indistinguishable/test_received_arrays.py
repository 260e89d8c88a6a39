"""Observations are received into the arrays that are returned: bit for bit, the caller's alone, over either carrier."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium.vector import SyncVectorEnv
from sameness import assert_same

from remote_gym import RemoteVectorEnv

NUM_ENVS = 3

PICTURES = """
import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Pictures(gym.Env):
    def __init__(self, size, nested):
        picture = spaces.Box(0, 255, (size, 4), np.uint8)
        wide = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        self.observation_space = spaces.Dict({"a": picture, "b": wide}) if nested else picture
        self.action_space = spaces.Discrete(2)

    def _observe(self):
        return self.observation_space.sample()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.left = 7
        return self._observe(), {}

    def step(self, action):
        self.left -= 1
        return self._observe(), float(action), self.left == 0, False, {}


def create_environment(size, nested=False):
    return Pictures(size, nested)
"""

Make = Callable[..., RemoteVectorEnv]


@pytest.fixture
def make(serve: ServerFactory, certificates: Certificates, tmp_path: Path, transport: str) -> Iterator[Make]:
    (tmp_path / "pictures.py").write_text(PICTURES)
    made: list[RemoteVectorEnv] = []

    def begin(copy: bool, **kwargs: Any) -> RemoteVectorEnv:
        server = serve(
            str(tmp_path / "pictures.py"), kwargs, server_credentials_paths=certificates.server_mutual, num_workers=2
        )
        begin.server = server  # type: ignore[attr-defined]
        made.append(
            RemoteVectorEnv(
                server.address, num_envs=NUM_ENVS, client_credentials_paths=certificates.client_mutual, copy=copy,
                transport=transport,
            )
        )  # fmt: skip
        return made[-1]

    yield begin
    for envs in made:
        envs.close()


def local(tmp_path: Path, **kwargs: Any) -> SyncVectorEnv:
    names: dict[str, Any] = {}
    exec((tmp_path / "pictures.py").read_text(), names)
    return SyncVectorEnv([lambda: names["create_environment"](**kwargs)] * NUM_ENVS)


def arrays_of(observation: Any) -> list[np.ndarray[Any, Any]]:
    return list(observation.values()) if isinstance(observation, dict) else [observation]


@pytest.mark.parametrize("transport", ["direct", "grpc"])
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("size", [50, 3_001, 100_000])  # within one read; in several; beyond a slice
def test_equal_and_nobody_elses(make: Make, tmp_path: Path, copy: bool, nested: bool, size: int) -> None:
    envs, oracle = make(copy, size=size, nested=nested), local(tmp_path, size=size, nested=nested)
    held: list[tuple[Any, bytes]] = []  # arrays, and what the caller has made of them
    observation, _ = envs.reset(seed=5)
    assert_same(observation, oracle.reset(seed=5)[0])
    for step in range(16):
        for array in arrays_of(observation):
            assert array.flags.writeable is copy
            assert array.flags.aligned and array.flags.c_contiguous
            if copy:
                array.fill(step)  # as trainers do, in place
            held.append((array, array.tobytes()))
        actions = np.array([step % 2] * NUM_ENVS)
        results = envs.step(actions)
        assert_same(results[:4], oracle.step(actions)[:4])
        observation = results[0]
    for array, content in held:
        assert array.tobytes() == content
    every = [array for array, _ in held]
    assert not any(np.may_share_memory(one, other) for at, one in enumerate(every) for other in every[:at])
    oracle.close()


@pytest.mark.parametrize("transport", ["direct"])
def test_what_the_caller_writes_is_not_what_was_observed(make: Make, tmp_path: Path) -> None:
    """A worker's death ends the episode with the last observation, as it was delivered."""
    import os
    import signal

    envs = make(True, size=30_000)
    observation, _ = envs.reset(seed=1)
    delivered = observation.copy()
    observation.fill(0)
    os.kill(make.server.statistics()["worker_processes"][0], signal.SIGKILL)  # type: ignore[attr-defined]
    with pytest.warns(UserWarning, match="lost"):
        last, _, _, truncations, _ = envs.step(np.zeros(NUM_ENVS, np.int64))
    assert truncations.any()
    assert (last[truncations] == delivered[truncations]).all()
