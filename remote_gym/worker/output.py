"""Child side: what environments print, labelled line by line with their env_id and group.

Python's ``sys.stdout`` and ``sys.stderr`` are replaced; both file descriptors lead to the server, which logs each line.
What C code and subprocesses write goes there too, without a label: the log then names the environment that runs, and
nobody but the server's owner reads it, unless the worker is one session's alone.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable

MAX_LINE_CHARS = 8_192
"""A longer line is cut into lines of this length, so that an environment printing without end needs no memory."""

LABEL = "\x1eenv %d of %d\x1f"
"""Env_id and group. Marks a line as labelled: control characters that no text contains by accident."""


class LabelledOutput(io.TextIOBase):
    """A text stream that passes on whole lines, each labelled with whose turn it was when it was begun.

    Only the thread that made it labels: whose environment another thread belongs to, nobody knows.
    """

    def __init__(self, descriptor: int, current: Callable[[], tuple[int, int] | None]) -> None:
        """Write to `descriptor`; `current` tells whose turn it is, as (group, env_id), or None: nobody's."""
        self._descriptor = descriptor
        self._current = current
        self._pending = ""
        self._pending_turn: tuple[int, int] | None = None
        self._lock = threading.RLock()
        self._thread = threading.get_ident()

    encoding = "utf-8"

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, so that subprocesses can inherit it."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return False: progress bars and colours make no sense in a log."""
        return False

    def write(self, text: str) -> int:
        """Take in `text` and pass on the lines that are now whole."""
        with self._lock:
            turn = self._current() if threading.get_ident() == self._thread else None
            if turn != self._pending_turn:
                self._end_line()
                self._pending_turn = turn
            *lines, self._pending = (self._pending + text).split("\n")
            while len(self._pending) > MAX_LINE_CHARS:
                lines.append(self._pending[:MAX_LINE_CHARS])
                self._pending = self._pending[MAX_LINE_CHARS:]
            self._emit(lines)
        return len(text)

    def flush(self) -> None:
        """Do nothing: lines travel whole, an unfinished one when another environment writes or at the end."""

    def close(self) -> None:
        """Pass on an unfinished line."""
        with self._lock:
            self._end_line()

    def _end_line(self) -> None:
        if self._pending:
            self._emit([self._pending])
            self._pending = ""

    def _emit(self, lines: list[str]) -> None:
        label = "" if self._pending_turn is None else LABEL % self._pending_turn[::-1]
        data = "".join(f"{label}{line}\n" for line in lines).encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._descriptor, data) :]
