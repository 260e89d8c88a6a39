"""d3rlpy on what was recorded of remote environments, and evaluated in one: as with local ones, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import SyncVectorEnv
from repository.test_docs import DOCS, follow

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.recording import to_minari

d3rlpy = pytest.importorskip("d3rlpy")

# Of Minari: whatever says nothing of author, algorithm, ...
pytestmark = pytest.mark.filterwarnings("ignore:.* is set to None:UserWarning")


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Datasets and logs in a folder of the test's own; sums in one order."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def offline(episodes: Any) -> Any:
    return d3rlpy.dataset.MDPDataset(
        observations=np.concatenate([episode.observations[:-1] for episode in episodes]),
        actions=np.concatenate([episode.actions for episode in episodes]),
        rewards=np.concatenate([episode.rewards for episode in episodes]).astype(np.float32),
        terminals=np.concatenate([episode.terminations for episode in episodes]).astype(np.float32),
        timeouts=np.concatenate([episode.truncations for episode in episodes]).astype(np.float32),
    )


def trained(algorithm: Any, envs: Any, env: Any, name: str) -> tuple[Any, list[Any], list[Any]]:
    """Record, train and evaluate; return the dataset, what the evaluations gave, and the parameters."""
    recorded = list(to_minari(envs, name, steps=800, seed=5))
    d3rlpy.seed(2)
    learner = algorithm.create(device=False)
    env.reset(seed=9)
    results = learner.fit(
        offline(recorded),
        n_steps=90,
        n_steps_per_epoch=30,
        evaluators={"environment": d3rlpy.metrics.EnvironmentEvaluator(env, n_trials=3)},
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        show_progress=False,
    )
    told = [
        (epoch, metrics.get("loss", metrics.get("critic_loss")), metrics["environment"]) for epoch, metrics in results
    ]
    networks = [one for one in vars(learner.impl.modules).values() if isinstance(one, torch.nn.Module)]
    weights = [value.numpy() for network in networks for value in network.state_dict().values()]
    return recorded, told, weights


@pytest.mark.parametrize(
    ("id", "algorithm"),
    [
        ("CartPole-v1", d3rlpy.algos.DQNConfig(batch_size=32)),
        ("Pendulum-v1", d3rlpy.algos.TD3Config(batch_size=32)),
    ],
)
def test_training_and_evaluation_are_the_same(
    serve: ServerFactory, certificates: Certificates, id: str, algorithm: Any
) -> None:
    server = serve(id, server_credentials_paths=certificates.server_mutual)
    options = {"client_credentials_paths": certificates.client_mutual}
    runs = []
    for envs, env in [
        (SyncVectorEnv([lambda: gym.make(id)] * 4), gym.make(id)),
        (SyncVectorEnv([lambda: gym.make(id)] * 4), gym.make(id)),
        (RemoteVectorEnv(server.address, num_envs=4, **options), RemoteEnvironment(server.address, **options)),
    ]:
        runs.append(trained(algorithm, envs, env, f"run/{len(runs)}-v0"))
        envs.close()
        env.close()
    (local, local_told, local_weights), *others = runs
    for recorded, told, weights in others:
        assert told == local_told
        for ours, theirs in zip(recorded, local, strict=True):
            for name in ("observations", "actions", "rewards", "terminations", "truncations"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
        assert len(weights) == len(local_weights) > 4
        for ours, theirs in zip(weights, local_weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_online(serve: ServerFactory) -> None:
    """The same loss with the remote and the local environment."""
    server, losses = serve("CartPole-v1"), []
    for env in (RemoteEnvironment(server.address), gym.make("CartPole-v1")):
        d3rlpy.seed(3)
        d3rlpy.envs.seed_env(env, 4)
        env.action_space.seed(5)
        dqn = d3rlpy.algos.DQNConfig(batch_size=16).create(device=False)
        buffer = d3rlpy.dataset.create_fifo_replay_buffer(500, env=env)
        dqn.fit_online(
            env,
            buffer,
            n_steps=150,
            n_steps_per_epoch=50,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
            show_progress=False,
        )
        losses.append([float(value.double().sum()) for value in dqn.impl.modules.q_funcs.state_dict().values()])
        env.close()
    assert losses[0] == losses[1]


def test_why_the_page_does_not_use_get_minari(serve: ServerFactory) -> None:
    """It keeps an observation too many of each episode. Should a newer d3rlpy not, the page has a paragraph less."""
    server = serve("CartPole-v1")
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        recorded = to_minari(envs, "get/minari-v0", episodes=3, seed=1)
    theirs, env = d3rlpy.datasets.get_minari("get/minari-v0")
    assert env.spec.id == "CartPole-v1"
    ours = offline(list(recorded))
    np.testing.assert_array_equal(theirs.episodes[0].observations, ours.episodes[0].observations)
    np.testing.assert_array_equal(theirs.episodes[1].actions, ours.episodes[1].actions)
    assert not np.array_equal(theirs.episodes[1].observations, ours.episodes[1].observations)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "d3rlpy.md", tmp_path, monkeypatch)
