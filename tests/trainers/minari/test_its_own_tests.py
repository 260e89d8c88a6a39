"""Minari's own tests of its collector, with `Recorder` in its place.

They are not in its distribution. To run them, clone Minari at the version that tox.ini pins and say where:
``REMOTE_GYM_MINARI_CHECKOUT=/path/to/Minari tox run -e trainers-minari``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = os.environ.get("REMOTE_GYM_MINARI_CHECKOUT", "")


@pytest.mark.skipif(not CHECKOUT, reason="REMOTE_GYM_MINARI_CHECKOUT does not say where Minari's tests are")
@pytest.mark.timeout(600)
def test_all_pass() -> None:
    tests = Path(__file__).parents[2]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "trainers.minari.in_place_of_collector", "-W", "ignore"]
    done = subprocess.run(
        [*command, "tests/data_collector/test_data_collector.py"],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{tests}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-4_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed and int(passed[1]) >= 57
    assert "skipped" not in done.stdout
