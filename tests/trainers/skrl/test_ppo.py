"""skrl's PPO over a `RemoteVectorEnv`, and over Gymnasium's own vector environments: the same, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from repository.test_docs import DOCS, follow
from skrl.agents.torch.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.torch import wrap_env
from skrl.envs.wrappers.torch.gymnasium_envs import GymnasiumWrapper
from skrl.memories.torch import RandomMemory
from skrl.models.torch import CategoricalMixin, DeterministicMixin, GaussianMixin, Model
from skrl.trainers.torch import SequentialTrainer
from skrl.utils import set_seed
from torch import nn

from remote_gym import RemoteEnvironment, RemoteVectorEnv

NUM_ENVS, ROLLOUTS, ITERATIONS = 8, 32, 3
STAYS = {"close_environment_at_exit": False}  # else it is closed when everything else is gone
MODES = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def remote(serve: ServerFactory, certificates: Certificates) -> Callable[..., Any]:
    """Make remote environments of an id, over mutual TLS."""

    def make(kind: Callable[..., Any], id: str, kwargs: Any = None, **options: Any) -> Any:
        server = serve(id, kwargs, server_credentials_paths=certificates.server_mutual)
        return kind(server.address, client_credentials_paths=certificates.client_mutual, **options)

    return make


class Categorical(CategoricalMixin, Model):
    def __init__(self, observation_space: Any, action_space: Any) -> None:
        Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
        CategoricalMixin.__init__(self, unnormalized_log_prob=True)
        self.net = nn.Sequential(nn.Linear(self.num_observations, 32), nn.Tanh(), nn.Linear(32, self.num_actions))

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["observations"]), {}


class Gaussian(GaussianMixin, Model):
    def __init__(self, observation_space: Any, action_space: Any) -> None:
        Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
        GaussianMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(self.num_observations, 32), nn.Tanh(), nn.Linear(32, self.num_actions))
        self.log_std = nn.Parameter(torch.zeros(self.num_actions))

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Model):
    def __init__(self, observation_space: Any, action_space: Any) -> None:
        Model.__init__(self, observation_space=observation_space, action_space=action_space, device="cpu")
        DeterministicMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(self.num_observations, 32), nn.Tanh(), nn.Linear(32, 1))

    def compute(self, inputs: Any, role: str = "") -> Any:
        return self.net(inputs["observations"]), {}


class Recording(PPO):
    """PPO that keeps all it was told."""

    def record_transition(self, **told: Any) -> None:
        self.told = [*getattr(self, "told", []), copy.deepcopy({key: told[key] for key in TOLD})]
        super().record_transition(**told)


TOLD = ("observations", "actions", "rewards", "next_observations", "terminated", "truncated")


def train(envs: VectorEnv | gym.Env[Any, Any], policy: type[Model] = Categorical, **config: Any) -> dict[str, Any]:
    """Train for some iterations, and return all transitions, the episodes' returns and the sum of parameters."""
    set_seed(7)
    env = wrap_env(envs, verbose=False)
    assert type(env) is GymnasiumWrapper
    models = {"policy": policy(env.observation_space, env.action_space)}
    models["value"] = Value(env.observation_space, env.action_space)
    memory = RandomMemory(memory_size=ROLLOUTS, num_envs=env.num_envs, device="cpu")
    cfg = PPO_CFG(rollouts=ROLLOUTS, learning_epochs=2, mini_batches=4, **config)
    cfg.experiment.write_interval = cfg.experiment.checkpoint_interval = 0
    agent = Recording(
        models=models, memory=memory, cfg=cfg, observation_space=env.observation_space,
        action_space=env.action_space, device="cpu",
    )  # fmt: skip
    steps = {"timesteps": ROLLOUTS * ITERATIONS, "headless": True, "disable_progressbar": True, **STAYS}
    SequentialTrainer(cfg=steps, env=env, agents=agent).train()
    env.close()
    told = {key: torch.stack([one[key] for one in agent.told]).numpy() for key in TOLD}
    parameters = [parameter.detach().double().sum() for model in models.values() for parameter in model.parameters()]
    return {**told, "returns": returns_of(told), "sum": float(sum(parameters))}


def returns_of(told: dict[str, Any]) -> list[float]:
    """Return the returns of all episodes that have ended, in order."""
    running, returns = np.zeros(told["rewards"].shape[1]), []
    for rewards, ended in zip(told["rewards"], told["terminated"] | told["truncated"], strict=True):
        running += rewards[:, 0]
        returns += running[ended[:, 0]].tolist()
        running[ended[:, 0]] = 0.0
    return returns


def check_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        np.testing.assert_array_equal(value, theirs[key], err_msg=key)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_three_iterations_as_over_sync_vector_env(remote: Callable[..., Any], mode: AutoresetMode) -> None:
    def local() -> dict[str, Any]:
        return train(SyncVectorEnv([lambda: gym.make("CartPole-v1")] * NUM_ENVS, autoreset_mode=mode))

    first = local()
    check_equal(first, local())  # what repeats locally is compared bit for bit
    check_equal(first, train(remote(RemoteVectorEnv, "CartPole-v1", num_envs=NUM_ENVS, autoreset_mode=mode)))
    assert len(first["returns"]) > NUM_ENVS


def test_continuous_actions_and_time_limits(remote: Callable[..., Any]) -> None:
    options = {"max_episode_steps": 20}
    local = [lambda: gym.make("Pendulum-v1", **options)] * NUM_ENVS
    theirs = train(SyncVectorEnv(local), Gaussian, time_limit_bootstrap=True)
    envs = remote(RemoteVectorEnv, "Pendulum-v1", options, num_envs=NUM_ENVS)
    check_equal(train(envs, Gaussian, time_limit_bootstrap=True), theirs)
    assert theirs["truncated"].sum() == ITERATIONS * ROLLOUTS // 21 * NUM_ENVS


def test_one_remote_environment(remote: Callable[..., Any]) -> None:
    theirs = train(gym.make("CartPole-v1"))
    check_equal(train(remote(RemoteEnvironment, "CartPole-v1")), theirs)
    assert theirs["returns"]


def test_frames(serve: ServerFactory) -> None:
    """`render` is asked of each environment."""
    server = serve("CartPole-v1")
    env = wrap_env(RemoteVectorEnv(server.address, num_envs=2, render_mode="rgb_array"), verbose=False)
    env.reset()
    assert [frame.shape for frame in env.render()] == [(400, 600, 3)] * 2
    env.close()


def test_rows_that_only_reset_are_among_the_transitions(remote: Callable[..., Any]) -> None:
    """What the page says: skrl leaves none out, so a NextStep batch has one for each episode, a SameStep batch none."""
    for mode, expected in zip(MODES, (True, False), strict=True):
        told = train(remote(RemoteVectorEnv, "CartPole-v1", num_envs=NUM_ENVS, autoreset_mode=mode))
        resets = (told["rewards"] == 0).any()  # every step of a CartPole is rewarded with 1
        assert resets == expected


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "skrl.md", tmp_path, monkeypatch)
