"""What the client's code keeps to: short files, one state that is an object, no counting of frames."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "remote_gym" / "client"
FILES = sorted(path.relative_to(CLIENT).as_posix() for path in CLIENT.rglob("*.py"))
MAX_LINES = 350
BEING_REBUILT: set[str] = set()


@pytest.mark.parametrize("file", FILES)
def test_state_is_no_guess(file: str) -> None:
    """Nobody asks whether an attribute is there, or what a function's variables are."""
    text = (CLIENT / file).read_text(encoding="utf-8")
    assert not re.search(r"__dict__|\blocals\(|\bvars\(", text)
    assert file == "warned.py" or "stacklevel" not in text, "`warn` finds the caller's line"


@pytest.mark.parametrize("file", FILES)
def test_files_are_short(file: str) -> None:
    assert file in BEING_REBUILT or len((CLIENT / file).read_text(encoding="utf-8").splitlines()) <= MAX_LINES
