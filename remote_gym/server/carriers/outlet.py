"""Server process: the frames that wait to be written to one carrier, in order, small ones bundled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from remote_gym import failpoints
from remote_gym.messages import Bundle
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import FRAGMENT_BYTES, pack_server, split

UNREAD_BYTES = 1 << 20
"""Refusals and superseded answers that may wait for a client that does not read; a client of ours never has any."""

BUNDLE_BYTES = 1 << 18
"""Answers that wait while another is written travel as one message up to this size: with an environment per answer, a
message costs more than what it carries. Larger ones gain nothing."""

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
                for message in pieces(frame):
                    failpoints.hit("server.frame.write")
                    self._counters.sent_bytes += len(message)
                    await write(message)
                    failpoints.hit("server.frame.written")
                self._unwritten.bytes -= size
                self._written.set()
                for call in sent:
                    call()
                del frame  # or it would live until the next one
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()


def pieces(frame: bytes) -> Iterable[bytes]:
    """Return the messages that `frame` travels as: several if it is large."""
    return (frame,) if len(frame) <= FRAGMENT_BYTES else split(frame, pack_server)
