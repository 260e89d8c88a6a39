"""What several tests share: waiting for a condition, and counting what a process holds."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import psutil
import pytest

from remote_gym.client.settings import Settings

closes_with_a_pending_step = pytest.mark.filterwarnings("ignore:.*Calling `close` while waiting")
"""For tests that do so in passing."""

HOSTILE = Path(__file__).parent / "hostile.py"

MARK = "REMOTE_GYM_TEST_MARK"
"""Environment variable that a server and everything it starts inherit, so that no descendant can hide."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout_seconds: float = 10.0, what: str = "the condition") -> T:
    """Return the first true value of `condition`, asked again and again."""
    deadline = time.monotonic() + timeout_seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout_seconds:g} s")
        time.sleep(0.005)
    return value


def lives(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def living(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if lives(pid)]


def marked(mark: str) -> list[psutil.Process]:
    """Every living process that was started with `mark` in its environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def shared_memory_files() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def percentile_50(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def chore(name: str) -> ModuleType:
    """Load a module of ``chores/``, which is no package."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "chores" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(**changed: Any) -> Settings:
    """A client's arguments, but for those that are named its usual ones."""
    arguments: dict[str, Any] = {
        "url": "localhost:1234",
        "port": None,
        "remote_args": None,
        "client_credentials_paths": None,
        "render_mode": None,
        "validate_actions": False,
        "render_with_step": False,
        "unportable_infos": "raise",
        "compression": None,
        "connect_timeout_seconds": 10.0,
        "reconnect_timeout_seconds": 120.0,
        "on_worker_failure": "truncate",
        "on_session_lost": "raise",
        "allow_insecure": False,
    }
    return Settings(**{**arguments, **changed})
