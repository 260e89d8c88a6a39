"""Server process: one session. Its life, its numbers and its stream; knows the ledger, and no gRPC.

Everything runs on the server's event loop. A session's work belongs to the session, not to the stream that asked for
it: when the stream breaks the work goes on and its answers are stored.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from remote_gym import failpoints
from remote_gym.errors import ProtocolError
from remote_gym.figures import Totals
from remote_gym.messages import (
    Attach,
    Attached,
    Call,
    ClientMessage,
    Close,
    Closed,
    Indices,
    Lost,
    Open,
    Opened,
    Refused,
    Render,
    Request,
)
from remote_gym.pool import Block, Pool, WorkerLost
from remote_gym.server.checks import Order, RequestChecker
from remote_gym.server.episodes import Episodes
from remote_gym.server.events import Events
from remote_gym.server.holdings import Holdings, StoredResults
from remote_gym.server.isolation import tenant_of
from remote_gym.server.ledger import BusyError, Ledger, OutOfOrderError, SessionEvent, SessionState
from remote_gym.server.losses import Losses
from remote_gym.server.opening import Opening
from remote_gym.server.permissions import NOBODYS, Permissions
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.scatter import Scatter
from remote_gym.server.settings import Settings
from remote_gym.server.statistics import KINDS, Counters
from remote_gym.texts import shortened
from remote_gym.wire.codec import pack_server

logger = logging.getLogger("remote_gym.server")


class Outlet(Protocol):
    """Where a session's frames go: one stream."""

    def send(self, frame: bytes, sent: Callable[[], None] | None = None) -> None:
        """Send `frame` after those before it and then call `sent`; never blocks."""

    def end(self) -> None:
        """End the stream after what was sent."""


class Session:
    """One client's hold on some environments. Relies on: all methods are called on the event loop."""

    def __init__(
        self,
        message: Open,
        kwargs: bytes,
        settings: Settings,
        pool: Pool,
        counters: Counters,
        holdings: Holdings,
        on_gone: Callable[[Session], None],
        principal: Principal = ANONYMOUS,
        permissions: Permissions = NOBODYS,
        peer: str = "",
        events: Events | None = None,
    ) -> None:
        """Prepare; `open` builds the environments. `on_gone` is called once, when the session has ended."""
        self.principal = principal  # who opened it, and alone may come back to it
        self.peer = peer  # who carries it, or did last, for the log
        self.began = time.monotonic()
        self.revoked: Lost | None = None  # by the server's owner, while it was being opened: what its client is told
        self._events = Events() if events is None else events
        self.id, self.token = secrets.token_bytes(16), secrets.token_bytes(32)
        self.nonce = message.nonce
        self.num_envs = message.num_envs
        self.autoreset_mode = message.autoreset_mode
        self.ledger = Ledger(message.num_envs)
        self.reason: Lost | None = None
        self.draining = False
        tenant = tenant_of(settings.isolation, principal.name, self.id)
        self.left_at: float | None = None  # on the monotonic clock, when its client has left; None: it is there
        own = settings.lease_of(principal)
        self.lease_seconds = min(own, message.lease_seconds) if message.lease_seconds else own
        self._opening = Opening(
            message, kwargs, settings, pool, tenant, settings.workers_of(principal), permissions.kept_kwargs
        )
        self._permissions = permissions
        self._scatter: Scatter | None = None  # once they are built
        self._reply_early = message.reply_early
        self._results = StoredResults(self.ledger, holdings)
        self.episodes = Episodes(message.num_envs, message.autoreset_mode, counters)
        self._counters = counters
        self._on_gone = on_gone
        self._outlet: Outlet | None = None
        self._lease: asyncio.TimerHandle | None = None

    # Life

    async def open(self, server_epoch: bytes, protocol: int) -> None:
        """Build the environments; `opened` then says what to tell the client. No stream carries the session yet.

        Raises:
            RefusalError: An environment could not be built, or memory was refused; nothing is left behind.
        """
        opening, losses = self._opening, Losses(self._opening)
        try:
            described = await opening.open(losses.worker_replaced, partial(self._worker_died, losses))
        except BaseException:
            self.ledger.apply(SessionEvent.OPEN_FAILED)
            self._release()
            raise
        self.episodes.attach(opening.rows, opening.is_vector)
        self._scatter = Scatter(
            opening, losses, self._reply_early, self._counters, self._answered, self._failed, self.episodes
        )
        space = opening.layout.action_space
        self._checker = RequestChecker(self.num_envs, space, opening.is_vector, self._permissions)
        self.opened = Opened(
            protocol=protocol,
            session_id=self.id,
            token=self.token,
            server_epoch=server_epoch,
            lease_seconds=self.lease_seconds,
            env_ids=[env_id for block in opening.blocks for env_id in block.env_ids],
            actions_as_given=True,
            kept_kwargs=self._permissions.kept_kwargs,
            **described._asdict(),
        )
        self.ledger.apply(SessionEvent.OPENED)

    def _worker_died(self, losses: Losses, block: Block, lost: WorkerLost) -> None:
        losses.worker_died(block, lost)
        self.episodes.lost(range(block.first, block.stop))

    def take_over(self, outlet: Outlet) -> None:
        """Let `outlet` carry the session from now on; an older stream that still lives is fenced."""
        is_back = self._outlet is not None or self.ledger.state is SessionState.DETACHED
        if self._outlet is not None:
            self._outlet.send(pack_server(Lost("FENCED", "another stream has attached to this session")))
            self._outlet.end()
        self.ledger.apply(SessionEvent.ATTACH)
        self._stop_lease()
        self.left_at = None
        self._outlet = outlet
        if is_back:
            self._events.back(self)

    def attach(self, message: Attach, outlet: Outlet) -> None:
        """Take over and send Attached and what the client misses.

        Raises:
            ProtocolError: The client misses what it has proven to have read.
        """
        replay = self.ledger.replay(message.missing)
        self.take_over(outlet)
        failpoints.hit("server.attach.bound")
        outlet.send(pack_server(Attached(self.ledger.highest, self.lease_seconds)))
        self._counters.attaches += 1
        self._counters.replayed_answers += len(replay.frames)
        for frame in replay.frames:
            self._send(frame)

    def detach(self, outlet: Outlet | None) -> None:
        """Begin the lease if `outlet` was the stream, or None if there was none, that carried this session."""
        if self._outlet is not outlet or self.ledger.state is not SessionState.ATTACHED:
            return
        failpoints.hit("server.stream.ended")
        self._outlet = None
        self.left_at = time.monotonic()
        self.ledger.apply(SessionEvent.STREAM_ENDED)
        self._events.gone(self, self.lease_seconds)
        self._lease = asyncio.get_running_loop().call_later(self.lease_seconds, self._expire)

    def _expire(self) -> None:
        failpoints.hit("server.lease.ended")
        self.ledger.apply(SessionEvent.EXPIRE)
        self._end(Lost("EXPIRED", f"no stream for {self.lease_seconds:g} s"))

    def give_way(self, detail: str) -> None:
        """End before the lease does; its client, which has left, is told `detail` if it comes back."""
        self.ledger.apply(SessionEvent.EXPIRE)
        self._end(Lost("GAVE_WAY", detail))

    def _stop_lease(self) -> None:
        if self._lease is not None:
            self._lease.cancel()
            self._lease = None

    def close(self) -> None:
        """End the session at its client's wish."""
        self.ledger.apply(SessionEvent.CLOSE)
        self._end(Lost("CLOSED", "the client closed it"), pack_server(Closed()))

    def revoke(self, detail: str, reason: str = "REVOKED") -> None:
        """End the session at the wish of the server's owner; its client is told `reason` and `detail`, and stays away.

        One that is being opened ends as soon as it is: who opens it looks at `revoked`.
        """
        lost = Lost(reason, detail)
        if self.ledger.state is SessionState.OPENING:
            self.revoked = lost
            return
        self.ledger.apply(SessionEvent.REVOKE)
        self._end(lost)

    def _break(self, detail: str) -> None:
        self.ledger.apply(SessionEvent.BREAK)
        self._end(Lost("BROKEN", detail))

    def _end(self, reason: Lost, farewell: bytes | None = None) -> None:
        self.reason = reason
        self._stop_lease()
        if self._outlet is not None:
            self._outlet.send(pack_server(reason) if farewell is None else farewell)
            self._outlet.end()
            self._outlet = None
        self._release()

    def _release(self) -> None:
        if self._scatter is not None:
            self._scatter.release()
        self.episodes.release()
        self._opening.release()
        self._results.clear()
        self._on_gone(self)

    def totals(self) -> Totals:
        """Return what it has counted."""
        return self.episodes.totals(self.requests)

    @property
    def render_mode(self) -> str | None:
        """Of its environments, once they are built; None: none."""
        return None if self._scatter is None else self.opened.render_mode

    @property
    def is_vector(self) -> bool:
        """Whether it is one hosted vector environment."""
        return self._opening.is_vector

    @property
    def requests(self) -> int:
        """How many it was sent."""
        return self.ledger.highest

    @property
    def blocks(self) -> Sequence[Block]:
        """Where its environments live; empty before they are placed, and once it has ended."""
        return self._opening.blocks

    @property
    def kept_seconds(self) -> float | None:
        """How long it will be kept for its client to come back; None while that is there."""
        return None if self._lease is None else self._lease.when() - asyncio.get_running_loop().time()

    @property
    def running(self) -> int:
        """How many requests wait for workers."""
        return 0 if self._scatter is None else self._scatter.running

    @property
    def idle(self) -> bool:
        """Whether no operation is in flight."""
        return self.running == 0

    def stored_bytes(self) -> int:
        """Return the size of all answers that are kept for the client."""
        return self.ledger.stored_bytes

    # Requests and answers

    def receive(self, message: ClientMessage, outlet: Outlet) -> None:
        """Take in one message of the stream of `outlet`.

        Raises:
            ProtocolError: It begins a session where one is.
        """
        if isinstance(message, (Open, Attach)):
            raise ProtocolError(f"{type(message).__name__} within a session: a stream carries one session")
        if self.ledger.state is not SessionState.ATTACHED or self._outlet is not outlet:
            return  # it was in flight when the session ended, or was taken over: then the new stream brings it again
        if isinstance(message, Close):
            failpoints.hit("server.close.received")
            self.close()
            return
        failpoints.hit("server.request.received")
        try:
            self.ledger.next_number(message.number)
        except OutOfOrderError as error:
            self._break(str(error))
            return
        try:
            if self.draining:
                raise RefusalError("draining", "the server is going away: it takes no new requests")
            order = self._checker.check(message)
            self.ledger.admit(message.number, message.indices)
        except BusyError as error:
            self._refuse(message.number, "in_flight", str(error))
        except RefusalError as error:
            self._refuse(message.number, error.limit, str(error))
        else:
            self._counters.requests[KINDS[type(message)]] += 1
            if self._results.frames:
                self._results.prune()
            self._run(message, order)

    def _run(self, message: Request, order: Order) -> None:
        assert self._scatter is not None
        try:
            failpoints.hit("server.request.admitted")
            self._scatter.run(message, order)
        except Exception as error:
            self._failed(error)
        else:
            failpoints.hit("server.request.dispatched")

    def _failed(self, error: Exception) -> None:
        """End the session by a bug of ours: what was admitted will never be answered, and nobody waits in vain."""
        logger.error("a request of %r failed", self, exc_info=error)
        if self.ledger.state is not SessionState.GONE:
            self._break(f"internal error: {shortened(repr(error), 200)}")

    def _refuse(self, number: int, limit: str, message: str) -> None:
        self._counters.refusals[limit] += 1
        self._events.refused("request", self.principal, self.peer, limit, message, self)
        frame = pack_server(Refused(number, limit, message))
        self.ledger.refuse(number, frame)
        self._send(frame)

    def _answered(self, request: Request, indices: Indices, frame: bytes) -> None:
        failpoints.hit("server.answer.ready")
        number = request.number
        if isinstance(request, (Call, Render)) and not self._results.keep(number, frame):
            frame = self._results.refusal(number, len(frame))
        self.ledger.answer(number, indices, frame)  # stored first, then sent
        failpoints.hit("server.answer.stored")
        self._send(frame)

    def _send(self, frame: bytes) -> None:
        if self._outlet is not None:
            number = self._results.number_of(frame) if self._results.frames else 0
            self._outlet.send(frame, partial(self._results.sent, number) if number else None)

    def __repr__(self) -> str:
        """Return what an operator wants to know."""
        return (
            f"<Session {self.id.hex()[:8]} [{self.num_envs} envs, {self.ledger.state.value}, request "
            f"{self.ledger.highest}, {self.running} running, {self.ledger.stored_bytes} bytes stored]>"
        )
