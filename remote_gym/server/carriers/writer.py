"""Server process: frames into one socket, as far as it takes them at once; the rest when there is room."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator

from remote_gym import failpoints
from remote_gym.server.carriers.outlet import Sent, Unwritten, pieces
from remote_gym.server.statistics import Counters
from remote_gym.wire.direct import HEADER, PING

SLICE_BYTES = 1 << 18
"""Given to the socket at a time: what it does not take has to be given again, the same bytes."""

TURN_SLICES = 8
"""Slices, or reads, that one connection may have in a row before others have their turn."""

AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a non-blocking socket, with TLS or without, raises where it can do nothing now."""

_FIRST_BYTES = SLICE_BYTES - HEADER.size


class Writer:
    """The writing half of a connection. All methods are called on the loop.

    Guarantees: frames are written whole and in order. What goes wrong with the socket is never raised into who sends,
    but told on the loop's next turn.
    """

    def __init__(
        self,
        sock: socket.socket,
        counters: Counters,
        on_written: Callable[[], None],
        on_finished: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """Write to `sock`, non-blocking.

        Args:
            sock: The socket; who has it closes it.
            counters: Count what is written.
            on_written: Called whenever a frame is written, or some of it after a wait.
            on_finished: Called once, when all is written after `end`.
            on_broken: Called once with what went wrong.
        """
        self._socket = sock
        self._counters = counters
        self._on_written = on_written
        self._on_finished: Callable[[], None] | None = on_finished
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._unwritten = Unwritten()
        self._slices: Iterator[bytes | memoryview] = iter(())  # what is left of the frame that is being written
        self._slice: bytes | memoryview = b""  # what the socket has not taken yet
        self._sent: Iterable[Callable[[], None]] = ()  # to be called once it is written
        self._size = 0  # of it, among what is unwritten
        self._owes_pong = False
        self._waits = False  # for room in the socket
        self._ending = False
        self._closed = False

    @property
    def unread_bytes(self) -> int:
        """What waits to be written."""
        return self._unwritten.bytes

    def send(self, frame: bytes, sent: Sent = None) -> None:
        """Write `frame` after those before it and then call `sent`; never waits, and raises nothing."""
        if not (self._ending or self._closed):
            self._unwritten.add(frame, sent)
            self._flush()

    def greet(self, framed: bytes) -> None:
        """Write the first frame, whole as it is."""
        self._slices = iter((framed,))
        self._flush()

    def pong(self) -> None:
        """Answer a ping, after the frame that is being written; several at once are answered by one."""
        self._owes_pong = True
        self._flush()

    def end(self, last: bytes | None = None) -> None:
        """Write nothing more after what was sent, or, with a `last` frame, after that and what is being written."""
        if self._ending or self._closed:
            return
        self._ending = True
        if last is not None:
            self._unwritten, self._sent, self._size = Unwritten(), (), 0
            self._slices = itertools.chain(self._slices, (last,))
        self._flush()

    def close(self) -> None:
        """Write nothing more."""
        self._closed = True
        self._loop.remove_writer(self._socket)

    def _flush(self) -> None:
        if self._waits or self._closed:
            return
        try:
            for _ in range(TURN_SLICES):
                if not self._slice and not self._next_slice():
                    break
                self._slice = self._slice[self._socket.send(self._slice) :]
            else:
                self._wait()  # others have their turn; there may well be room
                return
        except AGAIN:
            self._wait()
            return
        except Exception as error:
            self._closed = True
            self._loop.call_soon(self._on_broken, error)
            return
        if self._ending and self._on_finished is not None:
            finished, self._on_finished = self._on_finished, None
            finished()

    def _wait(self) -> None:
        self._waits = True
        self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._waits = False
        self._loop.remove_writer(self._socket)
        self._flush()
        self._on_written()

    def _next_slice(self) -> bool:
        """Take the next slice to be written; return whether there is one."""
        while (part := next(self._slices, None)) is None:
            if self._size:
                self._frame_written()
            if self._owes_pong:
                self._owes_pong = False
                self._slices = iter((PING,))
            elif self._unwritten:
                frame, self._size, self._sent = self._unwritten.next()
                self._slices = self._sliced(frame)
            else:
                return False
        self._slice = part
        return True

    def _frame_written(self) -> None:
        self._unwritten.bytes -= self._size
        self._size = 0
        for call in self._sent:
            call()
        self._on_written()

    def _sliced(self, frame: bytes) -> Iterator[bytes | memoryview]:
        for message in pieces(frame):
            failpoints.hit("server.frame.write")
            self._counters.sent_bytes += len(message)
            if len(message) <= _FIRST_BYTES:
                yield HEADER.pack(len(message)) + message
            else:
                yield b"".join((HEADER.pack(len(message)), memoryview(message)[:_FIRST_BYTES]))
                for at in range(_FIRST_BYTES, len(message), SLICE_BYTES):
                    yield memoryview(message)[at : at + SLICE_BYTES]
            failpoints.hit("server.frame.written")
