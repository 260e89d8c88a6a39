"""`exploration/train_ppo.py`: the same returns over TLS as locally, to the last bit; `--full`: it solves CartPole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

NEEDED = ("matplotlib", "torch", "tqdm")  # in the order in which the script imports them
SCRIPT = Path(__file__).parents[3] / "exploration" / "train_ppo.py"


def train(tmp_path: Path, *flags: str, timeout_seconds: float = 110) -> str:
    """Run the script; return what it printed, but for the seconds."""
    for needed in NEEDED:
        pytest.importorskip(needed)
    plot = tmp_path / "learning_curve.png"
    command = [sys.executable, str(SCRIPT), "--plot", str(plot), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_seconds)
    assert done.returncode == 0, done.stderr
    assert plot.read_bytes().startswith(b"\x89PNG")
    return re.sub(r"[0-9.]+ s$", "", done.stdout, flags=re.MULTILINE)


@pytest.mark.parametrize("missing", NEEDED)
def test_what_is_missing_is_named_with_its_remedy(missing: str) -> None:
    without = (
        "import runpy, sys; from unittest.mock import MagicMock; "
        f"sys.modules.update(dict.fromkeys({NEEDED!r}, MagicMock())); "  # here or not, they are slow to import
        f"sys.modules[{missing!r}] = None; runpy.run_path({str(SCRIPT)!r})"
    )
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=110)
    assert done.stderr == f'train_ppo.py needs {missing}: pip install "remote-gym-pool[torch]"\n'
    assert done.returncode == 1 and not done.stdout


def test_remote_and_local_returns_are_equal(tmp_path: Path) -> None:
    flags = ("--steps", "1000", "--num_envs", "8", "--seed", "3")
    local = train(tmp_path, "--local", *flags)
    assert re.search(r"hash of all returns: [0-9a-f]{16}", local)
    assert train(tmp_path, *flags) == local
    assert train(tmp_path, "--local", *flags[:-1], "4") != local


@pytest.mark.timeout(600)
def test_it_solves_cartpole(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--full"):
        pytest.skip("takes minutes: --full")
    assert train(tmp_path, timeout_seconds=590).startswith("solved: ")
