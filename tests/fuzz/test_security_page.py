"""The page on security names modules and tests that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("|")][2:]


def test_tests_exist() -> None:
    named = [name for row in ROWS for name in re.findall(r"`([^`]+)`", row[3])]
    assert len(named) > 20
    for name in named:
        path, _, function = name.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in source, name


def test_modules_exist() -> None:
    for row in ROWS:
        for name in re.findall(r"`([^`]+)`", row[2]):
            assert importlib.util.find_spec(f"remote_gym.{name}"), name
        assert row[1].strip() and row[2].strip() and row[3].strip()
