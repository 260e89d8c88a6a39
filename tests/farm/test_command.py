"""``remote-gym farm --on ray``: a farm that is kept up, told of, and ended."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOYS
from farm.conftest import Nodes
from helpers import MARK, marked, wait_until

from remote_gym import RemoteVectorEnv
from remote_gym.ray import Farm

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def command(three: Nodes, mark: str, tmp_path: Path) -> Iterator[Any]:
    """Start the command in a folder with ``mine.py``; it is killed in the end."""
    shutil.copy(TOYS.with_name("mortal.py"), tmp_path / "mine.py")
    running: list[subprocess.Popen[str]] = []

    def start(*flags: str) -> subprocess.Popen[str]:
        env = f'{{"env_vars": {{"{MARK}": "{mark}"}}}}'
        words = ["farm", "--on", "ray", "--address", three.address, "--runtime-env", env, *flags]
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "remote_gym", *words], cwd=tmp_path, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def test_it_keeps_a_farm_up(command: Any, mark: str) -> None:
    process = command("mine.py", "--servers", "2", "--num-cpus", "1", "--max-envs", "64", "--name", "lab")
    ready = process.stdout.readline()
    found = re.fullmatch(r"remote-gym farm ready on file:(\S+)\n", ready)
    assert found, ready + process.stderr.read()
    file = Path(found[1])
    said = [process.stderr.readline().strip() for _ in range(4)]
    assert said[0].startswith("remote-gym farm: lab, 2 servers, mutual TLS")
    namespace: dict[str, Any] = {}
    exec(said[1], namespace)  # as it is typed
    with namespace["envs"] as envs:
        assert isinstance(envs, RemoteVectorEnv)
        observations, _ = envs.reset(seed=1)
        assert observations["count"].shape == (64,)
        assert [len(block.rows) for block in envs.fleet] == [32, 32]
    assert file.with_name("client-key.pem").stat().st_mode & 0o77 == 0
    before = file.read_text()
    farm = Farm.attach("lab")
    killed = next(iter(farm._servers.values()))
    os.kill(int(pid(killed)), signal.SIGKILL)
    wait_until(lambda: len(file.read_text().split()) == 2 and file.read_text() != before, 90, "that the file tells")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not file.parent.exists()
    wait_until(lambda: not marked(mark), 30, "that nothing is left")


def pid(server: Any) -> int:
    import ray

    return int(ray.get(server.__ray_call__.remote(lambda _self: os.getpid())))


def test_a_farm_that_is_left_to_itself(command: Any, mark: str) -> None:
    process = command("mine.py", "--servers", "1", "--detach", "--name", "left")
    said, log = process.communicate(timeout=120)
    assert said == "remote-gym farm ready on left\n", log
    assert "remote-gym farm --on ray --end left" in log
    with Farm.attach("left") as farm, farm.vector_env(2) as envs:
        envs.reset(seed=1)
        envs.step(np.zeros(2, np.int64))
    process = command("--end", "left")
    assert process.wait(120) == 0, process.stderr.read()
    wait_until(lambda: not marked(mark), 30, "that nothing is left")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("CartPole-v1", "--num-cpus", "64"), "no node of this Ray cluster has 64 CPU"),
        (("--end", "nobody"), "there is no such farm"),
    ],
)
def test_what_cannot_be(command: Any, words: tuple[str, ...], said: str) -> None:
    process = command(*words)
    assert said in process.communicate(timeout=120)[1]
    assert process.returncode == 1
