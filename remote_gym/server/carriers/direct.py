"""Server process: sessions over connections of their own, without gRPC.

A session's hot path: no task, stream or future per message. The loop calls `Connection` when there are bytes to read,
and an answer is written by whoever has it, as far as the socket takes it; the rest follows when there is room. Only a
connection's beginning is a task: its handshake, and the opening of its session.

The contract is at `Hello` in session.proto.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterator

from remote_gym import failpoints
from remote_gym.credentials import ServerPem
from remote_gym.errors import ProtocolError
from remote_gym.server.carriers.edge import FRAGMENT_SECONDS, Dialogue, Edge
from remote_gym.server.carriers.handshake import Handshakes
from remote_gym.server.carriers.incoming import Frames
from remote_gym.server.carriers.outlet import UNREAD_BYTES, Sent, Unwritten, pieces
from remote_gym.server.refusals import RefusalError
from remote_gym.texts import printable
from remote_gym.wire.direct import (
    HEADER,
    MAGIC,
    PING,
    SILENCE_SECONDS,
    Ended,
    Hello,
    pack_ended,
    pack_hello,
    read_hello,
)

logger = logging.getLogger("remote_gym.server")

SLICE_BYTES = 1 << 18
"""Given to the socket at a time: what does not fit has to be given again, the same bytes."""

RECORD_BYTES = 1 << 14
"""The most that one record of TLS carries, and one read gives (RFC 8446, 5.1)."""

TURN_SLICES = 8
"""Slices, or reads, that one connection may have in a row before others have their turn."""

BEGIN_SECONDS = 30.0
"""How long a client may take to say who it is, and again to open or attach."""

LINGER_SECONDS = 2.0
"""How long the other side may take to close what we have ended: closed at once, it might not read our last words."""

LOOK_SECONDS = 5.0
"""How often it is looked who has fallen silent."""

_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Direct:
    """The direct connections of one server.

    Closing contract: `end` lets each end once what is queued for it is written, `close` at once; with the latter no
    task or descriptor of them is left.
    """

    def __init__(self, edge: Edge, pem: ServerPem | None) -> None:
        """Carry the sessions of `edge`; over TLS, with `pem`.

        Raises:
            ssl.SSLError: See `Handshakes`.
        """
        self.edge = edge
        self._handshakes = None if pem is None else Handshakes(pem)
        self._hello = pack_hello(Hello(server_epoch=edge.sessions.epoch))
        self._beginnings: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()
        self._scratch = memoryview(bytearray(SLICE_BYTES))  # for all: a read and what is done with it are one
        self._look: asyncio.TimerHandle | None = None

    def accept(self, sock: socket.socket, peer: str) -> None:
        """Take over `sock`, non-blocking, of which nothing was read; `peer` is for the log."""
        task = asyncio.ensure_future(self._begin(sock, peer))
        self._beginnings.add(task)
        task.add_done_callback(self._beginnings.discard)

    async def _begin(self, sock: socket.socket, peer: str) -> None:
        if self._handshakes is not None:
            try:
                sock = await self._handshakes.shake(sock)
            except (OSError, asyncio.TimeoutError) as error:
                logger.debug("%s ended while it connected: %s", printable(peer), error)
                return
        elif sock.recv(len(MAGIC)) != MAGIC:  # which was seen before it was handed over
            sock.close()
            return
        failpoints.hit("server.stream.begun")
        connection = Connection(sock, peer, self.edge, self._hello, self._scratch, self.connections.discard)
        self.connections.add(connection)
        connection.start()
        if self._look is None:
            self._look = asyncio.get_running_loop().call_later(LOOK_SECONDS, self._look_around)

    def _look_around(self) -> None:
        for connection in list(self.connections):
            connection.look(LOOK_SECONDS)
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_SECONDS, self._look_around) if self.connections else None

    async def end(self, timeout_seconds: float) -> None:
        """Return once all connections that were told to end have ended, or after `timeout_seconds`."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while self.connections and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """End everything at once; may be called twice."""
        for task in self._beginnings:
            task.cancel()
        for connection in list(self.connections):
            connection.close()
        if self._look is not None:
            self._look.cancel()
        if self._handshakes is not None:
            self._handshakes.close()


class Connection:
    """One connection, and the `Outlet` of its session. All methods are called on the loop.

    Guarantees: frames are written whole and in order. What goes wrong with the socket is never raised into who sends:
    the connection ends on the loop's next turn.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: str,
        edge: Edge,
        hello: bytes,
        scratch: memoryview,
        on_closed: Callable[[Connection], None],
    ) -> None:
        """Take over `sock`; `start` begins. `hello` is our frame, `on_closed` is called once it is closed."""
        self._socket = sock
        self._peer = peer
        self._edge = edge
        self._hello = hello
        self._scratch = scratch
        self._pending: Callable[[], int] = sock.pending if isinstance(sock, ssl.SSLSocket) else _none
        self._on_closed = on_closed
        self._loop = asyncio.get_running_loop()
        self._counters = edge.sessions.counters
        self._dialogue = Dialogue(edge.sessions, self, peer)
        self._frames = Frames(edge.sessions.holdings)
        self._early: deque[bytes] = deque()  # what came while the session is being opened
        self._early_bytes = 0
        self._take: Callable[[bytes], None] = self._greeted  # what the next frame means
        self._opening: asyncio.Task[None] | None = None
        self._unwritten = Unwritten()
        self._slices: Iterator[bytes | memoryview] = iter(())  # what is left of the frame that is being written
        self._slice: bytes | memoryview = b""  # not taken by the socket yet
        self._written: Callable[[], None] | None = None  # to be called when `_slices` is empty
        self._owes_pong = False
        self._reading = False
        self._blocked = False  # the socket has no room: it is written on when it has
        self._ending = False
        self._said_goodbye = False
        self._deaf = False  # what still comes is of no interest
        self._closed = False
        self._heard = True  # since it was last looked
        self._silent_seconds = 0.0
        self._progressed = False  # a message, or a piece of one, has come since it was last looked
        self._stuck_seconds = 0.0
        self._deadline: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to read."""
        self._edge.outlets.add(self)
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
                size = self._socket.recv_into(self._scratch)
                if not size:
                    self.close()
                    return
                self._heard = True
                if not self._deaf:
                    self._hear(size)
                # Less than a whole TLS record, and nothing decrypted is left: more will raise an event.
                if size < RECORD_BYTES and not self._pending():
                    return
        except _AGAIN:
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
            self._take(frame)
            if self._deaf:
                return

    def _greeted(self, frame: bytes) -> None:
        """Take in the client's Hello, and say ours."""
        if not frame:
            raise ProtocolError("a ping before the greeting")
        read_hello(frame)  # which versions it speaks, its Open will say again
        self._take = self._begun
        self._be_done_within(BEGIN_SECONDS)
        self._write(self._hello)

    def _begun(self, frame: bytes) -> None:
        """Take in what opens or attaches."""
        if not frame:
            self._pong()
            return
        self._be_done_within(None)
        self._take = self._keep
        self._opening = asyncio.ensure_future(self._dialogue.begin(frame))
        self._opening.add_done_callback(self._opened)

    def _keep(self, frame: bytes) -> None:
        """Keep what comes while the session is being opened: Close, of a client of ours."""
        if not frame:
            self._pong()
            return
        self._early.append(frame)
        self._early_bytes += HEADER.size + len(frame)
        if self._early_bytes > UNREAD_BYTES:
            self._pause_reading()

    def _pong(self) -> None:
        self._owes_pong = True
        self._flush()

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
            self.end()
            return
        self._take = self._request
        try:
            while self._early:
                self._request(self._early.popleft())
        except Exception as error:
            self._fail(error)
        self._read_on()

    def _request(self, frame: bytes) -> None:
        """Take in a request, or a piece of one."""
        if not frame:
            self._pong()
            return
        self._progressed = True
        self._dialogue.receive(frame)
        if self._unwritten.bytes > UNREAD_BYTES and self._unwritten.bytes > self._dialogue.unread_limit:
            self._pause_reading()

    # Writing

    @property
    def unread_bytes(self) -> int:
        """What waits to be written."""
        return self._unwritten.bytes

    def send(self, frame: bytes, sent: Sent = None) -> None:
        """Write `frame` after those before it and then call `sent`; never waits, and raises nothing."""
        if not self._closed:
            self._unwritten.add(frame, sent)
            self._flush()

    def end(self) -> None:
        """End the connection after what was sent."""
        if not self._ending and not self._closed:
            self._ending = True
            self._flush()

    def _write(self, framed: bytes, written: Callable[[], None] | None = None) -> None:
        """Write one frame of the carrier's own; nothing else is being written."""
        self._slices, self._written = iter((framed,)), written
        self._flush()

    def _flush(self) -> None:
        """Write what there is, as far as the socket takes it."""
        if self._blocked or self._closed:
            return
        try:
            for _ in range(TURN_SLICES):
                if not self._slice and not self._next_slice():
                    break
                self._slice = self._slice[self._socket.send(self._slice) :]
            else:
                self._block()  # others have their turn; there may well be room
                return
        except _AGAIN:
            self._block()
            return
        except Exception as error:
            self._loop.call_soon(self._broken, error)  # not from within whoever sends
            self._blocked = True
            return
        if self._ending and not self._said_goodbye:
            self._say_goodbye()

    def _block(self) -> None:
        self._blocked = True
        self._loop.add_writer(self._socket, self._writable)

    def _writable(self) -> None:
        self._blocked = False
        self._heard = True  # who takes what we say is there
        self._loop.remove_writer(self._socket)
        self._flush()

    def _next_slice(self) -> bool:
        """Take the next slice to be written; return whether there is one."""
        while (part := next(self._slices, None)) is None:
            if (written := self._written) is not None:
                self._written = None
                written()
            if self._owes_pong:
                self._owes_pong = False
                self._slices = iter((PING,))
            elif self._unwritten:
                self._slices, self._written = self._next_frame()
            else:
                return False
        self._slice = part
        return True

    def _next_frame(self) -> tuple[Iterator[bytes | memoryview], Callable[[], None]]:
        frame, size, sent = self._unwritten.next()

        def written() -> None:
            self._unwritten.bytes -= size
            for call in sent:
                call()
            if not self._reading and self._unwritten.bytes <= self._dialogue.unread_limit:
                self._read_on()

        return self._sliced(frame), written

    def _sliced(self, frame: bytes) -> Iterator[bytes | memoryview]:
        for message in pieces(frame):
            failpoints.hit("server.frame.write")
            self._counters.sent_bytes += len(message)
            first = SLICE_BYTES - HEADER.size
            if len(message) <= first:
                yield HEADER.pack(len(message)) + message
            else:
                yield b"".join((HEADER.pack(len(message)), memoryview(message)[:first]))
                for at in range(first, len(message), SLICE_BYTES):
                    yield memoryview(message)[at : at + SLICE_BYTES]
            failpoints.hit("server.frame.written")

    # The end

    def _fail(self, error: BaseException) -> None:
        """End the connection by what the client has done, or by a bug of ours; tell the client."""
        self._dialogue.end()
        logger.debug("%s is told why its connection ends: %r", printable(self._peer), error)
        self._deaf = True
        self._unwritten, self._written = Unwritten(), None
        self._ending = True
        self._slices = itertools.chain(self._slices, (pack_ended(Ended(_code(error), str(error))),))
        self._flush()

    def _say_goodbye(self) -> None:
        """Say that nothing follows, and wait until the client has read it."""
        self._said_goodbye = True
        self._dialogue.end()
        self._deaf = True
        self._edge.outlets.discard(self)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._be_done_within(LINGER_SECONDS)
        self._read_on()

    def _broken(self, error: Exception) -> None:
        logger.debug("the connection of %s broke: %s", printable(self._peer), error)
        self.close()

    def look(self, seconds: float) -> None:
        """Take note that `seconds` have passed; end if nothing, or no rest of a message, has come for too long."""
        self._silent_seconds = 0.0 if self._heard else self._silent_seconds + seconds
        self._heard = False
        if self._silent_seconds >= SILENCE_SECONDS:
            logger.warning("%s was silent for %g s: its connection ends", printable(self._peer), self._silent_seconds)
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
        self._loop.remove_writer(self._socket)
        self._edge.outlets.discard(self)
        self._frames.close()
        if self._opening is not None:
            self._opening.cancel()
        self._dialogue.end()
        self._socket.close()
        self._on_closed(self)


def _none() -> int:
    """Return how much a socket without TLS holds back."""
    return 0


def _code(error: BaseException) -> int:
    """Return the gRPC status code that says what `error`, which ends a connection, is."""
    if isinstance(error, ProtocolError):
        return 3  # INVALID_ARGUMENT
    if isinstance(error, RefusalError):
        return 8  # RESOURCE_EXHAUSTED
    return 13  # INTERNAL
