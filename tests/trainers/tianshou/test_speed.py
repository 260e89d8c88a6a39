"""Environment steps per second, beside Tianshou's own vector environments in the same run; prints the page's table."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates
from tianshou.env import BaseVectorEnv, DummyVectorEnv, ShmemVectorEnv, SubprocVectorEnv

from remote_gym.tianshou import VectorEnv

pytestmark = [
    pytest.mark.skipif("not config.getoption('--full')", reason="takes a quiet machine: --full"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.timeout(600),
]

ID = "CartPole-v1"
SECONDS, ROUNDS = 1.5, 3


def steps_per_second(envs: BaseVectorEnv) -> float:
    """Step all, and reset those that are done, as a collector does."""
    generator = np.random.default_rng(1)
    everyone = np.arange(len(envs))
    envs.reset()
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        _, _, terminated, truncated, _ = envs.step(generator.integers(0, 2, len(envs)), everyone)
        if (done := terminated | truncated).any():
            envs.reset(everyone[done])
        steps += len(envs)
    return steps / (time.perf_counter() - began)


@pytest.mark.parametrize("num_envs", [16, 64])
def test_speed(num_envs: int, serve_process: Callable[..., Any], certificates: Certificates) -> None:
    certificate, key, ca = map(str, certificates.server_mutual)
    flags = ("--server_certificate", certificate, "--server_private_key", key, "--root_certificate", ca)
    address = serve_process(ID, *flags).address
    functions = [lambda: gym.make(ID)] * num_envs
    made: dict[str, BaseVectorEnv] = {
        "VectorEnv over mutual TLS": VectorEnv(
            address, num_envs=num_envs, client_credentials_paths=certificates.client_mutual
        ),
        "VectorEnv.local": VectorEnv.local(ID, num_envs),
        "DummyVectorEnv": DummyVectorEnv(functions),
        "SubprocVectorEnv": SubprocVectorEnv(functions),
        "ShmemVectorEnv": ShmemVectorEnv(functions),
    }
    rates: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, envs in made.items():
            rates[name].append(steps_per_second(envs))
    for envs in made.values():
        envs.close()
    medians = {name: statistics.median(each) for name, each in rates.items()}
    print(f"\n{num_envs} environments")
    for name, rate in medians.items():
        print(f"{name:28} {rate:10,.0f} steps/s")
    if num_envs == 64:
        assert medians["VectorEnv over mutual TLS"] > medians["SubprocVectorEnv"]
