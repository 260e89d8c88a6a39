"""Tianshou's own tests of vector environments and collectors, with remote environments in place of a class of its own.

They are not shipped with it: ``REMOTE_GYM_TIANSHOU`` names a checkout of v2.0.1, whose tests also need networkx. Takes
some minutes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = os.environ.get("REMOTE_GYM_TIANSHOU", "")

CANNOT = {
    "test_env.py::test_vecenv": "its observations are not in its observation space: an array for a Discrete",
    "test_env.py::test_env_obs_dtype": "its environments have no spaces",
    "test_env.py::test_attr_unwrapped": "reads `workers[0].env`, the environment itself",
    "test_collector.py::test_collector": "reads the environment itself out of the infos",
    "test_collector.py::test_collector_with_multi_agent": "its rewards are no numbers but lists of them",
}
"""Tests -> why no environment that is elsewhere can pass them. Those that do not use the replaced class pass."""


TIMED = {"test_env.py::test_async_env", "test_env.py::test_async_check_id"}
"""Those that measure seconds, of theirs as well as of ours: on a busy machine they may fail, and are tried again."""


@pytest.mark.skipif(not CHECKOUT, reason="REMOTE_GYM_TIANSHOU names no checkout of Tianshou")
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("replaced", ["DummyVectorEnv", "SubprocVectorEnv", "ShmemVectorEnv"])
def test_theirs(replaced: str, tmp_path: Path) -> None:
    outcomes, said = run(replaced, tmp_path, "test_env.py", "test_collector.py")
    assert len(outcomes) == 24, said
    for name in TIMED:
        if outcomes[name] != "PASSED":
            outcomes |= run(replaced, tmp_path, name)[0]
    assert {name for name, outcome in outcomes.items() if outcome != "PASSED"} <= set(CANNOT), said


def run(replaced: str, folder: Path, *names: str) -> tuple[dict[str, str], str]:
    """Run some of their tests; return their outcomes, and what pytest said."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "theirs_hosted", "-p", "no:cacheprovider", "-q", "-rA",
         "-o", "timeout=300", *(f"test/base/{name}" for name in names)],
        cwd=CHECKOUT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), CHECKOUT]),
            "REMOTE_GYM_THEIRS_REPLACED": replaced,
            "REMOTE_GYM_THEIRS_FOLDER": str(folder),
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    found = re.findall(r"^(PASSED|FAILED|ERROR) test/base/(\S+)", done.stdout, re.MULTILINE)
    return {name: outcome for outcome, name in found}, done.stdout + done.stderr
