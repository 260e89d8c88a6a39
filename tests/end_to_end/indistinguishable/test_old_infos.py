"""``info_format="gymnasium-0.29"``: what that version's `SyncVectorEnv` gave for the same environments and seeds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compat.gymnasium_0_29 import NUM_ENVS, RECORDING, SEED, STEPS, Telling, record, told
from conftest import ServerFactory
from gymnasium.vector import SyncVectorEnv

from remote_gym import MisuseError, RemoteVectorEnv
from remote_gym.infos import split

HOSTED = """
from compat.gymnasium_0_29 import Telling
from gymnasium.vector import SyncVectorEnv

def create_vector_environment(num_envs):
    return SyncVectorEnv([Telling] * num_envs, autoreset_mode="SameStep")
"""

EXPECTED = json.loads(RECORDING.read_text())
TELLING = "compat.gymnasium_0_29:Telling"


@pytest.fixture(params=[1, 2], ids=["one server", "two servers"])
def connect(request: pytest.FixtureRequest, serve: ServerFactory) -> Callable[..., RemoteVectorEnv]:
    addresses = [serve(TELLING, num_workers=2 // request.param).address for _ in range(request.param)]

    def connect(**options: Any) -> RemoteVectorEnv:
        options = {"num_envs": NUM_ENVS, "autoreset_mode": "SameStep", "info_format": "gymnasium-0.29", **options}
        return RemoteVectorEnv(addresses, **options)

    return connect


def test_every_step_is_that_of_the_old_version(connect: Callable[..., RemoteVectorEnv]) -> None:
    with connect() as envs:
        assert record(envs) == EXPECTED


def test_steps_of_all_that_were_sent(connect: Callable[..., RemoteVectorEnv]) -> None:
    """In the order of rows, since that is the one in which the old version has looked at its environments."""
    with connect() as envs:
        envs.reset(seed=SEED)
        for step in range(1, STEPS + 1):
            observations, *_, infos = envs.step(np.zeros(NUM_ENVS, np.int64), range(NUM_ENVS))
            assert [told(observations), told(infos)] == EXPECTED[step]


def test_what_a_script_of_that_time_looks_for(connect: Callable[..., RemoteVectorEnv]) -> None:
    found = 0
    with connect() as envs, connect(info_format="gymnasium") as new:
        envs.reset(seed=SEED)
        new.reset(seed=SEED)
        for _ in range(STEPS):
            *_, terminations, truncations, infos = envs.step(np.zeros(NUM_ENVS, np.int64))
            *_, said = new.step(np.zeros(NUM_ENVS, np.int64))
            assert ("final_info" in infos) == (terminations | truncations).any() == ("final_info" in said)
            if "final_info" in infos:
                assert (infos["_final_observation"] == (terminations | truncations)).all()
                for info, one in zip(infos["final_info"], split(said, NUM_ENVS), strict=True):
                    found += info is not None and "name" in info
                    assert info is None if "final_info" not in one else info.keys() == one["final_info"].keys()
    assert found > 3


def test_of_a_hosted_vector_environment_the_ends_are_renamed(serve: ServerFactory, tmp_path: Path) -> None:
    path = tmp_path / "hosted_telling.py"
    path.write_text(HOSTED)
    envs = RemoteVectorEnv(
        serve(str(path)).address, num_envs=NUM_ENVS, autoreset_mode="SameStep", info_format="gymnasium-0.29"
    )
    local = SyncVectorEnv([Telling] * NUM_ENVS, autoreset_mode="SameStep")
    ends = 0
    with envs:
        envs.reset(seed=SEED)
        local.reset(seed=SEED)
        for _ in range(STEPS):
            *_, infos = envs.step(np.zeros(NUM_ENVS, np.int64))
            *_, said = local.step(np.zeros(NUM_ENVS, np.int64))
            finals = {key: infos.pop(key) for key in list(infos) if "final" in key}
            expected = {key: said.pop(key) for key in list(said) if "final" in key}
            assert told(infos) == told(said), "the rest is its own"
            if expected:
                ends += 1
                assert told(finals["final_observation"]) == told(expected["final_obs"])
                assert (finals["_final_info"] == expected["_final_obs"]).all()
                each = [info.get("final_info") for info in split(expected, NUM_ENVS)]
                assert told(list(finals["final_info"])) == told(each)
    assert ends > 3


def test_it_is_for_the_mode_of_that_time() -> None:
    with pytest.raises(MisuseError, match=r"pass autoreset_mode='SameStep' as well, got 'NextStep'"):
        RemoteVectorEnv("localhost", info_format="gymnasium-0.29")
    with pytest.raises(MisuseError, match=r"info_format must be 'gymnasium' or 'gymnasium-0.29'"):
        RemoteVectorEnv("localhost", info_format="old")
