"""Server process: the frames that wait to be written to one carrier, in order, small ones bundled."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
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


class OutletQueue:
    """The `Outlet` of a session. `send` never blocks; `write` is the carrier's one writer.

    Bounded by the protocol: an environment has one operation in flight, so for a client that keeps to it at most one
    answer per environment waits here, each of them stored by the session anyway. Of a client that asks for more without
    reading, no more is read (`wait_for_reader`).

    Attributes:
        unread_bytes: What waits here.
    """

    def __init__(self, counters: Counters) -> None:
        """Begin with nothing to send; `counters` count what is written."""
        self._counters = counters
        self._frames: deque[tuple[bytes, Sent]] = deque()
        self.unread_bytes = 0
        self._written = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended = False

    def send(self, frame: bytes, sent: Sent = None) -> None:
        """Queue `frame`; `sent` is called once it is written."""
        self._frames.append((frame, sent))
        self.unread_bytes += len(frame)
        self._wake.set()

    def end(self) -> None:
        """Let `write` return once everything queued is written."""
        self._ended = True
        self._wake.set()

    async def wait_for_reader(self, stored_bytes: Callable[[], int]) -> None:
        """Return once the client has read enough that what waits here is, but for a little, what its session stores."""
        while self.unread_bytes > UNREAD_BYTES and self.unread_bytes > UNREAD_BYTES + stored_bytes():
            self._written.clear()
            await self._written.wait()

    async def write(self, write: Callable[[bytes], Awaitable[Any]]) -> None:
        """Write frames as they come, in pieces where they are large, until `end`; raises what `write` raises."""
        while True:
            while self._frames:
                frame, size, sent = self._next()
                for message in (frame,) if len(frame) <= FRAGMENT_BYTES else split(frame, pack_server):
                    failpoints.hit("server.frame.write")
                    self._counters.sent_bytes += len(message)
                    await write(message)
                    failpoints.hit("server.frame.written")
                self.unread_bytes -= size
                self._written.set()
                for call in sent:
                    call()
                del frame  # or it would live until the next one
            if self._ended:
                return
            self._wake.clear()
            await self._wake.wait()

    def _next(self) -> tuple[bytes, int, list[Callable[[], None]]]:
        """Take the frame to be written next, or a bundle of small ones.

        Returns:
            It, the bytes that waited, and whom to call once it is written.
        """
        taken = [self._frames.popleft()]
        size = len(taken[0][0])
        while self._frames and size + len(self._frames[0][0]) <= BUNDLE_BYTES:
            taken.append(self._frames.popleft())
            size += len(taken[-1][0])
        frame = taken[0][0] if len(taken) == 1 else pack_server(Bundle([frame for frame, _ in taken]))
        return frame, size, [sent for _, sent in taken if sent is not None]
