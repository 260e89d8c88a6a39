"""The server's account of episodes is `RecordEpisodeStatistics`' of the same steps, made locally, in every mode."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from helpers import wait_until

from remote_gym import RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv

STEPS = 150
NUM_ENVS = 12
"""More than are added one by one."""


def counted(server: RemoteEnvironmentServer) -> dict[str, float]:
    told = server.statistics()
    return {
        "episodes": told["episodes"],
        "lost": told["lost_episodes"],
        "returns": round(told["episode_returns"], 6),
        "lengths": told["episode_length"]["sum"],
    }


class Account:
    """What the flags and rewards of local environments say, row by row."""

    def __init__(self) -> None:
        self.episodes, self.returns, self.lengths = 0, 0.0, 0

    def add(self, total: float, length: int) -> None:
        self.episodes, self.returns, self.lengths = self.episodes + 1, self.returns + total, self.lengths + length

    def as_counted(self) -> dict[str, float]:
        return {"episodes": self.episodes, "lost": 0, "returns": round(self.returns, 6), "lengths": self.lengths}


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_whole_batches(serve: ServerFactory, mode: str) -> None:
    server, account = serve(num_workers=2), Account()
    local = SyncVectorEnv(
        [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make("CartPole-v1"))] * NUM_ENVS,
        autoreset_mode=AutoresetMode(mode),
    )
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, autoreset_mode=mode) as envs:
        envs.reset(seed=1)
        local.reset(seed=1)
        envs.action_space.seed(2)
        for _ in range(STEPS):
            actions = envs.action_space.sample()
            *_, terminations, _, _ = envs.step(actions)
            *_, expected, _, infos = local.step(actions)
            assert np.array_equal(terminations, expected)
            told = infos["final_info"] if mode == "SameStep" and "final_info" in infos else infos
            for index in np.flatnonzero(expected):
                account.add(float(told["episode"]["r"][index]), int(told["episode"]["l"][index]))
        assert account.episodes > 30
        assert counted(server) == account.as_counted()
    local.close()


def test_disabled_with_masks(serve: ServerFactory) -> None:
    server, account = serve(num_workers=2), Account()
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, autoreset_mode="Disabled") as envs:
        envs.reset(seed=1)
        returns, lengths = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, int)
        for _ in range(STEPS):
            _, rewards, terminations, truncations, _ = envs.step(envs.action_space.sample())
            returns, lengths = returns + rewards, lengths + 1
            done = terminations | truncations
            for index in np.flatnonzero(done):
                account.add(returns[index], int(lengths[index]))
            mask = done.copy()
            mask[0] |= lengths[0] == 7  # broken off: no episode
            if mask.any():
                envs.reset(options={"reset_mask": mask})
                returns[mask], lengths[mask] = 0.0, 0
        assert counted(server) == account.as_counted()


def test_send_and_recv(serve: ServerFactory) -> None:
    server, account = serve(num_workers=2), Account()
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, batch_size=5) as envs:
        envs.async_reset(seed=1)
        returns, lengths, over = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, int), np.ones(NUM_ENVS, bool)
        for _ in range(5 * STEPS):
            _, rewards, terminations, truncations, info = envs.recv()
            for at, index in enumerate(info["env_id"]):
                if over[index]:  # a reset, the first one or the next
                    returns[index], lengths[index], over[index] = 0.0, 0, False
                    continue
                returns[index], lengths[index] = returns[index] + rewards[at], lengths[index] + 1
                if terminations[at] or truncations[at]:
                    account.add(returns[index], int(lengths[index]))
                    over[index] = True
            envs.send(np.ones(len(info["env_id"]), np.int64), info["env_id"])
        told = counted(server)
        # What is on its way, or answered and not received, the server has counted already.
        assert account.episodes <= told["episodes"] <= account.episodes + NUM_ENVS
        assert account.lengths <= told["lengths"] == told["returns"]


def test_a_single_environment(serve: ServerFactory) -> None:
    server, account = serve("Pendulum-v1", {"max_episode_steps": 20}, num_workers=1), Account()
    with RemoteEnvironment(server.address) as env:
        total, length = 0.0, 0
        env.reset(seed=1)
        for _ in range(90):
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, length = total + float(reward), length + 1
            if terminated or truncated:
                account.add(total, length)
                total, length = 0.0, 0
                env.reset()
        assert counted(server) == account.as_counted()


HOSTED = """
import gymnasium as gym

def create_vector_environment(num_envs, mode):
    return gym.vector.SyncVectorEnv([lambda: gym.make("CartPole-v1")] * num_envs, autoreset_mode=mode)
"""


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_a_hosted_vector_environment(serve: ServerFactory, tmp_path: Path, mode: str) -> None:
    (tmp_path / "hosted.py").write_text(HOSTED)
    server, account = serve(str(tmp_path / "hosted.py"), {"mode": mode}, num_workers=1), Account()
    with RemoteVectorEnv(server.address, num_envs=NUM_ENVS, autoreset_mode=mode) as envs:
        envs.reset(seed=1)
        returns, lengths, over = np.zeros(NUM_ENVS), np.zeros(NUM_ENVS, int), np.zeros(NUM_ENVS, bool)
        for _ in range(STEPS):
            _, rewards, terminations, truncations, _ = envs.step(envs.action_space.sample())
            stepped = ~over
            returns[stepped], lengths[stepped] = returns[stepped] + rewards[stepped], lengths[stepped] + 1
            returns[over], lengths[over] = 0.0, 0
            over = terminations | truncations
            for index in np.flatnonzero(over):
                account.add(returns[index], int(lengths[index]))
            if mode != "NextStep":
                returns[over], lengths[over] = 0.0, 0
                if mode == "Disabled" and over.any():
                    envs.reset(options={"reset_mask": over})
                over = np.zeros(NUM_ENVS, bool)
        assert account.episodes > 30
        assert counted(server) == account.as_counted()


def test_lost_ones_are_counted_apart(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset(seed=1)
        envs.step(np.ones(4, np.int64))
        os.kill(server.statistics()["worker_processes"][0], signal.SIGKILL)
        with pytest.warns(match="lost"):
            *_, truncations, _ = envs.step(np.ones(4, np.int64))
        assert truncations.all()
        told: Any = wait_until(lambda: server.statistics()["lost_episodes"])
        assert told == 4
        for _ in range(12):
            envs.step(np.ones(4, np.int64))  # always to one side: it falls within eleven steps
        assert counted(server)["lost"] == 4
        assert counted(server)["episodes"] == 4
