"""`RemoteVectorEnv.local`: what `SyncVectorEnv` gives, from a server that lives and dies with the trainer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import pytest
from gymnasium.vector import SyncVectorEnv
from gymnasium.vector.utils import batch_space
from helpers import wait_until
from sameness import assert_same
from toys import make_pendulum

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.errors import MisuseError, SessionLost


@pytest.mark.parametrize(
    ("entrypoint", "kwargs", "local"),
    [
        ("CartPole-v1", {}, lambda: gym.make("CartPole-v1")),
        (make_pendulum, {}, make_pendulum),
        (make_pendulum, {"g": 5.0}, lambda: make_pendulum(5.0)),
    ],
    ids=["id", "function", "kwargs"],
)
def test_it_gives_what_local_environments_give(entrypoint: Any, kwargs: dict[str, Any], local: Any) -> None:
    theirs = SyncVectorEnv([local] * 3)
    with RemoteVectorEnv.local(entrypoint, 3, entrypoint_kwargs=kwargs, num_workers=2) as ours:
        assert isinstance(ours, RemoteVectorEnv)
        assert ours.action_space == batch_space(theirs.single_action_space, 3)
        ours.action_space.seed(5)
        assert_same(ours.reset(seed=1), theirs.reset(seed=1))
        for _ in range(300):
            actions = ours.action_space.sample()
            assert_same(ours.step(actions), theirs.step(actions))
    theirs.close()


def test_a_single_environment() -> None:
    theirs = make_pendulum(5.0)
    with RemoteEnvironment.local(make_pendulum, entrypoint_kwargs={"g": 5.0}, render_with_step=True) as ours:
        assert type(ours) is RemoteEnvironment
        ours.action_space.seed(5)
        assert_same(ours.reset(seed=1), theirs.reset(seed=1))
        for _ in range(20):
            action = ours.action_space.sample()
            assert_same(ours.step(action), theirs.step(action))
    with pytest.raises(MisuseError, match="transport"):
        RemoteEnvironment.local("CartPole-v1", transport="pigeon")


def test_other_arguments_are_those_of_the_class() -> None:
    with RemoteVectorEnv.local("CartPole-v1", 2, num_workers=1, autoreset_mode="SameStep", copy=False) as envs:
        observations, _ = envs.reset(seed=0)
        assert not observations.flags.writeable
        assert envs.metadata["autoreset_mode"].value == "SameStep"
    with pytest.raises(MisuseError, match="autoreset_mode"):
        RemoteVectorEnv.local("CartPole-v1", 2, num_workers=1, autoreset_mode="never")


@pytest.mark.parametrize(("cores", "workers"), [(8, 3), (2, 2)])
def test_no_worker_is_left_without_environments(cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.client.local.usable_cores", lambda: cores)
    before = set(psutil.Process().children())
    with RemoteVectorEnv.local("CartPole-v1", np.int64(3)) as envs:
        (server,) = set(psutil.Process().children()) - before
        assert envs.num_envs == 3 and len(server.children()) == workers
    with pytest.raises(MisuseError, match="num_envs must be a positive integer"):
        RemoteVectorEnv.local("CartPole-v1", 0)


def test_a_server_that_is_killed_is_not_waited_for() -> None:
    with RemoteVectorEnv.local("CartPole-v1", 2, num_workers=1, reconnect_timeout_seconds=0.5) as envs:
        envs.reset(seed=0)
        (server,) = [one for one in psutil.Process().children() if "remote_gym.server.local" in "".join(one.cmdline())]
        server.kill()
        with pytest.raises(SessionLost):
            envs.step(np.zeros(2, np.int64))


SCRIPT = """
import sys
import gymnasium as gym
from remote_gym import RemoteVectorEnv

def make():
    return gym.make("CartPole-v1")

if __name__ == "__main__":
    envs = RemoteVectorEnv.local(make, 2, num_workers=1)
    envs.reset(seed=0)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["end", "SIGTERM", "SIGKILL", "SIGINT"])
def test_it_ends_with_the_trainer_however_that_ends(tmp_path: Path, how: str) -> None:
    file = tmp_path / "train.py"
    file.write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as trainer:
        assert trainer.stdin is not None and trainer.stdout is not None
        assert trainer.stdout.readline() == "ready\n"
        processes = psutil.Process(trainer.pid).children(recursive=True)
        assert len(processes) == 2
        if how == "end":
            trainer.stdin.close()
        else:
            os.kill(trainer.pid, getattr(signal, how))
        trainer.wait(10.0)
        wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in processes))
