"""Server process: what is the same for every carrier: its first message opens or attaches, the others are requests.

Bytes come from a `Carrier` and go to it; how it is listened for, and how it tells its peer of an error, is its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Protocol

from remote_gym import failpoints
from remote_gym.errors import ProtocolError
from remote_gym.messages import Attach, Fragment, Lost, Open, Refused
from remote_gym.server.authentication import Authenticator, StrangerError
from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.carriers.outlet import UNREAD_BYTES, OutletQueue
from remote_gym.server.holdings import Holdings
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.session import Outlet, Session
from remote_gym.server.sessions import Sessions
from remote_gym.server.shares import Place
from remote_gym.server.statistics import Counters
from remote_gym.server.tracing import NOT_RECORDED, BeginningTrace
from remote_gym.texts import printable
from remote_gym.wire.codec import MAX_REQUEST_BYTES, Joiner, OversizeError, pack_server, read_client, read_first

logger = logging.getLogger("remote_gym.server")

BEGIN_SECONDS = 10.0
"""How long a client may take to say what it opens, once there is a carrier: as long as it may take to connect."""

FRAGMENT_SECONDS = 60.0
"""How long a message may take to come whole, from piece to piece: what has come of it is held meanwhile."""


class Carrier(Protocol):
    """One connection, or one call, over which a client's session comes. One reader and one writer use it at a time."""

    @property
    def peer(self) -> str:
        """Who is at the other end, for the log."""

    @property
    def principal(self) -> Principal:
        """Who that is by name; known before anything is read. Raises StrangerError: nobody whom the server takes."""

    @property
    def visitor(self) -> Visitor | None:
        """The connection, as who is let in is decided; None where that is left to gRPC."""

    async def read(self) -> bytes | None:
        """Return the next message or piece; None: the client sends no more. Raises whatever breaks it."""

    async def write(self, message: bytes) -> None:
        """Write one message or piece; waits while the client does not read. Raises whatever breaks it."""


class TooLateError(Exception):
    """A client has not said in time what it wants."""


def code_of(error: BaseException) -> int:
    """Return the code of a gRPC status that tells a client of `error`, which ended its carrier, whichever that was."""
    if isinstance(error, ProtocolError):
        return 3  # INVALID_ARGUMENT
    if isinstance(error, StrangerError):
        return 16  # UNAUTHENTICATED
    if isinstance(error, RefusalError):
        return 8  # RESOURCE_EXHAUSTED
    if isinstance(error, TooLateError):
        return 14  # UNAVAILABLE: a client that was only slow tries again
    return 13  # INTERNAL


class Held:
    """What is held of one message that has not come whole, accounted for among all such."""

    def __init__(self, holdings: Holdings, counters: Counters) -> None:
        """Hold nothing yet."""
        self._holdings = holdings
        self._counters = counters
        self.bytes = 0

    def be(self, size: int) -> None:
        """Hold `size` bytes from now on.

        Raises:
            RefusalError: The server, or its principal, holds too many of unfinished messages.
        """
        more = size - self.bytes
        if more < 0:
            self._holdings.give("fragments", -more)
        elif more:
            full = self._holdings.without_room("fragments", more, self.bytes)
            if full is not None:
                self._counters.refusals[full.limit] += 1
                raise RefusalError(full.limit, f"{full.said('fragments', more)} of unfinished messages: try later")
            self._holdings.take("fragments", more)
        self.bytes = size

    def charge(self, holdings: Holdings) -> None:
        """Let it be held of `holdings` from now on.

        Raises:
            RefusalError: It cannot be; nothing is held then.
        """
        size = self.bytes
        self.be(0)
        self._holdings = holdings
        self.be(size)


class Incoming:
    """Pieces as they come -> a client's messages. Accounts for what is held of one that has not come whole."""

    def __init__(self, holdings: Holdings, counters: Counters) -> None:
        """Hold nothing yet."""
        self._joiner = Joiner(read_client, MAX_REQUEST_BYTES)
        self._counters = counters
        self._held = Held(holdings, counters)

    @property
    def unfinished(self) -> bool:
        """Whether the rest of a message is still to come."""
        return self._held.bytes > 0

    def feed(self, piece: bytes) -> Any:
        """Take in a piece; return the message that is whole with it, or None.

        Raises:
            ProtocolError: It is no message, or too large a one.
            RefusalError: The server holds too many unfinished messages.
        """
        self._counters.received_bytes += len(piece)
        message = read_client(piece)
        if type(message) is Fragment or self._held.bytes:  # else, nearly always, it is whole, and so was the last one
            message = self._joiner.join(message)
            self._held.be(self._joiner.held_bytes)
        return message

    def charge(self, holdings: Holdings) -> None:
        """Let it be held of `holdings` from now on; may raise a RefusalError."""
        self._held.charge(holdings)

    def close(self) -> None:
        """Give back what is held."""
        self._held.be(0)


class Dialogue:
    """What one client says over one carrier, piece by piece, and its session. Knows no carrier.

    Attributes:
        principal: Who the client is; may be told later than here, before `begin`.
        session: The session that is carried; None before `begin`, and if there is none to carry.
    """

    def __init__(
        self,
        sessions: Sessions,
        outlet: Outlet,
        peer: str,
        principal: Principal = ANONYMOUS,
    ) -> None:
        """Begin with nothing said; answers go to `outlet`, `peer` is for the log, and the client is `principal`."""
        failpoints.hit("server.stream.begun")
        self._sessions = sessions
        self._outlet = outlet
        self._peer = printable(peer)
        self.principal = principal
        self._place: Place | None = None
        self._incoming = Incoming(sessions.holdings, sessions.counters)
        self.session: Session | None = None

    async def begin(self, data: bytes) -> None:
        """Open or attach by the first message.

        Raises:
            ProtocolError: It is no message that begins.
            RefusalError: It attaches, and its principal has too many connections.
            Exception: A bug of ours; logged.
        """
        self._sessions.counters.received_bytes += len(data)
        try:
            try:
                first = read_first(data)
            except OversizeError as error:
                self._sessions.events.refused("open", self.principal, self._peer, "request", str(error))
                self._outlet.send(pack_server(Refused(0, "request", str(error))))
                return
            if self._sessions.tracing is None or not first.traceparent:
                await self._begin(first, NOT_RECORDED)
                return
            with self._sessions.tracing.beginning(type(first).__name__.lower(), first) as trace:
                await self._begin(first, trace)
        except Exception as error:
            _log_bug(error)
            raise

    async def _begin(self, first: Open | Attach, trace: BeginningTrace) -> None:
        if isinstance(first, Open):
            await self._open(first, trace)
        else:
            self._attach(first, trace)

    async def _open(self, message: Open, trace: BeginningTrace) -> None:
        failpoints.hit("server.open.received")
        outlet, sessions = self._outlet, self._sessions
        try:
            self._enter()
            self.session = session = await sessions.open(message, outlet, self.principal, self._peer)
        except RefusalError as error:
            sessions.counters.refusals[error.limit] += 1
            sessions.events.refused("open", self.principal, self._peer, error.limit, str(error))
            outlet.send(pack_server(Refused(0, error.limit, str(error), error.failure)))
            trace.refused(error.limit)
        else:
            trace.begun(session.id)
            outlet.send(pack_server(session.opened))
            sessions.announce(session)

    def _enter(self) -> None:
        """Be counted among the connections of the principal, and let what is held be held for it.

        Raises:
            RefusalError: There are too many of them.
        """
        self._place = self._sessions.shares.enter(self.principal)
        self._incoming.charge(self._place.holdings)

    @property
    def holdings(self) -> Holdings:
        """Of what the bytes are held that come with it."""
        return self._sessions.holdings if self._place is None else self._place.holdings

    def _attach(self, message: Attach, trace: BeginningTrace) -> None:
        try:
            self._enter()
        except RefusalError as error:
            self._sessions.counters.refusals[error.limit] += 1
            raise
        before = self._sessions.counters.replayed_answers
        found = self._sessions.attach(message, self._outlet, self.principal, self._peer)
        if isinstance(found, Lost):
            self._sessions.events.refused("attach", self.principal, self._peer, found.reason, found.detail)
            self._outlet.send(pack_server(found))
            trace.refused(found.reason)
        else:
            self.session = found
            self._sessions.announce(found)
            trace.begun(found.id, self._sessions.counters.replayed_answers - before)

    def receive(self, piece: bytes) -> None:
        """Take in a request, or a piece of one; there is a session.

        Raises:
            ProtocolError, RefusalError: The carrier must end, and its client be told why.
            Exception: A bug of ours; logged.
        """
        assert self.session is not None
        try:
            message = self._incoming.feed(piece)
            if message is not None:
                self.session.receive(message, self._outlet)
        except Exception as error:
            if isinstance(error, RefusalError):
                events = self._sessions.events
                events.refused("request", self.principal, self._peer, error.limit, str(error), self.session)
            _log_bug(error)
            raise

    @property
    def unfinished(self) -> bool:
        """Whether the rest of a message is still to come."""
        return self._incoming.unfinished

    @property
    def unread_limit(self) -> int:
        """Bytes that may wait to be written before no more is read: beside what the session stores, not many."""
        return UNREAD_BYTES + (0 if self.session is None else self.session.stored_bytes())

    def end(self) -> None:
        """Take note that the carrier is over; may be called twice."""
        self._incoming.close()
        if self._place is not None:
            self._place.hold.release()
        session, self.session = self.session, None
        if session is not None:
            session.detach(self._outlet)


def _log_bug(error: Exception) -> None:
    """Log `error`, while it is handled, unless it is the client's doing."""
    if not isinstance(error, (ProtocolError, RefusalError)):
        logger.exception("a carrier failed")


class Edge:
    """All carriers of one server, of whatever kind.

    Attributes:
        outlets: Where what is sent to each of them waits; who carries adds its own and takes it away again.
        authenticator: Who may come, and as whom.
    """

    def __init__(self, sessions: Sessions, authenticator: Authenticator | None = None) -> None:
        """Carry the sessions of `sessions`, for whom `authenticator` knows."""
        self.sessions = sessions
        self.authenticator = Authenticator() if authenticator is None else authenticator
        self.outlets: set[Outlet] = set()

    def known(self, peer: str, principal: Callable[[], Principal]) -> Principal:
        """Return the `principal` of a carrier from `peer`.

        Raises:
            StrangerError: It is nobody; counted and logged.
        """
        try:
            return principal()
        except StrangerError as error:
            self.sessions.counters.refusals[error.limit] += 1
            logger.info("%s was refused: %s", printable(peer), printable(str(error), 400))
            raise

    def recheck(self, peer: str, principal: Principal) -> None:
        """Look once more, before `principal` opens or attaches, whether it may; raises and counts as `known`."""

        def again() -> Principal:
            self.authenticator.check(principal)
            return principal

        self.known(peer, again)

    def end_all(self) -> None:
        """Let every carrier end once what is queued for it is written."""
        for outlet in list(self.outlets):
            outlet.end()

    async def carry(self, carrier: Carrier) -> BaseException | None:
        """Carry a session over `carrier`, until either side ends it.

        Returns:
            Why it must end, to be told to the client: a ProtocolError, a RefusalError, or a bug of ours, logged. None:
            all is said.

        Raises:
            Exception: Whatever broke the carrier while something was written.
        """
        outlet = OutletQueue(self.sessions.counters)
        self.outlets.add(outlet)
        writer = asyncio.ensure_future(outlet.write(carrier.write))
        reader = asyncio.ensure_future(self._read(carrier, outlet))
        try:
            await asyncio.wait([reader, writer], return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                if (error := reader.exception()) is not None:
                    return error
                outlet.end()  # the client will send no more
                await writer
            return None
        finally:
            self.outlets.discard(outlet)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, carrier: Carrier, outlet: OutletQueue) -> None:
        """Read the carrier to its end, whatever comes; raises why it must end."""
        dialogue = Dialogue(self.sessions, outlet, carrier.peer)
        visitor: Visitor | None = None
        try:
            dialogue.principal = self.known(carrier.peer, lambda: carrier.principal)
            if (data := await _first_piece(carrier)) is None:
                return
            self.recheck(carrier.peer, dialogue.principal)
            if (visitor := carrier.visitor) is not None:
                visitor.begin_session()
            await dialogue.begin(data)
            if visitor is not None and dialogue.session is not None:
                visitor.got_session()
            while dialogue.session is not None:
                if (piece := await _next_piece(carrier, dialogue.unfinished)) is None:
                    return
                dialogue.receive(piece)
                if outlet.unread_bytes > UNREAD_BYTES:
                    await outlet.wait_for_reader(lambda: dialogue.unread_limit)
        finally:
            dialogue.end()
            if visitor is not None:
                visitor.end_session()


async def _first_piece(carrier: Carrier) -> bytes | None:
    return await _read_within(carrier, BEGIN_SECONDS, TooLateError(f"nothing was opened within {BEGIN_SECONDS:g} s"))


async def _next_piece(carrier: Carrier, within_a_message: bool) -> bytes | None:
    if not within_a_message:
        return await carrier.read()
    late = ProtocolError(f"the rest of a message did not come within {FRAGMENT_SECONDS:g} s")
    return await _read_within(carrier, FRAGMENT_SECONDS, late)


async def _read_within(carrier: Carrier, seconds: float, late: Exception) -> bytes | None:
    """Read; raise `late` if nothing comes in time.

    Until Python 3.12 `asyncio.wait_for` goes on when it is cancelled just as something comes.
    """
    reading = asyncio.ensure_future(carrier.read())
    try:
        await asyncio.wait([reading], timeout=seconds)
        if reading.done():
            return reading.result()
        raise late
    finally:
        reading.cancel()
