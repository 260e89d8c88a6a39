"""Server process: the frames that wait to be written to one carrier, in order, small ones bundled."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from remote_gym import failpoints
from remote_gym.messages import Bundle
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import FRAGMENT_BYTES, pack_server, split
from remote_gym.wire.direct import HEADER, PING

UNREAD_BYTES = 1 << 20
"""Refusals and superseded answers that may wait for a client that does not read; a client of ours never has any."""

BUNDLE_BYTES = 1 << 18
"""Answers that wait while another is written travel as one message up to this size: with an environment per answer, a
message costs more than what it carries. Larger ones gain nothing."""

SLICE_BYTES = 1 << 18
"""Given to the socket at a time: what it does not take has to be given again, the same bytes."""

TURN_SLICES = 8
"""Slices, or reads, that one connection may have in a row before others have their turn."""

AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a non-blocking socket, with TLS or without, raises where it can do nothing now."""

_FIRST_BYTES = SLICE_BYTES - HEADER.size

Sent = Callable[[], None] | None
"""To be called once a frame is written."""


class Unwritten:
    """The frames that wait to be written, in order.

    Attributes:
        bytes: How much waits.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._frames: deque[tuple[bytes, Sent]] = deque()
        self.bytes = 0

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._frames)

    def add(self, frame: bytes, sent: Sent) -> None:
        """Add the last one; `sent` is to be called once it is written."""
        self._frames.append((frame, sent))
        self.bytes += len(frame)

    def next(self) -> tuple[bytes, int, list[Callable[[], None]]]:
        """Take the frame to be written next, or a bundle of small ones.

        Returns:
            It, how much of `bytes` it is, to be subtracted once it is written, and whom to call then.
        """
        taken = [self._frames.popleft()]
        size = len(taken[0][0])
        while self._frames and size + len(self._frames[0][0]) <= BUNDLE_BYTES:
            taken.append(self._frames.popleft())
            size += len(taken[-1][0])
        frame = taken[0][0] if len(taken) == 1 else pack_server(Bundle([frame for frame, _ in taken]))
        return frame, size, [sent for _, sent in taken if sent is not None]


class OutletQueue:
    """The `Outlet` of a session whose carrier has a writer. `send` never blocks; `write` is the carrier's one writer.

    Bounded by the protocol: an environment has one operation in flight, so for a client that keeps to it at most one
    answer per environment waits here, each of them stored by the session anyway. Of a client that asks for more without
    reading, no more is read (`wait_for_reader`).
    """

    def __init__(self, counters: Counters) -> None:
        """Begin with nothing to send; `counters` count what is written."""
        self._counters = counters
        self._unwritten = Unwritten()
        self._written = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended = False

    @property
    def unread_bytes(self) -> int:
        """What waits here."""
        return self._unwritten.bytes

    def send(self, frame: bytes, sent: Sent = None) -> None:
        """Queue `frame`; `sent` is called once it is written."""
        self._unwritten.add(frame, sent)
        self._wake.set()

    def end(self) -> None:
        """Let `write` return once everything queued is written."""
        self._ended = True
        self._wake.set()

    async def wait_for_reader(self, limit: Callable[[], int]) -> None:
        """Return once the client has read enough that no more than `limit` bytes wait here."""
        while self.unread_bytes > limit():
            self._written.clear()
            await self._written.wait()

    async def write(self, write: Callable[[bytes], Awaitable[Any]]) -> None:
        """Write frames as they come, in pieces where they are large, until `end`; raises what `write` raises."""
        while True:
            while self._unwritten:
                frame, size, sent = self._unwritten.next()
                for message in written(frame, self._counters):
                    await write(message)
                self._unwritten.bytes -= size
                self._written.set()
                for call in sent:
                    call()
                del frame  # or it would live until the next one
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()


def written(frame: bytes, counters: Counters) -> Iterator[bytes]:
    """Yield the messages that `frame` travels as, several if it is large, each to be written before the next."""
    for message in (frame,) if len(frame) <= FRAGMENT_BYTES else split(frame, pack_server):
        failpoints.hit("server.frame.write")
        counters.sent_bytes += len(message)
        yield message
        failpoints.hit("server.frame.written")


class SocketOutlet:
    """The `Outlet` of a session whose carrier is a socket; writes as far as that takes it, the rest when there is room.

    All methods are called on the loop. Guarantees: frames are written whole and in order; what goes wrong with the
    socket is never raised into who sends, but told on the loop's next turn.

    Attributes:
        unwritten: What waits, with its size.
        on_written: To be called whenever a frame is written; None: nobody asks.
        took: Whether the socket has taken something after it had no room; for who looks whether the peer is there.
    """

    def __init__(
        self,
        sock: socket.socket,
        counters: Counters,
        on_finished: Callable[[], None],
        on_broken: Callable[[Exception], None],
    ) -> None:
        """Write to `sock`, non-blocking.

        Args:
            sock: The socket; who has it closes it.
            counters: Count what is written.
            on_finished: Called once, when all is written after `end`.
            on_broken: Called once with what went wrong.
        """
        self._socket = sock
        self._counters = counters
        self.unwritten = Unwritten()
        self.on_written: Callable[[], None] | None = None
        self.took = False
        self._on_finished: Callable[[], None] | None = on_finished
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
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
        return self.unwritten.bytes

    def send(self, frame: bytes, sent: Sent = None) -> None:
        """Write `frame` after those before it and then call `sent`; never waits, and raises nothing."""
        if self._ending or self._closed:
            return
        if self._waits or len(frame) > _FIRST_BYTES:
            self.unwritten.add(frame, sent)
            self._flush()
        else:
            self._send_at_once(frame, sent)

    def _send_at_once(self, frame: bytes, sent: Sent) -> None:
        """Write a small frame: nothing waits to be written before it.

        The usual case: what `_flush` would do with it, without a queue and generators in between.
        """
        message, taken = HEADER.pack(len(frame)) + frame, 0
        try:
            failpoints.hit("server.frame.write")
            self._counters.sent_bytes += len(frame)
            taken = self._socket.send(message)
            if taken == len(message):
                failpoints.hit("server.frame.written")
                if sent is not None:
                    sent()
                return
        except AGAIN:
            pass
        except Exception as error:
            self._break(error)
            return
        self._size = len(frame)
        self.unwritten.bytes += self._size
        self._sent = () if sent is None else (sent,)
        self._slices = _rest(message[taken:])
        self._wait()

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
            self.unwritten, self._sent, self._size = Unwritten(), (), 0
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
            self._break(error)
            return
        if self._ending and self._on_finished is not None:
            finished, self._on_finished = self._on_finished, None
            finished()

    def _break(self, error: Exception) -> None:
        self._closed = True
        self._loop.call_soon(self._on_broken, error)

    def _wait(self) -> None:
        self._waits = True
        self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._waits = False
        self._loop.remove_writer(self._socket)
        self.took = True
        self._flush()

    def _next_slice(self) -> bool:
        """Take the next slice to be written; return whether there is one."""
        while (part := next(self._slices, None)) is None:
            if self._size:
                self._frame_written()
            if self._owes_pong:
                self._owes_pong = False
                self._slices = iter((PING,))
            elif self.unwritten:
                frame, self._size, self._sent = self.unwritten.next()
                self._slices = self._sliced(frame)
            else:
                return False
        self._slice = part
        return True

    def _frame_written(self) -> None:
        self.unwritten.bytes -= self._size
        self._size = 0
        for call in self._sent:
            call()
        if self.on_written is not None:
            self.on_written()

    def _sliced(self, frame: bytes) -> Iterator[bytes | memoryview]:
        for message in written(frame, self._counters):
            if len(message) <= _FIRST_BYTES:
                yield HEADER.pack(len(message)) + message
            else:
                yield b"".join((HEADER.pack(len(message)), memoryview(message)[:_FIRST_BYTES]))
                for at in range(_FIRST_BYTES, len(message), SLICE_BYTES):
                    yield memoryview(message)[at : at + SLICE_BYTES]


def _rest(message: bytes) -> Iterator[bytes]:
    """Yield what is left of a message of which `written` would have yielded all."""
    yield message
    failpoints.hit("server.frame.written")
