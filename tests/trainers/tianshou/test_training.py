"""Collecting and training with Tianshou over remote environments, and over its own: the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates, ServerFactory
from repository.test_docs import DOCS, follow
from tianshou.algorithm import DQN, PPO
from tianshou.algorithm.modelfree.dqn import DiscreteQLearningPolicy
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import AsyncCollector, Batch, Collector, CollectStats, VectorReplayBuffer
from tianshou.env import BaseVectorEnv, DummyVectorEnv, SubprocVectorEnv
from tianshou.trainer import OffPolicyTrainerParams, OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic

from remote_gym.tianshou import VectorEnv

NUM_ENVS = 8

pytestmark = [
    # Its subprocesses are forked while PyTorch and gRPC have threads; they only step.
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    # Advice of its collectors, which these tests do not follow.
    pytest.mark.filterwarnings("ignore:n_episode=.* should be larger:UserWarning"),
    pytest.mark.filterwarnings("ignore:Using async setting may collect extra transitions:UserWarning"),
]

Made = Callable[[str, int], BaseVectorEnv]


def dummy(id: str, num_envs: int) -> BaseVectorEnv:
    return DummyVectorEnv([lambda: gym.make(id)] * num_envs)


def subproc(id: str, num_envs: int) -> BaseVectorEnv:
    return SubprocVectorEnv([lambda: gym.make(id)] * num_envs)


@pytest.fixture
def remote(serve: ServerFactory, certificates: Certificates) -> Made:
    """Make remote environments of an id, over mutual TLS."""

    def make(id: str, num_envs: int, **options: Any) -> BaseVectorEnv:
        server = serve(id, server_credentials_paths=certificates.server_mutual)
        paths = certificates.client_mutual
        return VectorEnv(server.address, num_envs=num_envs, client_credentials_paths=paths, **options)

    return make


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TalkingPolicy(DiscreteActorPolicy):
    """Gives a ``policy`` and a ``state``, without which an `AsyncCollector` fails, over local environments too."""

    def forward(self, batch: Any, state: Any = None, **kwargs: Any) -> Any:
        result = super().forward(batch, None, **kwargs)
        result.policy = Batch(logits=result.logits.detach())
        result.state = np.zeros((len(batch.obs), 1))
        return result


def policy_of(env: gym.Env[Any, Any], kind: type[DiscreteActorPolicy] = DiscreteActorPolicy) -> DiscreteActorPolicy:
    net = Net(state_shape=env.observation_space.shape, hidden_sizes=[32])
    actor = DiscreteActor(preprocess_net=net, action_shape=env.action_space.n)
    return kind(actor=actor, dist_fn=torch.distributions.Categorical, action_space=env.action_space)


def check_same(ours: Any, theirs: Any, where: str) -> None:
    """Equal to the last bit, dtypes included, whatever a buffer holds."""
    if isinstance(theirs, Batch):
        assert set(ours.keys()) == set(theirs.keys()), where
        for key in theirs.keys():  # noqa: SIM118 - it is no mapping
            check_same(ours[key], theirs[key], f"{where}.{key}")
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=where)
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype, where


def collected(make: Made, id: str, random: bool, **collections: int) -> Any:
    """Collect three times, and return the buffer and what was said of each time."""
    np.random.seed(3)
    torch.manual_seed(3)
    envs = make(id, NUM_ENVS)
    envs.seed(3)
    env = gym.make(id)
    collector = Collector[CollectStats](policy_of(env), envs, VectorReplayBuffer(4_000, NUM_ENVS))
    collector.reset()
    said = [collector.collect(random=random, **collections) for _ in range(3)]
    buffer = collector.buffer[:]
    collector.close()
    env.close()
    return buffer, [(one.returns.tolist(), one.lens.tolist(), one.n_collected_steps) for one in said]


# What FrozenLake observes, numbers without axes, no network takes as it is.
@pytest.mark.parametrize("id, random", [("CartPole-v1", False), ("CartPole-v1", True), ("FrozenLake-v1", True)])
@pytest.mark.parametrize("collections", [{"n_step": 200}, {"n_episode": 21}], ids=["steps", "episodes"])
def test_buffers(remote: Made, id: str, random: bool, collections: dict[str, int]) -> None:
    theirs, said = collected(dummy, id, random, **collections)
    check_same(collected(dummy, id, random, **collections)[0], theirs, "local and local")
    ours = collected(remote, id, random, **collections)
    check_same(ours[0], theirs, "remote and local")
    assert ours[1] == said
    assert len(theirs) >= 300
    assert sum(len(returns) for returns, _, _ in said) > NUM_ENVS


def test_as_in_subprocesses(remote: Made) -> None:
    theirs, said = collected(subproc, "CartPole-v1", False, n_step=200)
    ours = collected(remote, "CartPole-v1", False, n_step=200)
    check_same(ours[0], theirs, "remote and subprocesses")
    assert ours[1] == said


def test_fewer_episodes_than_environments(remote: Made) -> None:
    theirs, said = collected(dummy, "CartPole-v1", True, n_episode=3)
    ours = collected(remote, "CartPole-v1", True, n_episode=3)
    check_same(ours[0], theirs, "remote and local")
    assert ours[1] == said


def ppo(make: Made) -> tuple[float, list[float]]:
    """Train three iterations of PPO; return the sum of parameters and all episode returns."""
    np.random.seed(5)
    torch.manual_seed(5)
    env = gym.make("CartPole-v1")
    envs, tests = make("CartPole-v1", NUM_ENVS), make("CartPole-v1", 4)
    envs.seed(5)
    tests.seed(99)
    policy = policy_of(env)
    critic = DiscreteCritic(preprocess_net=Net(state_shape=env.observation_space.shape, hidden_sizes=[32]))
    algorithm = PPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-3))
    collector = Collector[CollectStats](algorithm, envs, VectorReplayBuffer(4_000, NUM_ENVS))
    returns: list[float] = []
    collector.set_on_episode_done_hook(lambda episode: returns.append(float(episode.rew.sum())))
    result = algorithm.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            test_collector=Collector[CollectStats](algorithm, tests),
            max_epochs=1,
            epoch_num_steps=3 * 32 * NUM_ENVS,
            collection_step_num_env_steps=32 * NUM_ENVS,
            update_step_num_repetitions=4,
            test_step_num_episodes=4,
            batch_size=64,
            verbose=False,
            show_progress=False,
        )
    )
    assert result.update_step == 3
    return finished(algorithm, [*returns, float(result.best_score)], env, envs, tests)


def dqn(make: Made) -> tuple[float, list[float]]:
    """Train three iterations of DQN; see `ppo`."""
    np.random.seed(5)
    torch.manual_seed(5)
    env = gym.make("CartPole-v1")
    envs, tests = make("CartPole-v1", NUM_ENVS), make("CartPole-v1", 4)
    envs.seed(5)
    tests.seed(99)
    net = Net(state_shape=env.observation_space.shape, action_shape=env.action_space.n, hidden_sizes=[32])
    policy = DiscreteQLearningPolicy(model=net, action_space=env.action_space, eps_training=0.3)
    algorithm = DQN(policy=policy, optim=AdamOptimizerFactory(lr=1e-3), target_update_freq=10)
    buffer = VectorReplayBuffer(4_000, NUM_ENVS)
    collector = Collector[CollectStats](algorithm, envs, buffer, exploration_noise=True)
    returns: list[float] = []
    collector.set_on_episode_done_hook(lambda episode: returns.append(float(episode.rew.sum())))
    collector.reset()
    collector.collect(n_step=16 * NUM_ENVS, random=True)
    algorithm.run_training(
        OffPolicyTrainerParams(
            training_collector=collector,
            test_collector=Collector[CollectStats](algorithm, tests),
            max_epochs=1,
            epoch_num_steps=3 * 16 * NUM_ENVS,
            collection_step_num_env_steps=16 * NUM_ENVS,
            update_step_num_gradient_steps_per_sample=0.25,
            test_step_num_episodes=4,
            batch_size=32,
            verbose=False,
            show_progress=False,
        )
    )
    return finished(algorithm, returns, env, envs, tests)


def finished(algorithm: Any, returns: list[float], *envs: Any) -> tuple[float, list[float]]:
    for one in envs:
        one.close()
    return float(sum(parameter.detach().double().sum() for parameter in algorithm.parameters())), returns


@pytest.mark.parametrize("train", [ppo, dqn])
def test_three_iterations(remote: Made, train: Callable[[Made], tuple[float, list[float]]]) -> None:
    first = train(dummy)
    assert train(dummy) == first  # what repeats locally is compared bit for bit
    assert train(remote) == first
    assert len(first[1]) > NUM_ENVS


def test_an_asynchronous_collector(remote: Callable[..., BaseVectorEnv]) -> None:
    """Which environment is ready first is chance; each one's episodes in the buffer are whole all the same."""
    envs = remote("CartPole-v1", NUM_ENVS, wait_num=3)
    env = gym.make("CartPole-v1")
    collector = AsyncCollector(policy_of(env, TalkingPolicy), envs, VectorReplayBuffer(8_000, NUM_ENVS))
    collector.reset()
    for _ in range(3):
        assert collector.collect(n_step=200).n_collected_steps >= 200
    collector.reset(reset_buffer=False)  # while some are still stepping
    assert collector.collect(n_episode=10).n_collected_episodes >= 10
    for index, buffer in enumerate(collector.buffer.buffers):
        rows = buffer[:]
        assert (rows.info.env_id == index).all()
        follows = ~rows.done[:-1] & (rows.obs_next[:-1] != 0).any(1)
        same = (rows.obs[1:] == rows.obs_next[:-1]).all(1)
        assert (same | ~follows).sum() >= len(rows) - 2  # but where the collector was reset
    collector.close()
    env.close()


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "tianshou.md", tmp_path, monkeypatch)
