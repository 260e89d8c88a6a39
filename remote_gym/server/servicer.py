"""Server process: the gRPC edge, and nothing else. Bytes of a stream <-> sessions."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import grpc

from remote_gym import failpoints
from remote_gym.errors import ProtocolError
from remote_gym.messages import Attach, Bundle, Lost, Open, Refused
from remote_gym.server.holdings import LIMIT
from remote_gym.server.refusals import RefusalError
from remote_gym.server.session import Session
from remote_gym.server.sessions import Sessions
from remote_gym.server.statistics import Counters
from remote_gym.texts import printable, shortened
from remote_gym.wire.codec import (
    DESCRIBE_METHOD,
    MAX_REQUEST_BYTES,
    SESSION_METHOD,
    Joiner,
    OversizeError,
    pack_description,
    pack_server,
    read_client,
    read_first,
    split,
)

logger = logging.getLogger("remote_gym.server")

UNREAD_BYTES = 1 << 20
"""Refusals and superseded answers that may wait for a client that does not read; a client of ours never has any."""

Context = Any
"""grpc.aio.ServicerContext; its methods are not typed by the library."""

Sent = Callable[[], None] | None
"""To be called once a frame is written."""


BUNDLE_BYTES = 1 << 18
"""Answers that wait while another is written travel as one message up to this size: with an environment per answer, a
message costs more than what it carries. Larger ones gain nothing."""


FRAGMENT_SECONDS = 60.0
"""How long a message may take to come whole, from piece to piece: what has come of it is held meanwhile."""


class StreamOutlet:
    """Frames waiting to be written to one stream. `send` never blocks; `write` is the stream's one writer.

    Bounded by the protocol: an environment has one operation in flight, so for a client that keeps to it at most one
    answer per environment waits here, each of them stored by the session anyway. Of a client that asks for more without
    reading, no more is read (`wait_for_reader`).
    """

    def __init__(self, counters: Counters) -> None:
        """Begin with nothing to send; `counters` count what is written."""
        self._counters = counters
        self._frames: deque[tuple[bytes, Sent]] = deque()
        self._unread_bytes = 0
        self._written = asyncio.Event()
        self._wake = asyncio.Event()
        self._ended = False

    def send(self, frame: bytes, sent: Sent = None) -> None:
        """Queue `frame`; `sent` is called once it is written."""
        self._frames.append((frame, sent))
        self._unread_bytes += len(frame)
        self._wake.set()

    def end(self) -> None:
        """Let `write` return once everything queued is written."""
        self._ended = True
        self._wake.set()

    async def wait_for_reader(self, stored_bytes: Callable[[], int]) -> None:
        """Return once the client has read enough that what waits here is, but for a little, what its session stores."""
        while self._unread_bytes > UNREAD_BYTES and self._unread_bytes > UNREAD_BYTES + stored_bytes():
            self._written.clear()
            await self._written.wait()

    async def write(self, context: Context) -> None:
        """Write frames as they come, until `end`."""
        while True:
            while self._frames:
                frame, size, sent = self._next()
                for message in split(frame, pack_server):
                    failpoints.hit("server.frame.write")
                    self._counters.sent_bytes += len(message)
                    await context.write(message)
                    failpoints.hit("server.frame.written")
                self._unread_bytes -= size
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


class Servicer:
    """The handlers of the service `remote_gym.v1.RemoteGym`."""

    def __init__(self, sessions: Sessions) -> None:
        """Serve the sessions of `sessions`."""
        self._sessions = sessions
        self._outlets: set[StreamOutlet] = set()

    def end_streams(self) -> None:
        """Let every stream end once what is queued for it is written."""
        for outlet in self._outlets:
            outlet.end()

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a gRPC server registers. Messages pass as bytes: `wire` reads and writes them."""
        service, session = SESSION_METHOD[1:].split("/")
        return grpc.method_handlers_generic_handler(
            service,
            {
                session: grpc.stream_stream_rpc_method_handler(self.session),
                DESCRIBE_METHOD.rpartition("/")[2]: grpc.unary_unary_rpc_method_handler(self.describe),
            },
        )

    async def describe(self, _request: bytes, _context: Context) -> bytes:
        """Answer Describe."""
        return pack_description(self._sessions.describe())

    async def session(self, _requests: Any, context: Context) -> None:
        """Carry a session over one stream, until either side ends it."""
        failpoints.hit("server.stream.begun")
        outlet = StreamOutlet(self._sessions.counters)
        peer = printable(unquote(context.peer()))
        self._outlets.add(outlet)
        writer = asyncio.ensure_future(outlet.write(context))
        reader = asyncio.ensure_future(self._read(context, outlet, peer))
        try:
            await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
            if reader.done() and (error := reader.exception()) is not None:
                await context.abort(_status_of(error), shortened(str(error)))
            if reader.done():  # the client will send no more
                outlet.end()
                await writer
        finally:
            self._outlets.discard(outlet)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, context: Context, outlet: StreamOutlet, peer: str) -> None:
        """Read the stream to its end, whatever comes.

        Raises:
            ProtocolError, RefusalError: The stream must end, and why.
        """
        session: Session | None = None
        try:
            data = await context.read()
            if data is grpc.aio.EOF:
                return
            self._sessions.counters.received_bytes += len(data)
            try:
                first = read_first(data)
            except OversizeError as error:
                outlet.send(pack_server(Refused(0, "request", str(error))))
                return
            session = await self._begin(first, outlet, peer)
            if session is not None:
                await self._read_requests(context, outlet, session)
        except (ProtocolError, RefusalError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("a stream failed")
            raise
        finally:
            if session is not None:
                session.detach(outlet)

    async def _read_requests(self, context: Context, outlet: StreamOutlet, session: Session) -> None:
        counters, holdings = self._sessions.counters, self._sessions.holdings
        joiner = Joiner(read_client, MAX_REQUEST_BYTES)
        held = 0  # bytes of a message that has not come whole
        try:
            while (data := await self._next_piece(context, held > 0)) is not grpc.aio.EOF:
                counters.received_bytes += len(data)
                message = joiner.feed(data)
                if joiner.held_bytes != held:
                    self._hold(joiner.held_bytes - held, held)
                    held = joiner.held_bytes
                if message is not None:
                    session.receive(message, outlet)
                    await outlet.wait_for_reader(session.stored_bytes)
        finally:
            holdings.give("fragments", held)

    def _hold(self, more: int, held: int) -> None:
        holdings = self._sessions.holdings
        if more < 0:
            holdings.give("fragments", -more)
        elif not holdings.take("fragments", more, held):
            self._sessions.counters.refusals[LIMIT] += 1
            raise RefusalError(
                LIMIT, f"the server holds {holdings.limit_bytes:,} bytes of unfinished messages: try later"
            )

    @staticmethod
    async def _next_piece(context: Context, within_a_message: bool) -> Any:
        if not within_a_message:
            return await context.read()
        try:
            return await asyncio.wait_for(context.read(), FRAGMENT_SECONDS)
        except asyncio.TimeoutError:
            raise ProtocolError(f"the rest of a message did not come within {FRAGMENT_SECONDS:g} s") from None

    async def _begin(self, message: Open | Attach, outlet: StreamOutlet, peer: str) -> Session | None:
        """Open or attach by the first message of a stream; None if there is no session to carry."""
        if isinstance(message, Open):
            failpoints.hit("server.open.received")
            try:
                session = await self._sessions.open(message, outlet)
            except RefusalError as error:
                self._sessions.counters.refusals[error.limit] += 1
                outlet.send(pack_server(Refused(0, error.limit, str(error), error.failure)))
                return None
            outlet.send(pack_server(session.opened))
            logger.info("%s has opened %r", peer, session)
            return session
        found = self._sessions.attach(message, outlet)
        if isinstance(found, Lost):
            outlet.send(pack_server(found))
            return None
        return found


def _status_of(error: BaseException) -> grpc.StatusCode:
    if isinstance(error, ProtocolError):
        return grpc.StatusCode.INVALID_ARGUMENT
    if isinstance(error, RefusalError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    return grpc.StatusCode.INTERNAL
