from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.hardening import landlock_version
from remote_gym.pool import confining
from remote_gym.pool.confining import Confinement
from remote_gym.pool.surroundings import Surroundings


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Take note of what would be for good."""
    calls: list[bool] = []
    monkeypatch.setattr(confining, "forbid_reading", lambda: calls.append(True))
    return calls


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Surroundings:
    """Surroundings in which there is no bubblewrap."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return Surroundings.here()


def test_nothing_asked_nothing_changed(bare: Surroundings, closed: list[bool]) -> None:
    assert Confinement().applied(bare, ["/key"], ["/code"]) == bare
    assert closed == [] and bare.command("/") == [sys.executable]
    assert "PATH" in bare.variables()[0]


def test_a_prefix_and_limits_without_a_sandbox(bare: Surroundings, closed: list[bool]) -> None:
    asked = Confinement(worker_prefix="nice -n '5'", worker_memory_bytes=7, worker_file_bytes=8)
    applied = asked.applied(bare, [], [])
    assert applied.command("/") == ["nice", "-n", "5", sys.executable]
    assert applied.limits == {"memory": 7, "file": 8} and applied.sandbox is None and closed == []


def test_without_bubblewrap_one_line_says_what_is_left(
    bare: Surroundings, closed: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    applied = Confinement(sandbox=True).applied(bare, ["/key"], ["/code"])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING and "it is not installed" in record.message
    assert applied.command("/") == [sys.executable] and closed == [True]
    assert set(applied.limits) == {"memory", "file"} and applied.sandbox is not None


def test_a_command_of_the_owners_stands_in_for_bubblewrap(
    bare: Surroundings, closed: list[bool], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    applied = Confinement(sandbox=True, worker_prefix=["firejail", "--quiet"], worker_memory_bytes=7).applied(
        bare, [], []
    )
    assert applied.command("/") == ["firejail", "--quiet", sys.executable]
    assert applied.sandbox is not None and applied.sandbox.by_landlock is (landlock_version() > 0)
    assert "firejail --quiet" in caplog.text and applied.limits["memory"] == 7 and closed == [True]


@pytest.mark.parametrize(
    "asked, words",
    [
        ({"sandbox_env": ["A"]}, "sandbox=True"),
        ({"sandbox_required": True}, "sandbox=True"),
        ({"sandbox": True, "sandbox_required": True}, "not installed"),
        ({"sandbox": True, "sandbox_required": True, "worker_prefix": "x"}, "a command of yours"),
        ({"sandbox": True, "sandbox_env": "A"}, "sandbox_env"),
        ({"worker_prefix": ""}, "worker_prefix"),
        ({"worker_prefix": "it's"}, "worker_prefix"),
        ({"worker_prefix": [1]}, "worker_prefix"),
        ({"worker_prefix": 1}, "worker_prefix"),
        ({"worker_memory_bytes": 0}, "worker_memory_bytes"),
        ({"worker_file_bytes": 1.5}, "worker_file_bytes"),
        ({"worker_file_bytes": True}, "worker_file_bytes"),
    ],
)
def test_misuse(bare: Surroundings, closed: list[bool], asked: dict[str, Any], words: str) -> None:
    with pytest.raises(MisuseError, match=words):
        Confinement(**asked).applied(bare, [], [])
    assert closed == []
