"""Server process: one direct connection: its frames in, its session's frames out.

A session's hot path: no task, stream or future per message. The loop calls `_readable` when there are bytes, and an
answer is written by whoever has it. Only the opening of the session is a task.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from remote_gym.errors import ProtocolError
from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.carriers.edge import BEGIN_SECONDS, FRAGMENT_SECONDS, Dialogue, Edge, Held, code_of
from remote_gym.server.carriers.identity import shown_by_connection
from remote_gym.server.carriers.outlet import AGAIN, TURN_SLICES, UNREAD_BYTES, SocketOutlet
from remote_gym.server.holdings import Holdings
from remote_gym.server.statistics import Counters
from remote_gym.wire.direct import (
    HEADER,
    MAX_CONTROL_BYTES,
    SILENCE_SECONDS,
    Ended,
    check_length,
    pack_ended,
    read_hello,
)
from remote_gym.wire.limits import MAX_MESSAGE_BYTES

logger = logging.getLogger("remote_gym.server")

LINGER_SECONDS = 2.0
"""How long the other side may take to close what we have ended: closed at once, it might not read our last words."""

RECORD_BYTES = 1 << 14
"""The most that one record of TLS carries, and one read gives (RFC 8446, 5.1)."""

COUNTED_BYTES = 65_536
"""Less is not counted: what connections hold without being asked is bounded by their number."""


class Connection:
    """One connection. All methods are called on the loop.

    Attributes:
        outlet: Where what is sent to the client goes.
    """

    def __init__(
        self,
        sock: socket.socket,
        visitor: Visitor,
        edge: Edge,
        hello: bytes,
        scratch: memoryview,
        on_closed: Callable[[Connection], None],
    ) -> None:
        """Take over `sock`, non-blocking, and begin to read it.

        Args:
            sock: With TLS or without, after its handshake.
            visitor: Who is at the other end; its leaving is told.
            edge: Whose sessions are carried.
            hello: Our greeting's frame.
            scratch: A buffer to read into, which others use in between; whole records of TLS fit.
            on_closed: Called once, when the connection is closed.
        """
        self._socket = sock
        self._visitor = visitor
        self._peer = visitor.peer
        self._edge = edge
        self._hello = hello
        self._scratch = scratch
        self._read: Callable[[], Any] = partial(sock.recv_into, scratch)  # returns how many bytes, 0 at the end
        if isinstance(sock, ssl.SSLSocket):
            self._read = partial(sock.read, len(scratch), scratch)  # what `recv_into` does, after more checks
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self.outlet = SocketOutlet(sock, edge.sessions.counters, self._say_goodbye, self._broken)
        self._dialogue = Dialogue(edge.sessions, self.outlet, visitor.peer)
        self._frames = Frames(edge.sessions.holdings, edge.sessions.counters)
        self._take: Callable[[bytes], None] = self._greeted  # what the next frame means
        self._opening: asyncio.Task[None] | None = None
        self._early: deque[bytes] = deque()  # what came while the session was being opened
        self._early_bytes = 0
        self._reading = False
        self._deaf = False  # what still comes is of no interest
        self._closed = False
        self._deadline: asyncio.TimerHandle | None = None
        self._heard = True  # since it was last looked
        self._silent_seconds = 0.0
        self._progressed = False  # a message, or a piece of one, has come since it was last looked
        self._stuck_seconds = 0.0
        visitor.close = self.close
        edge.outlets.add(self.outlet)
        self._be_done_within(BEGIN_SECONDS)
        self._read_on()

    def _be_done_within(self, seconds: float | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = None if seconds is None else self._loop.call_later(seconds, self.close)

    # Reading

    def _read_on(self) -> None:
        if not self._reading and not self._closed:
            self._reading = True
            self._loop.add_reader(self._socket, self._readable)
            self._loop.call_soon(self._readable)  # TLS may hold bytes already, which raise no event

    def _pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def _readable(self) -> None:
        """Read what is there, or until others must have their turn."""
        try:
            for _ in range(TURN_SLICES):
                if not self._reading:
                    return
                size = self._read()
                if not size:
                    self.close()
                    return
                self._heard = True
                if not self._deaf:
                    self._hear(size)
                # A read takes all that is left of a record: what may follow is in the kernel, and will raise an event.
                if size < RECORD_BYTES:
                    return
        except AGAIN:
            return
        except OSError as error:  # ssl.SSLError is one
            self._broken(error)
            return
        except Exception as error:
            self._fail(error)
            return
        self._loop.call_soon(self._readable)

    def _hear(self, size: int) -> None:
        """Take in the first `size` bytes of what was read."""
        for frame in self._frames.feed(self._scratch[:size]):
            if frame or self._take == self._greeted:
                self._take(frame)
            else:
                self.outlet.pong()
            if self._deaf:
                return

    def _greeted(self, frame: bytes) -> None:
        """Take in the client's Hello, and say ours."""
        if not frame:
            raise ProtocolError("a ping before the greeting")
        said = read_hello(frame)  # which versions it speaks, its Open will say again
        shown = shown_by_connection(self._socket, self._visitor.uid, said.token)
        self._dialogue.principal = self._edge.known(self._peer, lambda: self._edge.authenticator.principal(shown))
        self._take = self._begun
        self._visitor.spoke()
        self._be_done_within(BEGIN_SECONDS)
        self.outlet.greet(self._hello)

    def _begun(self, frame: bytes) -> None:
        """Take in what opens or attaches."""
        self._be_done_within(None)
        self._take = self._keep
        self._edge.recheck(self._peer, self._dialogue.principal)
        self._visitor.begin_session()  # until it leaves: a connection has one session
        self._opening = asyncio.ensure_future(self._dialogue.begin(frame))
        self._opening.add_done_callback(self._opened)

    def _keep(self, frame: bytes) -> None:
        """Keep what comes while the session is being opened: of a client of ours, Close."""
        self._early.append(frame)
        self._early_bytes += HEADER.size + len(frame)
        if self._early_bytes > UNREAD_BYTES:
            self._pause_reading()

    def _opened(self, opening: asyncio.Task[None]) -> None:
        """Go on with what came while the session was being opened."""
        self._opening = None
        if opening.cancelled():
            return
        if self._closed:  # while it was told
            self._dialogue.end()
            return
        if (failure := opening.exception()) is not None:
            self._fail(failure)
            return
        if self._dialogue.session is None:  # the answer says why
            self.outlet.end()
            return
        self._visitor.got_session()
        self._take = self._request
        try:
            self._frames.charge(self._dialogue.holdings)
            while self._early:
                self._request(self._early.popleft())
        except Exception as error:
            self._fail(error)
        self._read_on()

    def _request(self, frame: bytes) -> None:
        """Take in a request, or a piece of one."""
        self._progressed = True
        self._dialogue.receive(frame)
        unread = self.outlet.unwritten.bytes
        if unread > UNREAD_BYTES and unread > self._dialogue.unread_limit:
            self._pause_reading()
            self.outlet.on_written = self._written

    def _written(self) -> None:
        """Read on, if the client has read enough."""
        if self.outlet.unwritten.bytes <= self._dialogue.unread_limit:
            self.outlet.on_written = None
            self._read_on()

    # The end

    def _fail(self, error: BaseException) -> None:
        """End the connection by what the client has done, or by a bug of ours; tell the client."""
        logger.debug("%s is told why its connection ends: %r", self._peer, error)
        self._deaf = True
        self._dialogue.end()
        self.outlet.end(pack_ended(Ended(code_of(error), str(error))))

    def _say_goodbye(self) -> None:
        """Say that nothing follows, and wait until the client has read it."""
        self._deaf = True
        self._dialogue.end()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._read = partial(self._socket.recv_into, self._scratch)  # TLS is over; what comes is only waited for
        self._be_done_within(LINGER_SECONDS)
        self._read_on()

    def _broken(self, error: Exception) -> None:
        logger.debug("the connection of %s broke: %s", self._peer, error)
        self.close()

    def look(self, seconds: float) -> None:
        """Take note that `seconds` have passed; end if nothing, or no rest of a message, has come for too long."""
        self._silent_seconds = 0.0 if self._heard or self.outlet.took else self._silent_seconds + seconds
        self._heard = self.outlet.took = False
        if self._silent_seconds >= SILENCE_SECONDS:
            logger.warning("%s was silent for %g s: its connection ends", self._peer, self._silent_seconds)
            self.close()
        waits = self._dialogue.unfinished and not self._progressed
        self._stuck_seconds = self._stuck_seconds + seconds if waits else 0.0
        self._progressed = False
        if self._stuck_seconds >= FRAGMENT_SECONDS:
            self._fail(ProtocolError(f"the rest of a message did not come within {FRAGMENT_SECONDS:g} s"))

    def close(self) -> None:
        """End at once; may be called twice."""
        if self._closed:
            return
        self._closed = self._deaf = True
        self._be_done_within(None)
        self._pause_reading()
        self.outlet.close()
        self._edge.outlets.discard(self.outlet)
        self._frames.close()
        if self._opening is not None:
            self._opening.cancel()
        self._dialogue.end()
        self._socket.close()
        self._visitor.leave()
        self._on_closed(self)


class Frames:
    """The frames of one connection, in order; the first is a greeting."""

    def __init__(self, holdings: Holdings, counters: Counters) -> None:
        """Begin with nothing."""
        self._partial = bytearray()  # of a frame that is not whole: its header and what has come of it
        self._held = Held(holdings, counters)  # what is counted of it
        self._greeted = False

    def feed(self, data: memoryview) -> Iterable[bytes]:
        """Return the frames that are whole with `data`, taken in as they are asked for; `data` may then be used again.

        Raises:
            ProtocolError: One is longer than any may be.
            RefusalError: The server holds too many unfinished messages.
        """
        size = len(data) - HEADER.size
        # Nearly always it is one frame, no more and no less. What was read at once is shorter than any limit of frames.
        if 0 <= size < RECORD_BYTES and HEADER.unpack_from(data)[0] == size and self._greeted and not self._partial:
            return (bytes(data[HEADER.size :]),)
        return self._feed(data)

    def _feed(self, data: memoryview) -> Iterator[bytes]:
        partial = self._partial
        while data:
            if not partial and len(data) >= HEADER.size:  # the usual case: it is all here
                end = HEADER.size + self._length(data)
                if end <= len(data):
                    self._greeted = True
                    yield bytes(data[HEADER.size : end])
                    data = data[end:]
                    continue
            missing = self._missing()
            partial += data[:missing]
            data = data[missing:]
            if len(partial) >= HEADER.size and not self._missing():
                frame = bytes(memoryview(partial)[HEADER.size :])
                self._partial = partial = bytearray()
                self._held.be(0)
                self._greeted = True
                yield frame
        if (held := len(partial) if len(partial) > COUNTED_BYTES else 0) != self._held.bytes:
            self._held.be(held)

    def _length(self, data: memoryview | bytearray) -> int:
        (length,) = HEADER.unpack_from(data)
        return check_length(length, MAX_MESSAGE_BYTES if self._greeted else MAX_CONTROL_BYTES)

    def _missing(self) -> int:
        """Return how many bytes the partial frame lacks, as far as that is known."""
        have = len(self._partial)
        return HEADER.size - have if have < HEADER.size else HEADER.size + self._length(self._partial) - have

    def charge(self, holdings: Holdings) -> None:
        """Let what is not whole be held of `holdings` from now on; may raise a RefusalError."""
        self._held.charge(holdings)

    def close(self) -> None:
        """Give back what is held; may be called twice."""
        self._partial = bytearray()
        self._held.be(0)
