"""RLlib's PPO with two env runners on a farm, each with a server of its own: a node is lost, and training goes on."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest
from farm.conftest import HEAD, Nodes
from helpers import wait_until

if find_spec("torch") is None:
    pytest.skip("RLlib needs PyTorch", allow_module_level=True)

from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

from remote_gym.ray import Farm

pytestmark = [pytest.mark.timeout(600)]

SOLVED = 450.0  # mean return of an episode, RLlib's own threshold for PPO on CartPole-v1


@pytest.fixture
def farm(three: Nodes) -> Iterator[Farm]:
    with Farm("CartPole-v1", servers="per-node", num_cpus=0.5) as farm:
        yield farm


def ppo(farm: Farm, **training: Any) -> Any:
    return (
        PPOConfig()
        .environment("remote_gym:remote_gym/Remote-v0", env_config=farm.env_config())
        .env_runners(
            num_env_runners=2,
            num_envs_per_env_runner=8,
            num_cpus_per_env_runner=0,
            custom_resources_per_env_runner={f"node:{HEAD}": 0.01},  # what is lost is a server, and no env runner
            gym_env_vectorize_mode="vector_entry_point",
        )
        .learners(num_learners=0)
        .training(**{"train_batch_size_per_learner": 512, "num_epochs": 1, "minibatch_size": 256, **training})
        .debugging(seed=1, log_level="ERROR")
    )


def with_sessions(farm: Farm) -> list[str]:
    return [one.address.partition(":")[0] for one in farm.status() if one.state == "running" and one.envs]


def test_training_goes_on_while_a_node_is_lost(farm: Farm, three: Nodes) -> None:
    algorithm = ppo(farm).build_algo()
    try:
        algorithm.train()
        used = wait_until(lambda: two if len(two := with_sessions(farm)) == 2 else None, 10, "that each has its own")
        three.kill(used[0])
        steps = [algorithm.train()["env_runners"]["num_env_steps_sampled"] for _ in range(4)]
        assert min(steps) > 0
        assert algorithm.env_runner_group.num_healthy_remote_workers() == 2
        assert used[0] not in with_sessions(farm)
    finally:
        algorithm.stop()


@pytest.mark.timeout(3_600)
@pytest.mark.usefixtures("in_full")
def test_solves_cartpole_while_nodes_are_lost(farm: Farm, three: Nodes) -> None:
    """A node is lost every ten iterations, and another one comes."""
    config = ppo(farm, lr=3e-4, num_epochs=6, vf_loss_coeff=0.01, train_batch_size_per_learner=4000, minibatch_size=128)
    config.rl_module(
        model_config=DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="linear", vf_share_layers=True)
    )
    algorithm, told, steps, lost = config.build_algo(), {"episode_return_mean": 0.0}, 0, 0
    try:
        while told["episode_return_mean"] < SOLVED and steps < 500_000:
            if algorithm.iteration % 10 == 5 and (used := with_sessions(farm)):
                three.kill(used[0])
                three.add()
                lost += 1
            told = algorithm.train()["env_runners"]
            steps += int(told["num_env_steps_sampled"])
            print(steps, told["episode_return_mean"], lost, flush=True)
    finally:
        algorithm.stop()
    assert told["episode_return_mean"] >= SOLVED
    assert lost >= 1
