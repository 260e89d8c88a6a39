"""``remote-gym bench``: real servers; how fast they are is not what is tested."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import MARK, marked, wait_until

from remote_gym.cli import bench, main

FAILS_LATER = """
import sys
import gymnasium as gym

class Env(gym.Env):
    observation_space = action_space = gym.spaces.Discrete(10)
    def reset(self, *, seed=None, options=None):
        return 1, {}
    def step(self, action):
        if "pytest" not in sys.modules:
            raise RuntimeError("no licence on this host")
        return 1, 0.0, False, False, {}

def create_environment():
    return Env()
"""

VECTOR = """
import gymnasium as gym

def create_vector_environment(num_envs):
    return gym.make_vec("CartPole-v1", num_envs, vectorization_mode="vector_entry_point")
"""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a trial be short, whatever time there is, which is for starting servers on a busy machine."""
    monkeypatch.setattr(bench, "LONGEST_TRIAL_SECONDS", bench.SHORTEST_TRIAL_SECONDS)
    monkeypatch.setattr(bench, "LOCAL_SHARE", 0.003)


def rows(printed: str) -> list[list[str]]:
    """The table's rows, without the local reference: workers, envs, batch size, rate."""
    return [line.split()[:4] for line in printed.splitlines() if re.match(r" +\d+ +\d+ +\S+ +[\d,]+", line)]


def test_it_prints_every_setting_the_best_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--seconds", "30", "--num-workers", "1", "2", "--num-envs", "4", "--batch-size", "0"]
    assert main(["bench", "CartPole-v1", *flags]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("CartPole-v1: a step takes ")
    assert [row[:3] for row in rows(printed)] == [["1", "4", "step()"], ["2", "4", "step()"]]
    assert printed.count("<- best") == 1
    assert "local SyncVectorEnv" in printed
    best = re.search(r"^best: (\d) workers, 4 envs, step\(\): [\d,]+ steps/s\n  [A-Z].+\.$", printed, re.MULTILINE)
    assert best, printed
    assert f"remote-gym serve CartPole-v1 --num-workers {best[1]}" in printed


def test_batches_and_kwargs(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--seconds", "30", "--num-workers", "1", "--num-envs", "4", "--batch-size", "2"]
    assert main(["bench", "FrozenLake-v1", "--kwargs", '{"map_name": "8x8"}', *flags]) == 0
    printed = capsys.readouterr().out
    assert [row[:3] for row in rows(printed)] == [["1", "4", "step()"], ["1", "4", "2"]]
    assert 'remote-gym serve FrozenLake-v1 --entrypoint-kwargs \'{"map_name": "8x8"}\'' in printed


def test_out_of_time_it_says_so_and_reports_what_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "CartPole-v1", "--seconds", "0.5", "--batch-size", "0"]) == 0
    captured = capsys.readouterr()
    assert "out of time" in captured.err
    assert len(rows(captured.out)) == 1


def test_without_tqdm_it_still_tells_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    flags = ["--seconds", "5", "--num-workers", "1", "--num-envs", "2", "--batch-size", "0"]
    assert main(["bench", "CartPole-v1", *flags]) == 0
    assert "tried 1 workers, 2 envs, step()" in capsys.readouterr().err


@pytest.fixture
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))  # restores what loading the file adds
    return tmp_path / f"{tmp_path.name.replace('-', '_')}_entrypoint.py"


def test_a_hosted_vector_environment(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(VECTOR)
    assert main(["bench", str(entrypoint), "--seconds", "2", "--num-envs", "16"]) == 0
    printed = capsys.readouterr().out
    assert [row[:3] for row in rows(printed)] == [["1", "16", "step()"]]
    assert "hosted vector environment" in printed


def test_one_of_a_fixed_size_is_tried_with_that(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(VECTOR.replace('"CartPole-v1", num_envs', '"CartPole-v1", 6'))
    assert main(["bench", str(entrypoint), "--seconds", "2"]) == 0
    assert [row[:3] for row in rows(capsys.readouterr().out)] == [["1", "6", "step()"]]


@pytest.mark.parametrize(
    ("entrypoint_name", "words"),
    [("NoSuch-v0", "NameNotFound"), ("nomodule:make", "no module 'nomodule'")],
)
def test_a_bad_entrypoint_is_told(entrypoint_name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", entrypoint_name]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("remote-gym bench: ")
    assert words in captured.err
    assert not captured.out


def test_what_fails_only_when_served_is_told(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(FAILS_LATER)
    assert main(["bench", str(entrypoint), "--seconds", "5"]) == 1
    assert "no licence on this host" in capsys.readouterr().err


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "remote_gym", "bench", "CartPole-v1", "--seconds", "60"]
    environment = {**os.environ, MARK: str(tmp_path), "TMPDIR": str(tmp_path)}
    # A group of its own, as a terminal makes it: Ctrl-C reaches the server and its workers too.
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        wait_until(lambda: len(marked(str(tmp_path))) >= 3, 30.0, "a server with a worker")
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=30.0)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    wait_until(lambda: not marked(str(tmp_path)), 5.0, "the end of its processes")
    assert not list(tmp_path.iterdir())
