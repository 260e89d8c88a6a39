"""``info_format="list"``: each environment's info, as it was returned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates
from gymnasium import spaces
from sameness import assert_same

from remote_gym import MisuseError, RemoteVectorEnv, create_remote_environment_server


class Loose(gym.Env[Any, Any]):
    """Environments whose infos agree about nothing."""

    observation_space, action_space = spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)

    def __init__(self, which: int) -> None:
        self.which, self.steps = which, 0

    def info(self) -> dict[str, Any]:
        value: Any = [np.zeros(3), {"a": np.int64(1)}, None, 2.5, "text", np.zeros((2, 2), np.int8)][self.which]
        return {"value": value, "steps": self.steps, f"only {self.which}": True} if self.steps != 1 else {}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.steps = 0
        return np.zeros(2, np.float32), self.info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return np.full(2, self.steps / 10, np.float32), 1.0, self.steps == 4, False, self.info()


def create_environment(env_id: int) -> gym.Env[Any, Any]:
    return Loose(env_id % 6)


@pytest.fixture
def envs(certificates: Certificates) -> Any:
    args = {"entrypoint": str(Path(__file__))}
    paths = certificates.client_mutual
    with (
        create_remote_environment_server(
            args, port=0, server_credentials_paths=certificates.server_mutual, num_workers=2
        ) as server,
        RemoteVectorEnv(
            server.address, num_envs=6, client_credentials_paths=paths, autoreset_mode="SameStep", info_format="list"
        ) as made,
    ):
        yield made


def local_infos() -> list[list[dict[str, Any]]]:
    """Of a reset and six steps, as the mode SAME_STEP tells of the end of an episode."""
    each = [Loose(which) for which in range(6)]
    told = [[env.reset()[1] for env in each]]
    for _ in range(6):
        infos = []
        for env in each:
            observation, _, over, _, info = env.step(0)
            if over:
                info = {"final_obs": observation, "final_info": info, **env.reset()[1]}
            infos.append(info)
        told.append(infos)
    return told


def test_infos_that_do_not_aggregate_arrive_as_they_are(envs: RemoteVectorEnv) -> None:
    remote = [envs.reset()[1], *(envs.step(np.zeros(6, np.int64))[4] for _ in range(6))]
    assert_same(remote, local_infos())
    assert remote[1] == [{}] * 6  # nobody said anything
    assert len({*map(id, remote[1])}) == 6


def test_some_of_them_only(envs: RemoteVectorEnv) -> None:
    envs.reset()
    envs.step(np.zeros(6, np.int64))
    *_, infos = envs.step(np.zeros(2, np.int64), env_id=[4, 1])
    expected = local_infos()[2]
    assert_same(infos, [expected[4], expected[1]])


def test_whoever_is_ready_first_says_who_it_is(envs: RemoteVectorEnv) -> None:
    expected = local_infos()[0]
    envs.async_reset()
    *_, infos = envs.recv()
    assert sorted(info["env_id"] for info in infos) == list(range(6))
    for info in infos:
        assert_same(info, {**expected[info["env_id"]], "env_id": info["env_id"]})


def test_a_hosted_vector_environment_is_taken_apart() -> None:
    with RemoteVectorEnv.local("CartPole-v1", 3, vectorization_mode="vector_entry_point", info_format="list") as envs:
        assert envs.reset(seed=1)[1] == [{}] * 3
        assert envs.step(np.zeros(3, np.int64))[4] == [{}] * 3


def test_another_format_is_refused() -> None:
    with pytest.raises(MisuseError, match=r"info_format must be .* or 'list', got 'lists'"):
        RemoteVectorEnv("127.0.0.1:1", info_format="lists")
