"""A bell: a hint to look again, which is never lost and never counted."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from remote_gym.client.session.bell import Bell


def rang(bell: Bell) -> bool:
    """Whether a wait ends at once, without anybody ringing now."""
    began = time.monotonic()
    bell.wait(0.05)
    return time.monotonic() - began < 0.04


def test_a_ring_is_heard_by_who_waits_next_and_once() -> None:
    bell = Bell()
    bell.ring()
    bell.ring()
    bell.wait(None)
    assert not rang(bell), "several rings are one"
    bell.ring()
    bell.wait(None)


@pytest.mark.parametrize("timeout", [None, 10.0, float("inf"), threading.TIMEOUT_MAX * 2])
def test_a_ring_wakes_who_waits(timeout: float | None) -> None:
    bell = Bell()
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(bell.wait, timeout)
        bell.ring()
        waiting.result(timeout=5.0)


@pytest.mark.parametrize("timeout", [0.0, -1.0, 0.001])
def test_a_wait_may_end_without_a_ring(timeout: float) -> None:
    bell = Bell()
    bell.wait(timeout)
    bell.ring()
    bell.wait(timeout)
    assert not rang(bell), "also then the ring was heard"


def test_many_may_ring_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bell = Bell()

    class Rung:
        """As if another thread had rung between the look and the release."""

        def locked(self) -> bool:
            return True

        def release(self) -> None:
            raise RuntimeError("release unlocked lock")

    monkeypatch.setattr(bell, "_silent", Rung())
    bell.ring()
