"""What a reader waits for: the socket, or a word of another thread."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from remote_gym.client.carriers.waiting import Lent, Readiness, _Polled, _Selected, readiness

KINDS = [_Selected, *([_Polled] if hasattr(os, "eventfd") and hasattr(select, "epoll") else [])]


@pytest.fixture(params=KINDS)
def waits(request: pytest.FixtureRequest) -> Iterator[tuple[Readiness, socket.socket, socket.socket]]:
    here, there = socket.socketpair()
    ready: Readiness = request.param(here)
    with here, there:
        here.setblocking(False)
        yield ready, here, there
        ready.close()
        ready.close()


def wait(ready: Readiness, writable: bool, seconds: float) -> bool:
    ready.watch(writable)
    events = ready.poll(seconds)
    readable = ready.is_readable(events)
    assert (events == ready.usual) <= readable
    return readable


Waits = tuple[Readiness, socket.socket, socket.socket]


def test_readable(waits: Waits) -> None:
    ready, here, there = waits
    assert not wait(ready, False, 0.0)
    there.send(b"x")
    assert ready.poll(10.0) == ready.usual
    assert wait(ready, False, 10.0)
    assert wait(ready, True, 10.0)
    here.recv(1)
    assert not wait(ready, False, 0.0)


def test_an_end_is_readable(waits: Waits) -> None:
    ready, here, _ = waits
    here.shutdown(socket.SHUT_RDWR)
    assert wait(ready, False, 10.0)


def test_writable_ends_a_wait_only_if_asked_for(waits: Waits) -> None:
    ready, _, _ = waits
    began = time.monotonic()
    assert not wait(ready, True, 10.0)
    assert time.monotonic() - began < 5
    assert not wait(ready, False, 0.05)
    assert time.monotonic() - began >= 0.04


def test_a_word_before_or_during_a_wait(waits: Waits) -> None:
    ready, _, _ = waits
    began = time.monotonic()
    for _ in range(3):
        ready.wake()
    assert not wait(ready, False, 10.0)  # three are one
    timer = threading.Timer(0.05, ready.wake)
    timer.start()
    assert not wait(ready, False, 10.0)
    timer.join()
    assert time.monotonic() - began < 5
    assert not wait(ready, False, 0.0)


def lent_by(waits: Waits) -> Lent:
    lent = waits[0].lent
    assert lent is not None
    return lent


def where_one_is_lent(test: Any) -> Any:
    kinds = [kind for kind in KINDS if kind is not _Selected]  # none: the test is skipped
    return pytest.mark.parametrize("waits", kinds, indirect=True)(test)


@where_one_is_lent
def test_what_is_lent_wakes_nobody_but_who_has_borrowed_it(waits: Waits) -> None:
    ready, here, there = waits
    lent = lent_by(waits)
    lent.take()
    there.send(b"x")
    assert lent.poll(10_000) == ready.usual
    assert ready.poll(0.0) == []
    here.recv(1)
    assert lent.poll(0) == []
    there.send(b"x")
    lent.give_back()
    assert ready.poll(10.0) == ready.usual


@where_one_is_lent
def test_a_socket_may_be_taken_out_of_a_wait_that_goes_on(waits: Waits) -> None:
    ready, _, there = waits
    lent = lent_by(waits)
    woken: list[object] = []
    thread = threading.Thread(target=lambda: woken.append(ready.poll(10.0)))
    thread.start()
    lent.take()
    there.send(b"x")
    thread.join(0.05)
    assert thread.is_alive() and not woken
    lent.give_back()
    thread.join(10.0)
    assert woken == [ready.usual]


@where_one_is_lent
@pytest.mark.parametrize("how", ["a word", "the end"])
def test_both_hear_a_word_and_the_end(waits: Waits, how: str) -> None:
    ready, here, _ = waits
    lent = lent_by(waits)
    lent.take()
    if how == "a word":
        ready.wake()
    else:
        here.shutdown(socket.SHUT_RDWR)
    for events in (lent.poll(10_000), ready.poll(10.0)):
        assert events and events != ready.usual
    assert ready.is_readable(ready.poll(10.0)) is (how == "the end")


def test_the_best_that_the_system_has() -> None:
    with socket.socket() as connection:
        ready = readiness(connection)
        assert type(ready) is KINDS[-1]
        ready.close()
