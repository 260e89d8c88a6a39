"""rl_games' Runner over remote environments, and over Gymnasium's own in this process: the same, bit for bit."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rl_games.common import env_configurations, vecenv
from rl_games.common.algo_observer import DefaultAlgoObserver
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner

from remote_gym.rl_games import register

EPOCHS, NUM_ENVS, HORIZON = 3, 8, 32
HOSTED = Path(__file__).with_name("hosted_for_rl_games.py")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order; and no setting of a Runner outlives the test."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
    torch.set_float32_matmul_precision("highest")


class Local(IVecEnv):
    """What rl_games would have, had it Gymnasium's vector environments: `SyncVectorEnv` in the mode it expects."""

    def __init__(self, make: Callable[[], gym.Env[Any, Any]], num_envs: int, seed: int) -> None:
        self.envs = SyncVectorEnv([make] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)
        self.first = {"seed": seed}

    def reset(self) -> Any:
        observations, _ = self.envs.reset(**self.first)
        self.first = {}
        return observations

    def step(self, actions: Any) -> Any:
        observations, rewards, terminations, truncations, _ = self.envs.step(actions)
        return observations, rewards, terminations | truncations, {"time_outs": truncations & ~terminations}

    def get_env_info(self) -> dict[str, Any]:
        return {
            "observation_space": self.envs.single_observation_space,
            "action_space": self.envs.single_action_space,
        }


class Observer(DefaultAlgoObserver):
    """Keeps the algorithm and the returns of all episodes."""

    def after_init(self, algo: Any) -> None:
        super().after_init(algo)
        self.returns: list[float] = []

    def process_infos(self, infos: Any, done_indices: Any) -> None:
        super().process_infos(infos, done_indices)
        self.returns += self.algo.current_rewards[done_indices].flatten().tolist()


def configuration(env_name: str, env_config: dict[str, Any], folder: Path, **config: Any) -> dict[str, Any]:
    """Return rl_games' own for CartPole, in short."""
    network = {
        "name": "actor_critic", "separate": True, "space": {"discrete": None},
        "mlp": {
            "units": [32, 32], "activation": "relu", "initializer": {"name": "default"}, "regularizer": {"name": None}
        },
    }  # fmt: skip
    training = {
        "name": "cartpole", "env_name": env_name, "env_config": env_config, "reward_shaper": {"scale_value": 0.1},
        "normalize_advantage": True, "gamma": 0.99, "tau": 0.9, "learning_rate": 2e-4, "score_to_win": 490,
        "grad_norm": 1.0, "entropy_coef": 0.01, "truncate_grads": True, "e_clip": 0.2, "clip_value": True,
        "num_actors": NUM_ENVS, "horizon_length": HORIZON, "minibatch_size": 64, "mini_epochs": 2, "critic_coef": 1,
        "lr_schedule": None, "normalize_input": False, "max_epochs": EPOCHS, "device": "cpu", "device_name": "cpu",
        "train_dir": str(folder), "torch_compile": False, "print_stats": False, "save_best_after": 10_000, **config,
    }  # fmt: skip
    algo, model = {"name": "a2c_discrete"}, {"name": "discrete_a2c"}
    return {
        "params": {
            "seed": 5, "torch_threads": 1, "algo": algo, "model": model, "network": network, "config": training
        }
    }  # fmt: skip


def train(params: dict[str, Any]) -> dict[str, Any]:
    """Train, and return the returns of all episodes and the sum of parameters."""
    observer = Observer()
    runner = Runner(observer)
    runner.load(params)
    runner.run({"train": True, "play": False})
    parameters = [parameter.detach().double().sum() for parameter in observer.algo.model.parameters()]
    assert observer.algo.epoch_num >= EPOCHS
    return {"returns": observer.returns, "sum": float(sum(parameters)), "algo": observer.algo}


def train_locally(make: Callable[[], gym.Env[Any, Any]], folder: Path, **config: Any) -> dict[str, Any]:
    vecenv.register("LOCAL", lambda _name, num_envs, seed: Local(make, num_envs, seed))
    env_configurations.register("local", {"vecenv_type": "LOCAL"})
    return train(configuration("local", {}, folder, **config))


def check_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert len(ours["returns"]) > 10
    assert ours["returns"] == theirs["returns"]
    assert ours["sum"] == theirs["sum"]


@pytest.mark.parametrize("device", [None, "cpu"])
def test_three_epochs_as_over_sync_vector_env(
    serve: ServerFactory, certificates: Certificates, tmp_path: Path, device: str | None
) -> None:
    server = serve("CartPole-v1", server_credentials_paths=certificates.server_mutual)
    register(client_credentials_paths=certificates.client_mutual)
    make = functools.partial(gym.make, "CartPole-v1")
    first = train_locally(make, tmp_path)
    check_equal(train_locally(make, tmp_path), first)
    ours = train(configuration("REMOTE-GYM", {"url": server.address, "device": device}, tmp_path))
    ours["algo"].vec_env.close()
    check_equal(ours, first)
