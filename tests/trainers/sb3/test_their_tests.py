"""Stable-Baselines3's own tests of its vector environments, with ours among them.

They are fetched by whoever runs this, at the tag of the version that is installed, and never part of this repository::

    git clone --depth 1 --branch v2.9.2 https://github.com/DLR-RM/stable-baselines3 /tmp/stable-baselines3
    REMOTE_GYM_SB3_SOURCE=/tmp/stable-baselines3 tox run -e trainers-sb3 -- tests/trainers/sb3/test_their_tests.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = os.environ.get("REMOTE_GYM_SB3_SOURCE")
HERE = Path(__file__).parent

CLASSES = "VEC_ENV_CLASSES = [DummyVecEnv, SubprocVecEnv]"
OURS = "VEC_ENV_CLASSES = [__import__('their_classes').OurVecEnv]"
INSTEAD = f"from their_classes import OurVecEnv as DummyVecEnv\n{CLASSES}"
"""For tests that have no choice, but are of any `VecEnv`."""

pytestmark = [
    pytest.mark.skipif(SOURCE is None, reason="REMOTE_GYM_SB3_SOURCE names no checkout of Stable-Baselines3"),
    pytest.mark.timeout(900),
]


def run(folder: Path, text: str, *flags: str) -> tuple[str, dict[str, int]]:
    """Run `text` as their file of tests; return what was printed, and how many tests ended in which way."""
    (folder / "test_vec_envs.py").write_text(text)
    paths = os.pathsep.join([str(folder), str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    command += ["-c", os.devnull, *flags, "test_vec_envs.py"]
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment)
    counted = {kind: int(count) for count, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    return done.stdout + done.stderr, counted


def theirs() -> str:
    assert SOURCE is not None
    return (Path(SOURCE) / "tests" / "test_vec_envs.py").read_text()


def test_where_they_have_a_choice_of_classes_ours_is_one(tmp_path: Path) -> None:
    text = theirs()
    assert text.count(CLASSES) == 1
    printed, counted = run(tmp_path, text.replace(CLASSES, OURS), "-k", "OurVecEnv")
    print(printed)
    assert "failed" not in counted and "error" not in counted, printed
    assert counted["passed"] >= 14
    skipped = re.findall(r"SKIPPED .*: (.*)", printed)
    assert {*skipped} <= {"No X-Server"}, printed


def test_where_they_have_none_ours_stands_in_for_the_local_one(tmp_path: Path) -> None:
    chosen = ("test_vecenv_wrapper_getattr", "test_framestack_vecenv", "test_vec_env_is_wrapped")
    printed, counted = run(tmp_path, theirs().replace(CLASSES, INSTEAD), "-k", " or ".join(chosen))
    print(printed)
    assert counted == {"passed": 3}, printed
