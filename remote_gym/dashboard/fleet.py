"""Dashboard process, on its event loop: all servers that are looked at, as long as somebody looks.

Servers tell snapshots only while a page is open, and a while after: a page that is reloaded finds its curves again, and
what nobody looks at costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

from remote_gym.dashboard.records import ServerRecord
from remote_gym.dashboard.settings import Watched
from remote_gym.dashboard.watchers import Ask, Watcher

LINGER_SECONDS = 30.0
"""For how long servers are looked at when the last page has gone."""


class Fleet:
    """The servers, in the order in which they were named. All methods are called on the event loop.

    Closing contract: `close` ends all calls, and may be called twice.

    Attributes:
        servers: What each has told.
        closed: Set by `close`.
    """

    def __init__(self, watched: tuple[Watched, ...], ask: Ask, period_seconds: float) -> None:
        """Look at nothing yet.

        Args:
            watched: The servers.
            ask: Begins a `Watch` call.
            period_seconds: Between two snapshots.
        """
        self.servers = [(one, ServerRecord()) for one in watched]
        self.closed = asyncio.Event()
        self._ask, self._period_seconds = ask, period_seconds
        self._watchers: list[Watcher] = []
        self._changed: set[asyncio.Event] = set()
        self._ending: asyncio.TimerHandle | None = None

    @property
    def viewers(self) -> int:
        """How many pages are open."""
        return len(self._changed)

    @contextlib.contextmanager
    def looking(self) -> Iterator[asyncio.Event]:
        """Look at the servers meanwhile; gives what is set whenever one has told something."""
        changed = asyncio.Event()
        self._changed.add(changed)
        self._begin()
        changed.set()  # what is known already
        try:
            yield changed
        finally:
            self._changed.discard(changed)
            if not self._changed and not self.closed.is_set():
                self._ending = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._end)

    def close(self) -> None:
        """Look no more, and wake whoever waits."""
        self.closed.set()
        self._notify()
        self._end()

    def _begin(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None
        if self._watchers or self.closed.is_set():
            return
        loop = asyncio.get_running_loop()
        for watched, record in self.servers:
            watcher = Watcher(self._ask, watched, {"period_seconds": self._period_seconds})
            watcher.start(
                lambda snapshot, record=record: loop.call_soon_threadsafe(self._told, record, snapshot),  # type: ignore[misc]
                lambda error, record=record: loop.call_soon_threadsafe(self._lost, record, error),  # type: ignore[misc]
            )
            self._watchers.append(watcher)

    def _end(self) -> None:
        self._ending = None
        for watcher in self._watchers:
            watcher.close()
        self._watchers = []
        for _, record in self.servers:
            record.lose("")

    def _told(self, record: ServerRecord, snapshot: Any) -> None:
        record.see(snapshot)
        self._notify()

    def _lost(self, record: ServerRecord, error: str) -> None:
        record.lose(error)
        self._notify()

    def _notify(self) -> None:
        for changed in self._changed:
            changed.set()
