"""``remote-gym check``: the report a user gets about an environment of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from remote_gym.cli import main

NONDETERMINISTIC = """
import random
import gymnasium as gym

class Env(gym.Env):
    observation_space = action_space = gym.spaces.Discrete(10**9)
    def reset(self, *, seed=None, options=None):
        return random.randrange(10**9), {}
    def step(self, action):
        return random.randrange(10**9), 0.0, False, False, {}

def create_environment():
    return Env()
"""

TELLS_ITS_PROCESS = """
import os
import gymnasium as gym

class Env(gym.Env):
    observation_space = action_space = gym.spaces.Discrete(10)
    def reset(self, *, seed=None, options=None):
        return 1, {}
    def step(self, action):
        return 1, 0.0, False, False, {"process": os.getpid()}

def create_environment():
    return Env()
"""

DOCUMENTED = """
import enum
import gymnasium as gym
import remote_gym

class Level(enum.IntEnum):
    LOW = 1

class Words(gym.Space):
    def __init__(self):
        super().__init__((), str)
    def sample(self, mask=None, probability=None):
        return ("go", "stop")[int(self.np_random.integers(2))]
    def contains(self, x):
        return x in ("go", "stop")
    def __eq__(self, other):
        return isinstance(other, Words)

class Count(gym.spaces.Discrete):
    pass

remote_gym.register_space(Words, lambda space: gym.spaces.Text(4, charset="gopst"))

class Env(gym.Env):
    observation_space = gym.spaces.Dict({"word": Words(), "count": Count(3)})
    action_space = gym.spaces.Discrete(10)
    def reset(self, *, seed=None, options=None):
        return {"count": 1, "word": "go"}, {"level": Level.LOW}
    def step(self, action):
        return {"count": 1, "word": "stop"}, 0.0, False, False, {"level": Level.LOW}

def create_environment():
    return Env()
"""

FAILS = """
def create_environment():
    raise RuntimeError("no licence")
"""


@pytest.fixture(autouse=True)
def entrypoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))  # restores what loading the file adds
    return tmp_path / f"{tmp_path.name.replace('-', '_')}_entrypoint.py"


def test_a_good_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "FrozenLake-v1", "--steps", "20", "--entrypoint-kwargs", '{"is_slippery": false}']) == 0
    printed = capsys.readouterr().out
    assert "3 environments, 20 steps" in printed
    assert "served over TLS by 2 workers" in printed
    assert "deterministic: the local environment equals itself" in printed
    assert "  ok      an int seeds the environment; in a vector, environment i with seed + i (" in printed
    assert "  -       render gives the local frames, of the state just stepped to (nothing to compare)" in printed
    assert "BROKEN" not in printed
    assert "indistinguishable: no difference in" in printed


def test_frames(capsys: pytest.CaptureFixture[str]) -> None:
    toys = "remote_gym.testing.toys:create_environment"
    assert main(["check", toys, "--steps", "5", "--num-envs", "1", "--render-mode", "ansi"]) == 0
    assert "  ok      render gives the local frames" in capsys.readouterr().out


def test_a_difference(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(TELLS_ITS_PROCESS)
    assert main(["check", str(entrypoint), "--steps", "3"]) == 1
    printed = capsys.readouterr().out
    assert printed.count("  BROKEN  infos are bit for bit the local ones\n") == 2
    assert "          what    infos['process'][0] (environment 0)\n" in printed
    assert "2 rules are broken in" in printed


@pytest.mark.filterwarnings("ignore:infos hold what arrives as its base", "ignore:of spaces whose class nobody has")
def test_what_is_documented_is_known(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(DOCUMENTED)
    assert main(["check", str(entrypoint), "--steps", "5"]) == 0
    printed = capsys.readouterr().out
    assert "BROKEN" not in printed
    assert printed.count("  known   spaces equal the local ones (") == 2
    assert printed.count("  known   in infos an instance of a subclass (an IntEnum, a named tuple) arrives equal") == 2
    assert "          remote  1 (int)\n          local   <Level.LOW: 1> (Level)\n" in printed
    assert "indistinguishable: but for 2 that are documented, no difference in" in printed


def test_an_environment_that_is_not_deterministic(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(NONDETERMINISTIC)
    assert main(["check", str(entrypoint), "--steps", "3"]) == 1
    printed = capsys.readouterr().out
    assert "NOT DETERMINISTIC" in printed
    assert "SEED_INT" in printed
    assert "served" not in printed


def test_an_environment_that_fails(entrypoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entrypoint.write_text(FAILS)
    assert main(["check", str(entrypoint)]) == 1
    assert "remote-gym check: the local environment itself fails: RuntimeError: no licence" in capsys.readouterr().err
