"""Server process: what is the same for every carrier: its first message opens or attaches, the others are requests.

Bytes come from a `Carrier` and go to it; how it is listened for, and how it tells its peer of an error, is its own.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Protocol

from remote_gym import failpoints
from remote_gym.errors import ProtocolError
from remote_gym.messages import Attach, Lost, Open, Refused
from remote_gym.server.carriers.outlet import UNREAD_BYTES, OutletQueue
from remote_gym.server.holdings import LIMIT, Holdings
from remote_gym.server.refusals import RefusalError
from remote_gym.server.session import Session
from remote_gym.server.sessions import Sessions
from remote_gym.server.statistics import Counters
from remote_gym.texts import printable
from remote_gym.wire.codec import MAX_REQUEST_BYTES, Joiner, OversizeError, pack_server, read_client, read_first

logger = logging.getLogger("remote_gym.server")

FRAGMENT_SECONDS = 60.0
"""How long a message may take to come whole, from piece to piece: what has come of it is held meanwhile."""


class Carrier(Protocol):
    """One connection, or one call, over which a client's session comes. One reader and one writer use it at a time."""

    @property
    def peer(self) -> str:
        """Who is at the other end, for the log."""

    async def read(self) -> bytes | None:
        """Return the next message or piece; None: the client sends no more. Raises whatever breaks it."""

    async def write(self, message: bytes) -> None:
        """Write one message or piece; waits while the client does not read. Raises whatever breaks it."""


class Incoming:
    """Pieces as they come -> a client's messages. Accounts for what is held of one that has not come whole."""

    def __init__(self, holdings: Holdings, counters: Counters) -> None:
        """Hold nothing yet."""
        self._joiner = Joiner(read_client, MAX_REQUEST_BYTES)
        self._holdings = holdings
        self._counters = counters
        self._held = 0

    @property
    def unfinished(self) -> bool:
        """Whether the rest of a message is still to come."""
        return self._held > 0

    def feed(self, piece: bytes) -> Any:
        """Take in a piece; return the message that is whole with it, or None.

        Raises:
            ProtocolError: It is no message, or too large a one.
            RefusalError: The server holds too many unfinished messages.
        """
        self._counters.received_bytes += len(piece)
        message = self._joiner.feed(piece)
        if self._joiner.held_bytes != self._held:
            self._account(self._joiner.held_bytes - self._held)
        return message

    def _account(self, more: int) -> None:
        if more < 0:
            self._holdings.give("fragments", -more)
        elif not self._holdings.take("fragments", more, self._held):
            self._counters.refusals[LIMIT] += 1
            raise RefusalError(
                LIMIT, f"the server holds {self._holdings.limit_bytes:,} bytes of unfinished messages: try later"
            )
        self._held += more

    def close(self) -> None:
        """Give back what is held."""
        self._holdings.give("fragments", self._held)
        self._held = 0


class Edge:
    """All carriers of one server, of whatever kind."""

    def __init__(self, sessions: Sessions) -> None:
        """Carry the sessions of `sessions`."""
        self.sessions = sessions
        self._outlets: set[OutletQueue] = set()

    def end_all(self) -> None:
        """Let every carrier end once what is queued for it is written."""
        for outlet in self._outlets:
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
        self._outlets.add(outlet)
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
            self._outlets.discard(outlet)
            reader.cancel()
            writer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, carrier: Carrier, outlet: OutletQueue) -> None:
        """Read the carrier to its end, whatever comes; raises why it must end."""
        session: Session | None = None
        try:
            data = await carrier.read()
            if data is None:
                return
            self.sessions.counters.received_bytes += len(data)
            try:
                first = read_first(data)
            except OversizeError as error:
                outlet.send(pack_server(Refused(0, "request", str(error))))
                return
            session = await self._begin(first, outlet, carrier.peer)
            if session is not None:
                await self._read_requests(carrier, outlet, session)
        except (ProtocolError, RefusalError, asyncio.CancelledError):
            raise
        except Exception:
            logger.exception("a stream failed")
            raise
        finally:
            if session is not None:
                session.detach(outlet)

    async def _begin(self, message: Open | Attach, outlet: OutletQueue, peer: str) -> Session | None:
        """Open or attach by the first message; None if there is no session to carry."""
        if isinstance(message, Open):
            failpoints.hit("server.open.received")
            try:
                session = await self.sessions.open(message, outlet)
            except RefusalError as error:
                self.sessions.counters.refusals[error.limit] += 1
                outlet.send(pack_server(Refused(0, error.limit, str(error), error.failure)))
                return None
            outlet.send(pack_server(session.opened))
            logger.info("%s has opened %r", printable(peer), session)
            return session
        found = self.sessions.attach(message, outlet)
        if isinstance(found, Lost):
            outlet.send(pack_server(found))
            return None
        return found

    async def _read_requests(self, carrier: Carrier, outlet: OutletQueue, session: Session) -> None:
        incoming = Incoming(self.sessions.holdings, self.sessions.counters)
        try:
            while (piece := await _next_piece(carrier, incoming.unfinished)) is not None:
                message = incoming.feed(piece)
                if message is not None:
                    session.receive(message, outlet)
                    if outlet.unread_bytes > UNREAD_BYTES:
                        await outlet.wait_for_reader(session.stored_bytes)
        finally:
            incoming.close()


async def _next_piece(carrier: Carrier, within_a_message: bool) -> bytes | None:
    if not within_a_message:
        return await carrier.read()
    try:
        return await asyncio.wait_for(carrier.read(), FRAGMENT_SECONDS)
    except asyncio.TimeoutError:
        raise ProtocolError(f"the rest of a message did not come within {FRAGMENT_SECONDS:g} s") from None
