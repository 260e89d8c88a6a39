"""Server process: the log of a server in a user's script, whose output maybe nobody reads. It holds nobody up for long.

Handlers write to pipes, and a pipe that is full holds up whoever writes: the event loop, and so every environment. So
records of our own loggers, among them all that workers print, are given to the user's handlers by a thread of its own.
Nothing of the user's configuration is touched: levels, handlers and propagation are what they were.

As long as handlers are quick, whoever logs waits until the record is handled, as without all this; with what
environments print, until not much of it is kept. Once that takes longer than `PATIENCE_SECONDS`, nobody waits any more
until all that is kept is handled. What does not fit is dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import deque

logger = logging.getLogger("remote_gym.server")

ENVIRONMENTS = "remote_gym.worker"
LOGGERS = {
    one.name: one for one in (logger, logging.getLogger("remote_gym.pool"), logging.getLogger("remote_gym.worker"))
}

PATIENCE_SECONDS = 0.1
"""How long one record may hold up the server; far above what a terminal or a file takes."""

MAX_KEPT_BYTES = 8 * 2**20
"""As `remote-gym serve` keeps: enough for a reader that stops for seconds while hundreds of environments talk."""

HURRIED_BYTES = 2**18
"""Kept of what environments print without anybody waiting for it: a hand-over costs 50 us, and they may print a lot."""

ENVIRONMENTS_SHARE = 0.75
"""Of that: what environments print leaves room for what the server itself has to say."""

RECORD_BYTES = 1_024
"""Of a record, beside its texts."""

LAST_WORDS_SECONDS = 0.5
"""How long the end of the last server waits for handlers."""

DROPPED = "%d lines of the log were dropped here: they were not read as fast as they came"


class Aside(logging.Filter):
    """Takes the records of the loggers it is added to, and has their handlers called by its thread, in order."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self._process = os.getpid()
        self._kept: deque[tuple[logging.LogRecord, int]] = deque()
        self._kept_bytes = 0
        self._given = self._handled = self._dropped = 0
        self._is_stuck = self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="remote_gym log", daemon=True)
        self._thread.start()

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the record; return True for those that whoever logs must handle: after a fork, and in handlers."""
        if os.getpid() != self._process or threading.current_thread() is self._thread:
            return True
        size = RECORD_BYTES + sum(len(text) for text in (record.msg, *_texts(record.args)) if isinstance(text, str))
        share = ENVIRONMENTS_SHARE if record.name == ENVIRONMENTS else 1.0
        with self._changed:
            if self._is_closing:
                return True
            if self._kept_bytes + size > share * MAX_KEPT_BYTES:
                self._dropped += 1
                return False
            self._kept.append((record, size))
            self._kept_bytes += size
            self._given += 1
            self._changed.notify_all()
            waits = record.name != ENVIRONMENTS or self._kept_bytes > HURRIED_BYTES
            if waits and not self._is_stuck:
                self._is_stuck = not self._wait(self._given, PATIENCE_SECONDS)
        return False

    def _wait(self, number: int, timeout_seconds: float) -> bool:
        """Return whether so many records have been handled in time."""
        return self._changed.wait_for(lambda: self._handled >= number, timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._kept or self._is_closing)
                if not self._kept:
                    return
                record, size = self._kept.popleft()
            with contextlib.suppress(Exception):  # of a handler, which must not end the log
                LOGGERS[record.name].callHandlers(record)
            dropped = 0
            with self._changed:
                self._handled += 1
                self._kept_bytes -= size
                if not self._kept:
                    dropped, self._dropped, self._is_stuck = self._dropped, 0, False
                self._changed.notify_all()
            if dropped:
                logger.warning(DROPPED, dropped)

    def close(self) -> None:
        """Let handlers have what is kept, for `LAST_WORDS_SECONDS` at most; records are no longer taken."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
            self._wait(self._given, LAST_WORDS_SECONDS)


def _texts(args: object) -> tuple[object, ...]:
    return args if isinstance(args, tuple) else ()


_lock = threading.Lock()
_servers = 0
_aside: Aside | None = None


def begin() -> None:
    """Take note of a server: the first one in this process has its log handled aside."""
    global _aside, _servers
    with _lock:
        _servers += 1
        if _aside is None or _aside._process != os.getpid():
            _aside = Aside()
            for one in LOGGERS.values():
                one.addFilter(_aside)


def end() -> None:
    """Take note that a server has stopped; after the last one logs are handled as ever."""
    global _aside, _servers
    with _lock:
        _servers -= 1
        if _servers or _aside is None:
            return
        for one in LOGGERS.values():
            one.removeFilter(_aside)
        aside, _aside = _aside, None
    aside.close()
