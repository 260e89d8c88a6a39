"""What a reader waits for: the socket, or a word of another thread."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from remote_gym.client.carriers.waiting import Readiness, _Polled, _Selected, readiness

KINDS = [_Selected, *([_Polled] if hasattr(os, "eventfd") and hasattr(select, "poll") else [])]


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
    events = ready.poll(seconds * 1_000)
    readable = ready.is_readable(events)
    assert (events == ready.usual) <= readable
    return readable


Waits = tuple[Readiness, socket.socket, socket.socket]


def test_readable(waits: Waits) -> None:
    ready, here, there = waits
    assert not wait(ready, False, 0.0)
    there.send(b"x")
    assert ready.poll(10_000) == ready.usual
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


def test_one_descriptor_is_enough_where_the_system_has_it() -> None:
    with socket.socket() as connection:
        ready = readiness(connection)
        assert type(ready) is KINDS[-1]
        ready.close()
