"""A process that an environment forks is not the worker, whatever becomes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import wait_until

from remote_gym import RemoteEnvironment, RemoteVectorEnv

FORKING = """
import multiprocessing, os, sys
import gymnasium as gym
import numpy as np

def raises():
    raise RuntimeError("in the fork")

def prints():
    print("by the fork", flush=True)
    os._exit(0)

def forks():
    if os.fork() == 0:
        raise RuntimeError("in the fork's fork")
    os.wait()
    os._exit(0)

WAYS = {"raises": raises, "exits": sys.exit, "returns": lambda: None, "prints": prints, "forks": forks}

class Forking(gym.Env):
    observation_space = gym.spaces.Box(-9, 9, (1,), np.float64)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, way, folder):
        self.way, self.folder, self.steps = way, folder, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action):
        with open(os.path.join(self.folder, "steps"), "a") as file:
            file.write(f"{os.getpid()}\\n")
        self.steps += 1
        if action == 1 and os.fork() == 0:
            WAYS[self.way]()
            self.steps = -5
        elif action == 1:
            os.wait()
        return np.full(1, self.steps, np.float64), float(self.steps), False, False, {"worker": os.getpid()}

    def by_multiprocessing(self):
        child = multiprocessing.get_context("fork").Process(target=print, args=("by multiprocessing",))
        child.start()
        child.join()
        return child.exitcode

def create_environment(way, folder):
    return Forking(way, folder)
"""
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@pytest.fixture
def forking(serve: Callable[..., Any], tmp_path: Path) -> Callable[[str], Any]:
    (tmp_path / "forking.py").write_text(FORKING)

    def start(way: str) -> Any:
        return serve(str(tmp_path / "forking.py"), {"way": way, "folder": str(tmp_path)}, num_workers=1)

    return start


@pytest.mark.parametrize("way", ["raises", "exits", "returns", "prints", "forks"])
def test_the_worker_goes_on_alone(
    forking: Callable[[str], Any], tmp_path: Path, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "remote_gym.worker")
    server = forking(way)
    with RemoteVectorEnv(server.address, num_envs=3) as envs, RemoteEnvironment(server.address) as other:
        envs.reset(seed=1)
        other.reset(seed=1)
        for step in range(1, 11):
            observations, rewards, _, truncations, infos = envs.step(np.array([1, 0, 1]))
            assert observations.tolist() == [[step]] * 3 and rewards.tolist() == [step] * 3
            assert not truncations.any() and "remote_gym" not in infos
            assert other.step(0)[1] == step
    stepped_by = (tmp_path / "steps").read_text().split()
    assert len(stepped_by) == 40 and set(stepped_by) == {str(infos["worker"][0])}
    assert server.statistics()["worker_restarts"] == 0
    if way == "prints":
        said = r"env [02]: by the fork$"
    else:
        said = r"a process that an environment has forked has come back from it"
    wait_until(lambda: sum(bool(re.search(said, line)) for line in list(caplog.messages)) == 20, 10.0, "the lines")


def test_multiprocessing_forks_as_it_does_locally(
    forking: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "remote_gym.worker")
    with RemoteEnvironment(forking("raises").address) as env:
        env.reset(seed=1)
        assert env.get_wrapper_attr("by_multiprocessing")() == 0
    wait_until(lambda: any("env 0: by multiprocessing" in line for line in list(caplog.messages)), 10.0, "the line")
