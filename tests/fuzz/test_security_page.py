"""The page on security names modules and tests that exist."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text(encoding="utf-8")
PROMISES, _, THREATS = PAGE.partition("## Who may try what")


def rows(text: str) -> list[list[str]]:
    """Return the cells of a table, but for its head."""
    return [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("|")][2:]


ROWS = rows(PROMISES)


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


def test_no_threat_has_an_empty_cell() -> None:
    attackers = []
    for who, *cells in rows(THREATS):
        assert len(cells) == 4 and all(cell.strip() for cell in cells), cells
        attackers += [who.strip()] if who.strip() else []
    assert attackers == [
        "a stranger on the network", "another client with a certificate", "a client with a token",
        "a hosted environment", "another user of the machine", "a malicious server, against a client",
    ]  # fmt: skip
