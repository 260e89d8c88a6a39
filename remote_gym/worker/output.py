"""Child side: what environments print, labelled line by line with their env_id and group.

Python's ``sys.stdout`` and ``sys.stderr`` are replaced by text streams like those of any other process, bytes below
included; both file descriptors lead to the server, which logs each line. What C code and subprocesses write goes there
too, without a label: the log then names the environment that runs, and nobody but the server's owner reads it, unless
the worker is one session's alone.

Nothing here raises into an environment, whatever it has done to the streams: closed, detached or wrapped anew, they go
on.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import threading
from typing import Any, Callable

MAX_LINE_CHARS = 8_192
"""A longer line is cut into lines of at most this many bytes, so that printing without end needs no memory."""

LABEL = "\x1eenv %d of %d\x1f"
"""Env_id and group. Marks a line as labelled: control characters that no text contains by accident."""

Turn = Callable[[], "tuple[int, int] | None"]
"""Tells whose turn it is, as (group, env_id), or None: nobody's."""


class LabelledBytes(io.BufferedIOBase):
    """The bytes below a stream: passes on whole lines, each labelled with whose turn it was when it was begun.

    Only the thread that made it labels: whose environment another thread belongs to, nobody knows.
    """

    mode = "wb"

    def __init__(self, descriptor: int, current: Turn, name: str, spare: int) -> None:
        """Write to `descriptor`, or to `spare` once that is closed; `current` tells whose turn it is."""
        self.name = name
        self._descriptor = descriptor
        self._spare = spare
        self._current = current
        self._pending = b""
        self._pending_turn: tuple[int, int] | None = None
        self._lock = threading.RLock()
        self._thread = threading.get_ident()

    @property
    def raw(self) -> Any:
        """This object: nothing is held back that one could go around."""
        return self

    @property
    def closed(self) -> bool:
        """False: closing it, as a wrapper does that an environment has dropped, must not silence the others."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor, so that subprocesses can inherit it."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return False: progress bars and colours make no sense in a log."""
        return False

    def detach(self) -> Any:
        """Return this object, which goes on."""
        return self

    def write(self, data: Any) -> int:
        """Take in `data` and pass on the lines that are now whole."""
        taken = memoryview(data).tobytes()
        with self._lock:
            turn = self._current() if threading.get_ident() == self._thread else None
            if turn != self._pending_turn:
                self._end_line()
                self._pending_turn = turn
            *whole, rest = (self._pending + taken).split(b"\n")
            lines = [piece for line in whole for piece in _pieces(line)]
            *cut, self._pending = _pieces(rest)
            self._emit(lines + cut)
        return len(taken)

    def flush(self) -> None:
        """Do nothing: lines travel whole, an unfinished one when another environment writes or at the end."""

    def close(self) -> None:
        """Pass on an unfinished line."""
        with self._lock:
            self._end_line()

    def mend(self) -> None:
        """Open the descriptor again if it was closed."""
        try:
            os.fstat(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.dup2(self._spare, self._descriptor)

    def begin_again(self, turn: tuple[int, int] | None) -> None:
        """Forget, in a forked process, what the other one is going to pass on; from here on it is `turn`'s."""
        self._lock = threading.RLock()  # a thread that is not here may have held it
        self._pending = b""
        self._current = lambda: turn

    def _end_line(self) -> None:
        if self._pending:
            self._emit([self._pending])
            self._pending = b""

    def _emit(self, lines: list[bytes]) -> None:
        label = b"" if self._pending_turn is None else (LABEL % self._pending_turn[::-1]).encode()
        data = memoryview(b"".join(label + line + b"\n" for line in lines))
        descriptor = self._descriptor
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # a subprocess that shares the pipe has made it so
                _wait_for(descriptor)
            except OSError as error:
                if error.errno != errno.EBADF or descriptor == self._spare:
                    return  # nobody reads any more
                descriptor = self._spare


class LabelledOutput(io.TextIOWrapper):
    """``sys.stdout`` or ``sys.stderr`` of a worker: text, passed to the bytes below at once."""

    def __init__(self, descriptor: int, current: Turn, name: str = "<stdout>", spare: int | None = None) -> None:
        """Write to `descriptor`, or to `spare` once that is closed; `current` tells whose turn it is."""
        lines: Any = LabelledBytes(descriptor, current, name, descriptor if spare is None else spare)
        super().__init__(lines, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)
        self.mode = "w"  # type: ignore[misc]  # as the interpreter does

    def reconfigure(self, **changes: Any) -> None:
        """Change what is asked for; what is written goes on at once all the same, while it is known whose it is."""
        super().reconfigure(**{**changes, "write_through": True})

    def begin_again(self, turn: tuple[int, int] | None) -> None:
        """Do what `LabelledBytes.begin_again` does."""
        self.buffer.begin_again(turn)  # type: ignore[attr-defined]

    def detach(self) -> Any:
        """Return the bytes below and go on: others still refer to this object."""
        return self.buffer

    def close(self) -> None:
        """Pass on an unfinished line and go on."""
        self.buffer.close()


def replace_streams(current: Turn) -> list[LabelledOutput]:
    """Give this process labelled streams; `sys.__stdout__` keeps them alive whatever is put in their place."""
    spare = os.dup(2)  # environments may close both
    streams = [LabelledOutput(1, current, "<stdout>", spare), LabelledOutput(2, current, "<stderr>", spare)]
    sys.stdout, sys.stderr = streams
    sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
    return streams


def mend_descriptors() -> None:
    """Open again what environments have closed of our descriptors, or what is opened next would get what is printed."""
    for stream in (sys.__stdout__, sys.__stderr__):
        if type(stream) is LabelledOutput:
            stream.buffer.mend()  # type: ignore[attr-defined]


def flush_replaced() -> None:
    """Flush what an environment has put in place of our streams: what it holds back is of whose turn it is now.

    Where that can no longer be written to, ours come back: others print here, too.
    """
    for name, ours in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
        stream = getattr(sys, name, None)
        if type(stream) is not LabelledOutput:
            with contextlib.suppress(BaseException):  # others' code: it must not end this process
                if stream is None or stream.closed is True:
                    setattr(sys, name, ours)
                else:
                    stream.flush()


def _wait_for(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()


def _pieces(line: bytes) -> list[bytes]:
    """Return `line` in pieces that are not too long, none of which ends within a character of UTF-8."""
    pieces, start = [], 0
    while len(line) - start > MAX_LINE_CHARS:
        end = start + MAX_LINE_CHARS
        for _ in range(3):
            if line[end] & 0xC0 == 0x80:
                end -= 1
        pieces.append(line[start:end])
        start = end
    return [*pieces, line[start:]]
