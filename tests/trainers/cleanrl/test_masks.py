"""Which rows of a NextStep batch only reset, and that `exploration/train_ppo.py` learns from none of them.

The reference is made of whole episodes, of one local environment each, which know nothing of batches and resets.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from repository.test_docs import DOCS, ROOT, follow

from remote_gym import RemoteVectorEnv

pytest.importorskip("tqdm", reason="exploration/train_ppo.py shows its progress by it")
pytest.importorskip("matplotlib", reason="exploration/train_ppo.py draws its curve by it")

ENVIRONMENT = '''
import gymnasium as gym
import numpy as np


class Walk(gym.Env):
    """Observes [episode, step, seed]; rewards by step and action; some episodes end by termination, some by time."""

    observation_space = gym.spaces.Box(-1, 1_000_000, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)
    episode = 0

    def _observe(self):
        return np.array([self.episode, self.steps, self.first_seed], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        if seed is not None:
            self.first_seed = seed
        self.episode += 1
        self.steps = 0
        self.limit = int(self.np_random.integers(1, 9))  # an episode may have a single step
        return self._observe(), {}

    def step(self, action):
        self.steps += 1
        over = self.steps >= self.limit
        by_time = self.episode % 3 == 0
        return self._observe(), 0.25 * self.steps + int(action), over and not by_time, over and by_time, {}


def create_environment():
    return Walk()
'''
NUM_ENVS, SEED = 6, 11


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def train_ppo() -> Any:
    spec = importlib.util.spec_from_file_location("train_ppo", ROOT / "exploration" / "train_ppo.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["train_ppo"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["train_ppo"]


@pytest.fixture
def remote(serve: ServerFactory, certificates: Certificates, tmp_path: Path) -> RemoteVectorEnv:
    path = tmp_path / "walk.py"
    path.write_text(ENVIRONMENT)
    server = serve(str(path), server_credentials_paths=certificates.server_mutual)
    return RemoteVectorEnv(server.address, num_envs=NUM_ENVS, client_credentials_paths=certificates.client_mutual)


def local_walk() -> Any:
    namespace: dict[str, Any] = {}
    exec(ENVIRONMENT, namespace)
    return namespace["create_environment"]()


def test_the_rows_that_are_left_in_are_the_transitions_of_whole_episodes(
    train_ppo: Any, remote: RemoteVectorEnv
) -> None:
    """Every one of them, in order, and no other; and the advantages are those of the episodes by themselves."""
    trainer = train_ppo.Trainer(remote, SEED, max_steps=10_000)
    trainer.collect()
    rollout = trainer.rollout
    with torch.no_grad():
        values = trainer.agent.value(rollout.observations)
        advantages = rollout.advantages(values)
    for index in range(NUM_ENVS):
        kept = np.flatnonzero(~rollout.is_reset[:, index].numpy())
        assert 0 < rollout.is_reset[:, index].sum() < train_ppo.ROLLOUT_STEPS
        env = local_walk()
        observation, _ = env.reset(seed=SEED + index)
        episode: list[int] = []
        for step in kept:
            np.testing.assert_array_equal(rollout.observations[step, index], observation)
            observation, reward, terminated, truncated, _ = env.step(int(rollout.actions[step, index]))
            assert float(rollout.rewards[step, index]) == reward
            assert bool(rollout.terminated[step, index]) == terminated
            assert bool(rollout.done[step, index]) == (terminated or truncated)
            np.testing.assert_array_equal(rollout.observations[step + 1, index], observation)
            episode.append(step)
            if terminated or truncated or step == kept[-1]:
                with torch.no_grad():
                    last = 0.0 if terminated else trainer.agent.value(torch.as_tensor(observation))
                check_advantages(train_ppo, rollout, values, advantages, index, episode, last)
                episode = []
            if terminated or truncated:
                observation, _ = env.reset()
    remote.close()


def check_advantages(
    train_ppo: Any, rollout: Any, values: Any, advantages: Any, index: int, episode: list[int], last: Any
) -> None:
    """Compare with generalized advantage estimates of one episode, or of its part so far, by the definition."""
    following, next_value = 0.0, last
    for step in reversed(episode):
        delta = rollout.rewards[step, index] + train_ppo.GAMMA * next_value - values[step, index]
        following = delta + train_ppo.GAMMA * train_ppo.GAE_LAMBDA * following
        torch.testing.assert_close(advantages[step, index], following, rtol=1e-5, atol=1e-6)
        next_value = values[step, index]


def test_the_update_reads_no_row_that_only_resets(train_ppo: Any, remote: RemoteVectorEnv) -> None:
    """Whatever stands in such a row, the parameters come out the same."""
    sums = []
    for rubbish in (0.0, 1e6):
        trainer = train_ppo.Trainer(
            SyncVectorEnv([local_walk] * NUM_ENVS) if rubbish else remote, SEED, max_steps=10_000
        )
        trainer.collect()
        rows = trainer.rollout.is_reset
        assert rows.any()
        trainer.rollout.rewards[rows] += rubbish
        trainer.rollout.log_probs[rows] -= rubbish
        trainer.rollout.actions[rows] = 1 - trainer.rollout.actions[rows]
        trainer.update()
        sums.append(float(sum(parameter.detach().double().sum() for parameter in trainer.agent.parameters())))
        trainer.envs.close()
    assert sums[0] == sums[1]


def test_three_iterations_as_over_sync_vector_env(
    train_ppo: Any, serve: ServerFactory, certificates: Certificates
) -> None:
    server = serve("CartPole-v1", server_credentials_paths=certificates.server_mutual)
    paths = certificates.client_mutual

    def trained(envs: Any) -> tuple[float, list[float]]:
        trainer = train_ppo.Trainer(envs, SEED, max_steps=10_000)
        for _ in range(3):
            trainer.collect()
            trainer.update()
        envs.close()
        total = sum(parameter.detach().double().sum() for parameter in trainer.agent.parameters())
        return float(total), trainer.returns

    local = trained(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 16))
    assert trained(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 16)) == local
    assert trained(RemoteVectorEnv(server.address, num_envs=16, client_credentials_paths=paths)) == local
    assert len(local[1]) > 16


def test_the_rows_that_the_page_leaves_out(remote: RemoteVectorEnv) -> None:
    """`dones` of `ppo.py`: 1 where the step before has ended an episode; those rows, and no others, only reset."""
    assert remote.autoreset_mode is AutoresetMode.NEXT_STEP
    observations, _ = remote.reset(seed=SEED)
    next_done = np.zeros(NUM_ENVS, np.bool_)
    resets = 0
    for _ in range(200):
        dones, before = next_done, observations
        observations, rewards, terminations, truncations, _ = remote.step(np.ones(NUM_ENVS, np.int64))
        next_done = terminations | truncations
        goes_on = (observations[:, 0] == before[:, 0]) & (observations[:, 1] == before[:, 1] + 1)
        np.testing.assert_array_equal(goes_on, ~dones)
        np.testing.assert_array_equal(rewards == 0, dones)
        resets += int(dones.sum())
    assert resets > 100
    remote.close()


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "cleanrl.md", tmp_path, monkeypatch)
