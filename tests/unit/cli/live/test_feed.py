"""The thread that watches a server: it tells, says why it does not, tries again, and ends when it is told to."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import wait_until
from snapshots import snapshot

from remote_gym.cli.live import feed as module
from remote_gym.cli.live.feed import Feed, Lost, Told
from remote_gym.errors import ConnectError, RefusedError


class Server:
    """Whatever is told each time somebody begins to watch: snapshots, and then an error."""

    def __init__(self, *told: Any) -> None:
        self.told, self.begun, self.closes = list(told), 0, 0
        self.stay = threading.Event()

    def watch(self) -> Server:
        self.begun += 1
        self.stay.clear()
        return self

    def close(self) -> None:
        self.closes += 1
        self.stay.set()

    def __iter__(self) -> Iterator[Any]:
        if not self.told:
            self.stay.wait(10.0)
            return
        for one in self.told.pop(0):
            if isinstance(one, Exception):
                raise one
            yield one


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 0.001)
    monkeypatch.setattr(module, "MAX_RETRY_SECONDS", 0.004)


def test_what_is_told_why_not_and_again() -> None:
    server = Server(
        [snapshot(1.0), snapshot(2.0), ConnectError("a:1", "connection refused", ["it is not up"])],
        [RefusedError("who are you?", "token")],
        [],
        [snapshot(3.0)],
    )
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed = Feed("a:1", server.watch, news)
    came = [news.get(timeout=10.0) for _ in range(7)]
    assert came == [
        Told("a:1", snapshot(1.0)), Told("a:1", snapshot(2.0)), Lost("a:1", "connection refused"),
        Lost("a:1", "who are you?"), Lost("a:1", "the server has ended it"),
        Told("a:1", snapshot(3.0)), Lost("a:1", "the server has ended it"),
    ]  # fmt: skip
    wait_until(lambda: server.begun == 5)
    assert server.closes == 4, "each time it has ended"
    feed.close()
    feed._thread.join(10.0)
    assert not feed._thread.is_alive()
    assert news.empty()


def test_it_can_be_closed_before_it_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_RETRY_SECONDS", 60.0)
    server = Server([ConnectError("a:1", "refused")])
    news: queue.SimpleQueue[Any] = queue.SimpleQueue()
    feed = Feed("a:1", server.watch, news)
    assert news.get(timeout=10.0) == Lost("a:1", "refused")
    feed.close()
    feed.close()
    feed._thread.join(10.0)
    assert not feed._thread.is_alive()
    assert server.begun == 1
