"""rl_games' Runner over remote environments, and over Gymnasium's own in this process: the same, bit for bit."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import Certificates, ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from repository.test_docs import DOCS, follow
from rl_games.common import env_configurations, vecenv
from rl_games.common.algo_observer import DefaultAlgoObserver
from rl_games.common.ivecenv import IVecEnv
from rl_games.torch_runner import Runner
from trainers.rl_games.hosted_for_rl_games import create_environment

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
        return observations.astype(np.float32)

    def step(self, actions: Any) -> Any:
        observations, rewards, terminations, truncations, _ = self.envs.step(actions)
        return (
            observations.astype(np.float32),
            rewards,
            terminations | truncations,
            {"time_outs": truncations & ~terminations},
        )

    def get_env_info(self) -> dict[str, Any]:
        return {
            "observation_space": gym.spaces.Box(-np.inf, np.inf, self.envs.single_observation_space.shape),
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


def locally(make: Callable[[], gym.Env[Any, Any]], folder: Path) -> dict[str, Any]:
    vecenv.register("LOCAL", lambda _name, num_envs, seed: Local(make, num_envs, seed))
    env_configurations.register("local", {"vecenv_type": "LOCAL"})
    return configuration("local", {}, folder)


def continuous(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a policy over real numbers."""
    within = params["params"]
    within["algo"], within["model"] = {"name": "a2c_continuous"}, {"name": "continuous_a2c_logstd"}
    part = {"name": "default"}, {"name": "const_initializer", "val": 0}
    within["network"]["space"] = {
        "continuous": {
            "mu_activation": "None", "sigma_activation": "None", "mu_init": part[0], "sigma_init": part[1],
            "fixed_sigma": True,
        }
    }  # fmt: skip
    within["config"] |= {"bounds_loss_coef": 0.0}
    return params


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
    first = train(locally(make, tmp_path))
    check_equal(train(locally(make, tmp_path)), first)
    ours = train(configuration("REMOTE-GYM", {"url": server.address, "device": device}, tmp_path))
    ours["algo"].vec_env.close()
    check_equal(ours, first)


def test_three_epochs_of_a_continuous_policy(serve: ServerFactory, tmp_path: Path) -> None:
    """Float64 observations, actions within bounds, and episodes that a time limit ends, from which it goes on."""
    server = serve(str(HOSTED), {"actions": "box"})
    register("CONTINUOUS", url=server.address)
    make = functools.partial(create_environment, actions="box")
    check_equal(
        train(continuous(configuration("CONTINUOUS", {}, tmp_path))),
        train(continuous(locally(make, tmp_path))),
    )


def soft(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of soft actor-critic."""
    within = params["params"]
    within["algo"], within["model"] = {"name": "sac"}, {"name": "soft_actor_critic"}
    within["network"] |= {"name": "soft_actor_critic", "space": {"continuous": None}, "log_std_bounds": [-5, 2]}
    within["config"] |= {
        "max_epochs": 60, "num_steps_per_episode": 1, "init_alpha": 1.0, "alpha_lr": 3e-4, "actor_lr": 3e-4,
        "critic_lr": 1e-3, "critic_tau": 5e-3, "batch_size": 32, "learnable_temperature": True,
        "num_updates_per_step": 2, "num_warmup_steps": 10, "replay_buffer_size": 1000,
    }  # fmt: skip
    return params


@pytest.mark.parametrize("device", [None, "cpu"])
def test_soft_actor_critic(serve: ServerFactory, tmp_path: Path, device: str | None) -> None:
    server = serve(str(HOSTED), {"actions": "box"})
    register("SOFT", url=server.address, device=device)
    make = functools.partial(create_environment, actions="box")
    check_equal(
        train(soft(configuration("SOFT", {}, tmp_path))),
        train(soft(locally(make, tmp_path))),
    )


def test_a_central_value_network(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(str(HOSTED), {"observations": "asymmetric"})
    params = configuration("REMOTE-GYM", {"url": server.address}, tmp_path)
    config, network = params["params"]["config"], params["params"]["network"]
    config["central_value_config"] = {
        "minibatch_size": 64, "mini_epochs": 1, "learning_rate": 1e-3, "clip_value": True, "normalize_input": False,
        "truncate_grads": True, "grad_norm": 1.0, "network": {**network, "central_value": True, "separate": False},
    }  # fmt: skip
    register()
    algo = train(params)["algo"]
    assert algo.has_central_value
    assert algo.experience_buffer.tensor_dict["states"].shape == (HORIZON, NUM_ENVS, 5)
    assert algo.experience_buffer.tensor_dict["states"].abs().sum() > 0


@pytest.mark.parametrize("masks", ["info", "method"])
def test_a_policy_with_action_masks(serve: ServerFactory, tmp_path: Path, masks: str) -> None:
    """The environment refuses what it does not allow."""
    server = serve(str(HOSTED), {"kind": "Masked" if masks == "method" else "Hosted", "masks": masks})
    register()
    algo = train(configuration("REMOTE-GYM", {"url": server.address}, tmp_path, use_action_masks=True))["algo"]
    assert algo.experience_buffer.tensor_dict["actions"].max() == 1


@pytest.mark.filterwarnings("ignore:numpy.core is deprecated:DeprecationWarning")  # rl_games' `load_checkpoint`
def test_a_checkpoint_is_played(serve: ServerFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve("CartPole-v1")
    register()
    params = configuration("REMOTE-GYM", {"url": server.address}, tmp_path)
    algo = train(params)["algo"]
    algo.save(str(tmp_path / "saved"))
    for use_vecenv in (False, True):
        params["params"]["config"]["player"] = {"games_num": 4, "use_vecenv": use_vecenv, "deterministic": True}
        runner = Runner(Observer())
        runner.load(params)
        runner.run({"train": False, "play": True, "checkpoint": str(tmp_path / "saved.pth")})
        assert re.search(r"av reward: \d+", capsys.readouterr().out)


def test_scores_are_those_of_last_steps(serve: ServerFactory, tmp_path: Path) -> None:
    server = serve(str(HOSTED))
    register()
    algo = train(configuration("REMOTE-GYM", {"url": server.address}, tmp_path))["algo"]
    scores = algo.algo_observer.game_scores
    assert scores.current_size > 10
    assert 3 <= scores.get_mean() < 9  # as long as its episodes are


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "rl-games.md", tmp_path, monkeypatch)
