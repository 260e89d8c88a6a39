"""Several servers behind one vector environment: the same numbers as one; what one loses, the others keep."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium.vector import SyncVectorEnv
from helpers import wait_until
from mortal import MortalEnv
from sameness import assert_same

from remote_gym import ConnectError, EnvironmentRaised, MisuseError, RemoteVectorEnv
from remote_gym.client.placement import in_proportion

MORTAL = Path(__file__).parents[2] / "mortal.py"


@pytest.fixture
def addresses(serve: ServerFactory) -> list[str]:
    """Three servers with 1, 2 and 1 workers."""
    return [serve(str(MORTAL), num_workers=workers, allow_set=["label"]).address for workers in (1, 2, 1)]


@pytest.mark.parametrize(
    "total, weights, shares",
    [
        (7, [1, 2, 1], [2, 3, 2]),
        (8, [1, 2, 1], [2, 4, 2]),
        (2, [1, 1, 1], [1, 1, 0]),
        (1, [1, 100], [0, 1]),
        (10, [0, 3], [0, 10]),
    ],
)
def test_in_proportion(total: int, weights: list[int], shares: list[int]) -> None:
    assert in_proportion(total, weights) == shares


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_the_same_as_one(addresses: list[str], mode: str) -> None:
    oracle = SyncVectorEnv([MortalEnv] * 9, autoreset_mode=mode)
    with RemoteVectorEnv(addresses, num_envs=9, autoreset_mode=mode) as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        assert [shard.count for shard in envs._remote.fleet.shards] == [2, 5, 2]
        for step in range(20):
            ours, theirs = envs.step([0] * 9), oracle.step([0] * 9)
            assert_same(ours, theirs)
            if mode == "Disabled" and ours[2].any():
                options = {"reset_mask": ours[2]}
                assert_same(envs.reset(options=options), oracle.reset(options=dict(options)))
            if step == 5 and mode == "NextStep":
                options = {"reset_mask": np.arange(9) % 4 == 1}
                assert_same(envs.reset(seed=9, options=options), oracle.reset(seed=9, options=dict(options)))
    oracle.close()


def test_over_tls_with_actions_of_every_server(serve: ServerFactory, certificates: Certificates) -> None:
    servers = [
        serve("Pendulum-v1", num_workers=1, server_credentials_paths=certificates.server_mutual) for _ in range(2)
    ]
    oracle = SyncVectorEnv([lambda: gym.make("Pendulum-v1")] * 5)
    with RemoteVectorEnv(
        [server.address for server in servers], num_envs=5, client_credentials_paths=certificates.client_mutual
    ) as envs:
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        oracle.action_space.seed(0)
        for _ in range(30):
            actions = oracle.action_space.sample()
            assert_same(envs.step(actions), oracle.step(actions))
    oracle.close()


def test_calls_go_to_everybody_in_order(addresses: list[str]) -> None:
    with RemoteVectorEnv(addresses, num_envs=7) as envs:
        envs.reset(seed=0)
        envs.set_attr("label", list(range(7)))
        assert envs.get_attr("label") == tuple(range(7))
        envs.call_async("get_wrapper_attr", "label")
        assert envs.call_wait(timeout=30) == tuple(range(7))
        with pytest.raises(EnvironmentRaised, match=r"environment 0 raised .*no_such"):
            envs.get_attr("no_such")
        with pytest.raises(EnvironmentRaised, match=r"environment 6 raised .*told to"):
            envs.step([0] * 6 + [3])


def test_recv_mixes_servers(addresses: list[str]) -> None:
    expected: dict[int, list[Any]] = {}
    with RemoteVectorEnv(addresses, num_envs=7, batch_size=2) as envs:
        local = [MortalEnv() for _ in range(7)]
        envs.async_reset(seed=4)
        for index, env in enumerate(local):
            expected[index] = [env.reset(seed=4 + index)[0]["draw"]]
        over = [False] * 7
        seen = set()
        for _ in range(200):
            observations, *_, infos = envs.recv()
            ids = infos["env_id"]
            seen.update(ids.tolist())
            for row, index in enumerate(ids):
                assert (observations["draw"][row] == expected[index][-1]).all()
                if over[index]:
                    expected[index].append(local[index].reset()[0]["draw"])
                    over[index] = False
                else:
                    stepped = local[index].step(0)
                    expected[index].append(stepped[0]["draw"])
                    over[index] = stepped[2]
            envs.send([0, 0], ids)
        assert seen == set(range(7))


def test_a_lost_server_costs_its_block_only(serve_process: Any) -> None:
    first, second = (serve_process(str(MORTAL), "--num-workers", "1") for _ in range(2))
    oracle = SyncVectorEnv([MortalEnv] * 4)
    with RemoteVectorEnv([first.address, second.address], num_envs=4, on_session_lost="truncate") as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        assert_same(envs.step([0] * 4), oracle.step([0] * 4))
        second.process.kill()
        second.process.wait()
        serve_process(str(MORTAL), "--num-workers", "1", "--port", second.address.rpartition(":")[2])
        theirs = oracle.step([0] * 4)
        with pytest.warns(UserWarning, match=r"environments \[2, 3\] were lost"):
            observations, rewards, _, truncations, infos = envs.step([0] * 4)
        assert truncations.tolist() == infos["_remote_gym"].tolist() == [False, False, True, True]
        assert rewards.tolist() == [2, 2, 0, 0]
        assert_same(observations["draw"][:2], theirs[0]["draw"][:2])
        for _ in range(5):
            ours, theirs = envs.step([0] * 4), oracle.step([0] * 4)
            assert_same(ours[0]["draw"][:2], theirs[0]["draw"][:2])
    oracle.close()


def test_a_dead_worker_of_the_second_server_is_named_in_the_whole_batch(serve: ServerFactory) -> None:
    servers = [serve(str(MORTAL), num_workers=1, restart_budget=None) for _ in range(2)]
    with RemoteVectorEnv([server.address for server in servers], num_envs=4) as envs:
        envs.reset(seed=3)
        (pid,) = servers[1].statistics()["worker_processes"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: servers[1].statistics()["worker_processes"] != [pid], what="a new worker")
        with pytest.warns(UserWarning, match=r"environments \[2, 3\] were lost"):
            truncations = envs.step([0] * 4)[3]
        assert truncations.tolist() == [False, False, True, True]
        draw = np.random.SeedSequence([3 + 3, 3, 1]).generate_state(1)[0]
        assert_same(envs.step([0] * 4)[0]["draw"][3], MortalEnv().reset(seed=int(draw))[0]["draw"])


def test_what_cannot_be_one_batch_is_refused(serve: ServerFactory) -> None:
    first, second = serve(str(MORTAL), num_workers=1), serve("CartPole-v1", num_workers=1)
    with (
        RemoteVectorEnv([first.address, second.address], num_envs=2) as envs,
        pytest.raises(MisuseError, match=f"what {second.address} hosts differs in its observation space"),
    ):
        envs.reset()
    for url in ([], [3]):
        with pytest.raises(MisuseError, match="url"):
            RemoteVectorEnv(url, num_envs=2)  # type: ignore[arg-type]
    with (
        RemoteVectorEnv([first.address, "127.0.0.1:1"], num_envs=2, connect_timeout_seconds=2) as envs,
        pytest.raises(ConnectError, match=r"127\.0\.0\.1:1"),
    ):
        envs.reset()
