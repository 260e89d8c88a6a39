"""One call of one server: it is made again when it breaks, and no more once it is closed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import wait_until
from staged import Stage

from remote_gym.dashboard import watchers as module
from remote_gym.dashboard.settings import Watched
from remote_gym.dashboard.watchers import Watcher
from remote_gym.errors import ConnectError

ONE = Watched("a:1", "a:1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.01, 0.02))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "remote_gym watcher"]


def test_snapshots_come_until_it_is_closed() -> None:
    stage, told = Stage(lambda tick: tick, 0.01), []
    watcher = Watcher(stage.ask, ONE, {"period_seconds": 1.0})
    watcher.start(told.append, told.append)
    wait_until(lambda: len(told) > 3)
    assert told[:3] == [1, 2, 3]
    watcher.close()
    watcher.close()
    wait_until(lambda: not threads())
    assert stage.calls[0][:2] == (ONE, {"period_seconds": 1.0})
    assert len(stage.calls) == 1


def test_a_call_that_breaks_is_made_again_and_the_reason_told() -> None:
    tries, told, lost = [], [], []

    class Call:
        def __iter__(self) -> Iterator[Any]:
            tries.append(1)
            if len(tries) % 2:
                raise ConnectError("a:1", "nobody is there")
            yield "snapshot"

        def close(self) -> None:
            pass

    watcher = Watcher(lambda *_: Call(), ONE, {})
    watcher.start(told.append, lost.append)
    wait_until(lambda: len(told) > 2)
    watcher.close()
    wait_until(lambda: not threads())
    assert "nobody is there" in lost[0]
    assert "the server has ended the call" in lost[1]


def test_closed_before_it_could_ask_it_asks_nobody() -> None:
    stage = Stage()
    watcher = Watcher(stage.ask, ONE, {})
    watcher.close()
    watcher.start(print, print)
    wait_until(lambda: not threads())
    assert stage.calls == []


def test_a_loop_that_has_gone_ends_it() -> None:
    def told(_snapshot: Any) -> None:
        raise RuntimeError("Event loop is closed")

    watcher = Watcher(Stage(lambda tick: tick, 0.01).ask, ONE, {})
    watcher.start(told, print)
    wait_until(lambda: not threads())
    watcher.close()
