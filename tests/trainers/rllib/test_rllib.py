"""RLlib's PPO over `RemoteVectorEnv`s, one in each env runner, and over its own vectorisation: the same, bit for bit.

A cluster of one node is started for these tests, on an address of the loopback; its env runners are processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from conftest import Certificates, ServerFactory
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env
from repository.test_docs import DOCS, follow
from trainers.rllib.in_ray import Runner, log_samples

from remote_gym import EnvironmentRaised, RemoteVectorEnv
from remote_gym.errors import ConnectError, RemoteGymError

pytestmark = pytest.mark.timeout(600)  # Ray starts many processes, each of which imports PyTorch

REMOTE = "remote_gym:remote_gym/Remote-v0"
RUNNERS, NUM_ENVS, ITERATIONS = 2, 8, 3
HOSTED = str(Path(__file__).with_name("hosted_for_rllib.py"))
TESTS = Path(__file__).parents[2]
CURVE = DOCS / "images" / "trainers" / "rllib.png"
SOLVED = 450.0  # mean return of an episode, RLlib's own threshold for PPO on CartPole-v1


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One node with a processor for each env runner; one thread each, so that sums are in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    ray.init(
        num_cpus=RUNNERS,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)}},
        _node_ip_address="127.0.0.2",
    )
    yield
    ray.shutdown()
    torch.set_num_threads(before)


@pytest.fixture
def hosted(serve: ServerFactory, certificates: Certificates) -> Callable[..., dict[str, Any]]:
    """Serve over mutual TLS; what is returned is the `env_config`."""

    def make(entrypoint: str, entrypoint_kwargs: Any = None, **options: Any) -> dict[str, Any]:
        server = serve(entrypoint, entrypoint_kwargs, server_credentials_paths=certificates.server_mutual, **options)
        make.server = server  # type: ignore[attr-defined]
        paths = [str(path) for path in certificates.client_mutual]
        return {"url": server.address, "client_credentials_paths": paths}

    return make


def ppo(env: str, mode: str, env_config: Any = None, runners: int = RUNNERS, **faults: Any) -> Any:
    """Return a configuration; without `runners` of their own processes the algorithm samples itself."""
    return (
        PPOConfig()
        .environment(env, env_config=env_config or {})
        .env_runners(num_env_runners=runners, num_envs_per_env_runner=NUM_ENVS, gym_env_vectorize_mode=mode)
        .training(train_batch_size_per_learner=1024, num_epochs=2, minibatch_size=256)
        .learners(num_learners=0)
        .callbacks(on_sample_end=log_samples)
        .fault_tolerance(**faults)
        .debugging(seed=1, log_level="ERROR")
    )


def trained(config: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return what each iteration has sampled, and the parameters in the end."""
    torch.manual_seed(0)
    algorithm = config.build_algo()
    try:
        results = []
        for _ in range(ITERATIONS):
            told = algorithm.train()["env_runners"]
            names = ("episode_return_mean", "episode_return_min", "episode_return_max", "episode_len_mean")
            counts = ("num_episodes", "num_env_steps_sampled")
            results.append(([float(told[name]) for name in (*names, *counts)], sorted(told["digests"])))
        weights = {name: value.numpy() for name, value in algorithm.get_module().state_dict().items()}
    finally:
        algorithm.stop()
    return results, weights


def test_training_is_the_same(hosted: Any) -> None:
    """Local against local, then against remote: every sample of three iterations, and every parameter."""
    local, repeated = trained(ppo("CartPole-v1", "sync")), trained(ppo("CartPole-v1", "sync"))
    remote = trained(ppo(REMOTE, "vector_entry_point", hosted("CartPole-v1")))
    for other in (repeated, remote):
        assert other[0] == local[0]
        assert other[1].keys() == local[1].keys()
        for name, weight in local[1].items():
            np.testing.assert_array_equal(other[1][name], weight, err_msg=name)
    sums = [sum(float(weight.sum(dtype=np.float64)) for weight in weights.values()) for _, weights in (local, remote)]
    assert sums[0] == sums[1] != 0
    assert hosted.server.statistics()["opened_sessions"] == RUNNERS  # one for the 8 environments of each
    assert hosted.server.statistics()["sessions"] == 0


def test_an_environment_that_raises_ends_training(hosted: Any) -> None:
    """What it has raised is the cause. (An env runner in a process of its own ends with it, and Ray says only that.)"""
    with pytest.raises(RuntimeError) as raised:
        trained(ppo(REMOTE, "vector_entry_point", hosted(HOSTED), runners=0))
    assert isinstance(raised.value.__cause__, EnvironmentRaised)
    assert isinstance(raised.value.__cause__, ZeroDivisionError)


def test_an_environment_that_raises_is_made_anew(hosted: Any) -> None:
    """With RLlib's own recovery: the vector environment is closed, and another one dialled."""
    config = ppo(REMOTE, "vector_entry_point", hosted(HOSTED), runners=0, restart_failed_sub_environments=True)
    results, _ = trained(config)
    assert len(results) == ITERATIONS
    assert hosted.server.statistics()["opened_sessions"] > 1


@pytest.mark.filterwarnings("ignore:.*were lost:UserWarning")
def test_a_worker_that_dies_truncates_its_episodes(hosted: Any) -> None:
    """Nothing of RLlib's is needed: the environments come back, and the env runner goes on."""
    config = hosted(HOSTED, {"kills": True}, restart_budget=None, num_workers=1)
    results, _ = trained(ppo(REMOTE, "vector_entry_point", config, runners=0))
    assert len(results) == ITERATIONS
    statistics = hosted.server.statistics()
    assert statistics["worker_restarts"] >= 1
    assert statistics["opened_sessions"] == 1


def test_a_registered_function(hosted: Any) -> None:
    """As on the page; it is asked for the vector environment, with the number, and closes what it has made."""
    register_env("my_farm", lambda context: RemoteVectorEnv(**context))
    remote = trained(ppo("my_farm", "vector_entry_point", hosted("CartPole-v1"), runners=0))
    local = trained(ppo("CartPole-v1", "sync", runners=0))
    assert remote[0] == local[0]
    assert hosted.server.statistics()["opened_sessions"] == 1


def actor(envs: RemoteVectorEnv) -> Any:
    return ray.remote(num_cpus=0)(Runner).remote(envs)


def test_environments_given_to_an_actor(hosted: Any) -> None:
    """They are pickled as their arguments: the copy dials from there."""
    with RemoteVectorEnv(num_envs=4, **hosted("CartPole-v1")) as envs:
        runner = actor(envs)
        remote = ray.get(runner.returns.remote(3, 50))
        local = Runner(envs).returns(3, 50)
        np.testing.assert_array_equal(remote, local)
        assert hosted.server.statistics()["envs"] == 8
        ray.get(runner.close.remote())
        ray.kill(runner)


def error_of(call: Callable[[], Any]) -> Exception:
    with pytest.raises(RemoteGymError) as raised:
        call()
    return raised.value


def test_errors_cross_ray(hosted: Any) -> None:
    """What is raised in an actor is caught as what it is, with its attributes."""
    runner = actor(RemoteVectorEnv(num_envs=2, **hosted(HOSTED, {"at": 5})))
    error = error_of(lambda: ray.get(runner.returns.remote(3, 50)))
    assert isinstance(error, EnvironmentRaised)
    assert isinstance(error, ZeroDivisionError)
    assert error.env_index == 0
    assert "a simulator's mistake" in error.remote_traceback
    ray.kill(runner)
    runner = actor(RemoteVectorEnv("127.0.0.1:9", num_envs=2, connect_timeout_seconds=1))
    error = error_of(lambda: ray.get(runner.returns.remote(3, 50)))
    assert isinstance(error, ConnectError)
    assert error.address == "127.0.0.1:9"
    ray.kill(runner)


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(DOCS / "trainers" / "rllib.md", tmp_path, monkeypatch)


@pytest.mark.timeout(3_600)
def test_solves_cartpole(hosted: Any, request: pytest.FixtureRequest) -> None:
    """With --full: to RLlib's own threshold, over mutual TLS; draws the curve."""
    if not request.config.getoption("--full"):
        pytest.skip("with --full")
    config = ppo(REMOTE, "vector_entry_point", hosted("CartPole-v1"))
    config.training(lr=3e-4, num_epochs=6, vf_loss_coeff=0.01, train_batch_size_per_learner=4000, minibatch_size=128)
    config.rl_module(
        model_config=DefaultModelConfig(fcnet_hiddens=[32], fcnet_activation="linear", vf_share_layers=True)
    )
    algorithm, curve = config.build_algo(), []
    try:
        while not curve or (curve[-1][1] < SOLVED and curve[-1][0] < 500_000):
            told = algorithm.train()["env_runners"]
            steps = (curve[-1][0] if curve else 0) + int(told["num_env_steps_sampled"])
            curve.append((steps, float(told["episode_return_mean"])))
            print(*curve[-1], flush=True)
    finally:
        algorithm.stop()
    assert curve[-1][1] >= SOLVED
    draw(curve)


def draw(curve: list[tuple[int, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), dpi=90, layout="constrained")
    axes.plot(*zip(*curve, strict=True))
    axes.axhline(SOLVED, linestyle=":", color="grey")
    axes.set(xlabel="environment steps", ylabel="mean return of an episode")
    axes.set_title("CartPole-v1, RLlib's PPO, 2 env runners × 8 environments over mutual TLS", fontsize=9)
    CURVE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(CURVE)
    pyplot.close(figure)
