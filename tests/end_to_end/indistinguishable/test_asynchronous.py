"""`async_reset`, `send`, `recv`: each environment's trajectory is what it would be alone; stragglers stop nobody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory, ToyServer
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError, ResetNeeded
from mortal import RAISE, MortalEnv
from sameness import assert_same

from remote_gym import EnvironmentRaised, MisuseError, RemoteEnvironmentServer, RemoteVectorEnv

MORTAL = Path(__file__).parents[2] / "mortal.py"
NUM_ENVS, SEED = 7, 5


class Oracle:
    """The same environments, stepped one by one here, with autoreset in the next step."""

    def __init__(self, make: Any, num_envs: int = NUM_ENVS) -> None:
        self.envs = [make() for _ in range(num_envs)]
        self.next: list[Any] = [None] * num_envs
        self.over = [False] * num_envs

    def reset(self) -> None:
        for index, env in enumerate(self.envs):
            observation, info = env.reset(seed=SEED + index)
            self.next[index] = observation, 0.0, False, False, info

    def step(self, index: int, action: Any) -> None:
        env = self.envs[index]
        if self.over[index]:
            observation, info = env.reset()
            self.next[index] = observation, 0.0, False, False, info
            self.over[index] = False
        else:
            self.next[index] = env.step(action)
            self.over[index] = self.next[index][2] or self.next[index][3]


def cart_pole() -> gym.Env[Any, Any]:
    return gym.make("CartPole-v1")


@pytest.fixture
def one(serve: ServerFactory) -> RemoteEnvironmentServer:
    return serve("CartPole-v1", num_workers=2)


@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("batch_size", [1, 3, 4, None])
def test_each_trajectory_is_that_of_the_environment_alone(
    one: RemoteEnvironmentServer, batch_size: int | None, copy: bool
) -> None:
    oracle, random = Oracle(cart_pole), np.random.default_rng(0)
    rows = batch_size or NUM_ENVS
    kept: list[tuple[Any, Any]] = []
    with RemoteVectorEnv(one.address, num_envs=NUM_ENVS, batch_size=batch_size, copy=copy) as envs:
        assert envs.batch_size == rows
        envs.async_reset(seed=SEED)
        oracle.reset()
        for _ in range(150):
            observations, rewards, terminations, truncations, infos = envs.recv()
            ids = infos["env_id"]
            assert (ids.dtype, len(ids), len(set(ids))) == (np.int64, rows, rows)
            assert observations.shape == (rows, 4) and rewards.dtype == np.float64 and terminations.dtype == np.bool_
            assert observations.flags.writeable is copy
            for row, index in enumerate(ids):
                expected = oracle.next[index]
                assert (observations[row] == expected[0]).all()
                assert (rewards[row], terminations[row], truncations[row]) == expected[1:4]
            kept.append((observations, observations.copy()))
            actions = random.integers(0, 2, rows)
            for index, action in zip(ids, actions, strict=True):
                oracle.step(index, action)
            envs.send(actions, ids)
    assert all((held == copied).all() for held, copied in kept), "what was handed out is never written again"


def test_infos_have_a_row_per_received_environment(serve: ServerFactory) -> None:
    server = serve(str(MORTAL), num_workers=2)
    oracle = Oracle(MortalEnv)
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, batch_size=3) as envs:
        envs.async_reset(seed=SEED)
        oracle.reset()
        for _ in range(60):
            observations, *_, infos = envs.recv()
            assert infos["_count"].tolist() == [True] * 3
            for row, index in enumerate(infos["env_id"]):
                expected = oracle.next[index]
                assert infos["count"][row] == expected[4]["count"] == observations["count"][row]
                assert observations["said"][row] == expected[0]["said"]
                assert_same(observations["draw"][row], expected[0]["draw"])
                oracle.step(index, 0)
            envs.send(np.zeros(3, np.int64), infos["env_id"])


def test_a_straggler_stops_nobody(toys: ToyServer, tmp_path: Path) -> None:
    import os

    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with toys.vector("gated", 4, {"gate": str(gate)}, batch_size=1) as envs:
        envs.async_reset(seed=0)
        for _ in range(4):
            envs.recv()
        envs.send([1], [0])  # waits in its worker, which hosts environment 1 too
        for _ in range(20):
            envs.send([0, 0], [2, 3])
            assert {int(envs.recv()[4]["env_id"][0]) for _ in range(2)} == {2, 3}
        with pytest.raises(TimeoutError):
            envs.recv(timeout=0.05)
        with open(gate, "wb"):
            pass
        assert envs.recv()[4]["env_id"].tolist() == [0]


def test_misuse_is_refused_and_nothing_is_lost(one: RemoteEnvironmentServer) -> None:
    with RemoteVectorEnv(one.address, num_envs=4, batch_size=2) as envs:
        with pytest.raises(NoAsyncCallError, match="0 environments were started"):
            envs.recv()
        envs.async_reset(seed=0)
        for misused in (lambda: envs.step([0] * 4), lambda: envs.reset(), lambda: envs.get_attr("gravity")):
            with pytest.raises(AlreadyPendingCallError, match="recv"):
                misused()
        with pytest.raises(AlreadyPendingCallError, match=r"environments \[0, 1, 2, 3\]"):
            envs.async_reset(seed=0)
        ids = envs.recv()[4]["env_id"]
        others = [index for index in range(4) if index not in ids]
        with pytest.raises(AlreadyPendingCallError, match="not received"):
            envs.send([0, 0], others)
        for bad in ([0, 0], [[0]], [4], [-1], [0.5], []):
            with pytest.raises(MisuseError, match="env_id"):
                envs.send([0] * len(bad), bad)
        with pytest.raises(MisuseError, match="actions are for 3 environments, expected 2"):
            envs.send([0, 0, 0], ids)
        envs.send([0, 1], ids)
        envs.recv()
        envs.recv()
        envs.send([0], [others[0]])
        with pytest.raises(NoAsyncCallError, match=r"1 environments were started.*batch_size is 2"):
            envs.recv()
        envs.send([0], [others[1]])
        assert set(envs.recv()[4]["env_id"]) == set(others)
        assert envs.step([0] * 4)[0].shape == (4, 4), "everything is received: steps of all work again"
        assert len(envs.get_attr("gravity")) == 4
        envs.send([0] * 4)
        envs.close()
        with pytest.raises(ClosedEnvironmentError):
            envs.recv()


def test_a_failure_leaves_the_others_results_to_the_next_recv(serve: ServerFactory) -> None:
    server = serve(str(MORTAL), num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=4, batch_size=2) as envs:
        envs.async_reset(seed=0)
        envs.recv()
        envs.recv()
        envs.send([0, RAISE, 0], [0, 1, 2])
        with pytest.raises(EnvironmentRaised, match="environment 1 raised"):
            envs.recv()
        _, rewards, *_, infos = envs.recv()
        assert sorted(infos["env_id"]) == [0, 2] and (rewards > 0).all()
        envs.async_reset(options={"reset_mask": np.array([True, True, False, False])})
        assert sorted(envs.recv()[4]["env_id"]) == [0, 1]


def test_disabled_mode_resets_by_mask(serve: ServerFactory) -> None:
    server = serve(str(MORTAL), num_workers=2)
    with RemoteVectorEnv(server.address, num_envs=2, batch_size=1, autoreset_mode="Disabled") as envs:
        envs.async_reset(seed=0)
        envs.recv()
        envs.recv()
        over = False
        while not over:
            envs.send([0], [1])
            _, _, terminations, truncations, _ = envs.recv()
            over = bool((terminations | truncations)[0])
        with pytest.raises(ResetNeeded, match=r"environments \[1\] are over"):
            envs.send([0], [1])
        envs.async_reset(seed=[None, 3], options={"reset_mask": np.array([False, True])})
        observations, rewards, *_ = envs.recv()
        assert rewards.tolist() == [0.0]
        assert_same(observations["draw"][0], MortalEnv().reset(seed=3)[0]["draw"])


def test_a_hosted_vector_environment_refuses(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1)
    server.stop()
    from remote_gym import create_remote_environment_server

    args = {"entrypoint": "CartPole-v1", "vectorization_mode": "vector_entry_point"}
    with (
        create_remote_environment_server(args, port=0, num_workers=1) as hosting,
        RemoteVectorEnv(hosting.address, num_envs=2, autoreset_mode="NextStep") as envs,
    ):
        for misused in (lambda: envs.async_reset(), lambda: envs.send([0, 0]), lambda: envs.recv()):
            with pytest.raises(MisuseError, match="hosts a vector environment"):
                misused()
        envs.reset(seed=0)
