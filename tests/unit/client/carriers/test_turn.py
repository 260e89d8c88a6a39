"""Whose turn it is to read: one at a time, the receiver gets it back, and an interrupt keeps it for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from remote_gym.client.carriers import turn as module
from remote_gym.client.carriers.turn import Turn


def elsewhere(do: Callable[[], Any]) -> Any:
    """Return what `do` returns in another thread."""
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(do()))
    thread.start()
    thread.join(10.0)
    return got[0]


def test_one_at_a_time() -> None:
    turn = Turn()
    turn.take()
    assert not elsewhere(turn.try_to_take)
    turn.release()
    assert elsewhere(turn.try_to_take)


def test_the_receiver_calls_who_stands_in() -> None:
    turn = Turn()
    called = threading.Event()
    has = threading.Event()

    def stand_in() -> None:
        turn.take()
        has.set()
        called.wait(10.0)
        turn.release()

    thread = threading.Thread(target=stand_in)
    thread.start()
    assert has.wait(10.0)
    assert turn.take_back(called.set)
    thread.join(10.0)
    called.clear()
    turn.release()
    assert turn.take_back(called.set) and not called.is_set(), "nobody to call"


def test_who_does_not_leave_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.01)
    turn = Turn()
    turn.take()
    assert not elsewhere(lambda: turn.take_back(lambda: None))


@pytest.mark.parametrize("times", [0, 1, 3])
def test_leaving_gives_it_up_however_often_it_was_taken(times: int) -> None:
    turn = Turn()
    for _ in range(times):
        turn.take()
    tidied: list[bool] = []
    turn.leave(lambda: tidied.append(elsewhere(turn.try_to_take)))
    assert tidied == [False], "while it is still ours"
    assert elsewhere(turn.try_to_take)


def test_leaving_takes_it_from_nobody() -> None:
    turn = Turn()
    elsewhere(turn.take)
    turn.leave(lambda: pytest.fail("it is another one's"))
    assert not turn.try_to_take()
