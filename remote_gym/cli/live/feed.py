"""The user's terminal: one thread for each server, which watches it, and tries again where it is not reached."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, Union

from remote_gym.errors import ConnectError, RemoteGymError
from remote_gym.figures import Snapshot

FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.5, 8.0
"""Between two attempts to reach a server: doubled from the first to the last."""


class Told(NamedTuple):
    """A server has told its figures."""

    address: str
    snapshot: Snapshot


class Lost(NamedTuple):
    """A server is not reached, or refuses to tell; it is asked again."""

    address: str
    reason: str


News = Union[Told, Lost]


class Watching(Protocol):
    """What `client.watching.watch` returns."""

    def __iter__(self) -> Iterator[Any]:
        """Yield snapshots, and whatever else was asked for."""

    def close(self) -> None:
        """End that, from whatever thread."""


class Feed:
    """Watches one server until it is closed.

    Closing contract: `close` returns at once, may be called twice, and nothing is put after it has ended.
    """

    def __init__(self, address: str, watch: Callable[[], Watching], news: queue.SimpleQueue[News]) -> None:
        """Begin.

        Args:
            address: What to call the server.
            watch: Connects to it, each time anew.
            news: Where to put what it tells.
        """
        self._address, self._watch, self._news = address, watch, news
        self._watching: Watching | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"remote_gym top {address:.40}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        pause = FIRST_RETRY_SECONDS
        while not self._closed.is_set():
            try:
                self._watching = watching = self._watch()
                with contextlib.closing(watching):
                    for seen in watching:
                        if self._closed.is_set():
                            return
                        if isinstance(seen, Snapshot):
                            self._news.put(Told(self._address, seen))
                            pause = FIRST_RETRY_SECONDS
                reason = "the server has ended it"
            except RemoteGymError as error:
                reason = error.summary if isinstance(error, ConnectError) else str(error)
            if not self._closed.is_set():
                self._news.put(Lost(self._address, reason))
            self._closed.wait(pause)
            pause = min(2 * pause, MAX_RETRY_SECONDS)

    def close(self) -> None:
        """Watch no more."""
        self._closed.set()
        if (watching := self._watching) is not None:
            watching.close()
