"""Server process: all sessions of one server. Admission, look-up, draining; no gRPC."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections import OrderedDict
from typing import Any

from remote_gym import autoreset, failpoints, observation_modes
from remote_gym.compression import NAMES, codec
from remote_gym.errors import MisuseError, ProtocolError
from remote_gym.messages import Attach, Description, Lost, Open
from remote_gym.pool import Pool, check_descriptors
from remote_gym.server.checks import surveyed_kwargs
from remote_gym.server.events import Events
from remote_gym.server.holdings import LIMIT, Holdings
from remote_gym.server.json_lines import FIELDS
from remote_gym.server.opening import Opening
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.session import Outlet, Session
from remote_gym.server.settings import Settings
from remote_gym.server.statistics import Counters, Histogram
from remote_gym.server.trimming import Trimmer
from remote_gym.version import __version__
from remote_gym.wire.codec import MAX_KWARGS_BYTES, MAX_MESSAGE_BYTES, PROTOCOL_MAX, PROTOCOL_MIN, common_protocol

logger = logging.getLogger("remote_gym.server")

MAX_TOMBSTONES = 1_024
"""Ended sessions whose reason is remembered, so that a client that comes back late gets the exact one."""

_MODES = (autoreset.NONE, "NextStep", "SameStep", "Disabled")


def _detach(building: asyncio.Task[Session]) -> None:
    """Begin the lease of a session that was opened for a stream which is no more."""
    if not building.cancelled() and building.exception() is None:
        building.result().detach(None)


def _check_compression(name: str) -> None:
    """Refuse what this server's workers, which have its libraries, cannot do."""
    if name not in NAMES:
        raise RefusalError("request", f"unknown compression {name!r}: upgrade the server")
    try:
        codec(name)
    except MisuseError as error:
        raise RefusalError("compression", f"the server cannot compress: {error}") from error


def _check_descriptors() -> None:
    """Refuse a session that would take the last file descriptors."""
    try:
        check_descriptors()
    except OSError as error:
        raise RefusalError(
            "descriptors",
            f"the server has no file descriptors left for another session ({error.strerror}): its owner may raise the "
            f"limit (ulimit -n), or others may close theirs",
        ) from error


class Sessions:
    """The sessions, the pool they share and the limits they meet."""

    def __init__(self, settings: Settings, events: Events | None = None) -> None:
        """Prepare; `start` starts the workers. What happens is told to `events`."""
        self.settings = settings
        self.events = Events() if events is None else events
        self.epoch = secrets.token_bytes(16)
        self.serving = False  # whether anybody could have come
        self.draining = False
        self.counters = Counters()
        self.holdings = Holdings(settings.max_held_bytes, Trimmer().freed)
        self.pool = Pool(
            settings.num_workers,
            settings.max_envs_per_worker,
            settings.timeouts,
            settings.restart_budget,
            settings.worker_limit,
            settings.surroundings,
        )
        self.by_id: dict[bytes, Session] = {}
        self.opening: set[Session] = set()
        self._by_nonce: dict[bytes, asyncio.Task[Session]] = {}
        self._tombstones: OrderedDict[bytes, Lost] = OrderedDict()
        self._reserved = 0  # environments of sessions that are being opened

    async def start(self, probe: bool) -> None:
        """Start the workers; with `probe`, build one environment to find out whether it can be.

        Raises:
            RefusalError: It cannot; says why.
            OSError, MemoryError: The workers could not be started.
        """
        await self.pool.start()
        if probe:
            opening = Opening(Open(1, 1, b"", 1), b"", self.settings, self.pool)
            await self.pool.probe((b"", None), opening.probe)

    def begin_serving(self, addresses: list[str]) -> None:
        """Take note that clients can come, at `addresses`."""
        self.serving = True
        self.events.serving(addresses)

    async def open(self, message: Open, outlet: Outlet, principal: Principal = ANONYMOUS, peer: str = "") -> Session:
        """Return the session for `message`, new or, for a nonce already seen, the same as before; sends Opened.

        Args:
            message: What the client asks for.
            outlet: Where its answers go.
            principal: Who the client is.
            peer: Where it is, for the log.

        Raises:
            RefusalError: A limit, a rule or a failed build; nothing is left behind.
        """
        building = self._by_nonce.get(message.nonce)
        if building is None:
            kwargs, protocol = self._admit(message)
            self._reserved += message.num_envs
            building = self._by_nonce[message.nonce] = asyncio.ensure_future(
                self._build(message, kwargs, protocol, principal, peer)
            )
        try:
            session = await asyncio.shield(building)
        except asyncio.CancelledError:
            # A stream that breaks meanwhile does not stop the building: its client comes back with the same nonce.
            building.add_done_callback(_detach)
            raise
        if session.reason is not None:
            raise RefusalError("ended", session.reason.detail)
        session.peer = peer
        session.take_over(outlet)
        failpoints.hit("server.open.answered")
        return session

    async def _build(self, message: Open, kwargs: bytes, protocol: int, principal: Principal, peer: str) -> Session:
        session = Session(
            message, kwargs, self.settings, self.pool, self.counters, self.holdings, self._gone, principal, peer,
            self.events,
        )  # fmt: skip
        self.opening.add(session)
        try:
            await session.open(self.epoch, protocol)
        except BaseException:
            self._by_nonce.pop(message.nonce, None)
            raise
        finally:
            self.opening.discard(session)
            self._reserved -= message.num_envs
        failpoints.hit("server.open.built")
        self.by_id[session.id] = session
        self.counters.opened_sessions += 1
        self.events.opened(session, message.client_version)
        if session.revoked is not None:
            session.revoke(session.revoked)
        return session

    def _admit(self, message: Open) -> tuple[bytes, int]:
        """Check `message` against every limit and rule; return the packed kwargs and the protocol version."""
        settings = self.settings
        try:
            protocol = common_protocol((message.protocol_min, message.protocol_max), "client")
        except ProtocolError as error:
            raise RefusalError("protocol", str(error)) from error
        if self.draining:
            raise RefusalError("draining", "the server is going away: it takes no new sessions")
        if message.num_envs < 1:
            raise RefusalError("request", "num_envs must be at least 1")
        if message.autoreset_mode not in _MODES:
            raise RefusalError("request", f"unknown autoreset mode {message.autoreset_mode!r}: upgrade the server")
        if message.observation_mode not in observation_modes.MODES:
            raise RefusalError("request", f"unknown observation mode {message.observation_mode!r}: upgrade the server")
        if len(message.nonce) != 16:
            raise RefusalError("request", "nonce must be 16 bytes")
        if len(self._by_nonce) >= settings.max_sessions:
            raise RefusalError("max_sessions", f"the server holds its limit of {settings.max_sessions} sessions")
        held = sum(session.num_envs for session in self.by_id.values()) + self._reserved
        if held + message.num_envs > settings.max_envs:
            raise RefusalError(
                "max_envs",
                f"{message.num_envs} environments were asked for, the server has room for {settings.max_envs - held} "
                f"of its limit of {settings.max_envs}",
            )
        if message.compression is not None:
            _check_compression(message.compression)
        kwargs = self._kwargs(message)
        _check_descriptors()
        if not self.holdings.take("kwargs", len(kwargs)):  # the last to be asked: it must be given back
            raise RefusalError(LIMIT, f"the server holds {self.holdings.limit_bytes:,} bytes of its clients' kwargs")
        return kwargs, protocol

    def _kwargs(self, message: Open) -> bytes:
        """Return the client's packed keyword arguments, after a look at their size and names."""
        packed = bytes(message.entrypoint_kwargs)
        if len(packed) > MAX_KWARGS_BYTES:
            raise RefusalError(
                "request",
                f"remote_args['entrypoint_kwargs'] take {len(packed):,} bytes, the limit is {MAX_KWARGS_BYTES:,}: put "
                f"large values in a file that the entrypoint reads",
            )
        names = surveyed_kwargs(packed) if packed else []
        if names and not self.settings.allow_client_kwargs:
            raise RefusalError("allow_client_kwargs", "the server's owner allows no entrypoint_kwargs from clients")
        return packed if names else b""

    def attach(
        self, message: Attach, outlet: Outlet, principal: Principal = ANONYMOUS, peer: str = ""
    ) -> Session | Lost:
        """Bind `outlet` to the session that `message` names, or return why `principal` has none.

        Raises:
            ProtocolError: The client misses what it has proven to have read.
        """
        failpoints.hit("server.attach.received")
        if message.server_epoch != self.epoch:
            return Lost("SERVER_RESTARTED", "the server was started anew; its environments are gone")
        session = self.by_id.get(message.session_id)
        if session is None:
            return self._tombstones.get(message.session_id) or Lost("EXPIRED", "the server knows no such session")
        if not hmac.compare_digest(session.token, message.token):
            return Lost("EXPIRED", "the server knows no such session")  # the same words: a guess learns nothing
        before, session.peer = session.peer, peer
        try:
            session.attach(message, outlet)
        except ProtocolError:
            session.peer = before
            raise
        return session

    def _gone(self, session: Session) -> None:
        self._by_nonce.pop(session.nonce, None)
        self.holdings.give("kwargs", session.kwargs_bytes)
        if self.by_id.pop(session.id, None) is not None and session.reason is not None:
            self.events.ended(session, session.reason)
            self._tombstones[session.id] = session.reason
            while len(self._tombstones) > MAX_TOMBSTONES:
                self._tombstones.popitem(last=False)

    async def drain(self, grace_seconds: float) -> None:
        """Refuse what is new and wait, at most `grace_seconds`, until nothing runs; what is left then ends."""
        self.draining = True
        failpoints.hit("server.drain.begun")
        for session in self.by_id.values():
            session.draining = True
        if self.serving:
            told = {"event": "draining", "sessions": len(self.by_id)}
            logger.info("draining: refusing what is new, %d sessions", len(self.by_id), extra={FIELDS: told})
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_seconds
        while loop.time() < deadline and not all(session.idle for session in self.by_id.values()):
            await asyncio.sleep(0.01)
        self.events.stopping(list(self.by_id.values()))

    async def stop(self) -> None:
        """End all workers; bounded in time."""
        await self.pool.stop()

    def describe(self) -> Description:
        """Return what this server is and what it has room for."""
        return Description(
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            version=__version__,
            num_workers=self.settings.num_workers,
            max_envs=self.settings.max_envs,
            envs=sum(session.num_envs for session in self.by_id.values()),
            max_sessions=self.settings.max_sessions,
            sessions=len(self.by_id),
            max_message_bytes=MAX_MESSAGE_BYTES,
            draining=self.draining,
            server_epoch=self.epoch,
        )


def collect(sessions: Sessions) -> dict[str, Any]:
    """Return what `RemoteEnvironmentServer.statistics` documents."""
    description, counters, pool = sessions.describe(), sessions.counters, sessions.pool
    return {
        "sessions": description.sessions,
        "envs": description.envs,
        "workers": len(pool.workers),
        "max_sessions": description.max_sessions,
        "max_envs": description.max_envs,
        "draining": description.draining,
        "worker_processes": [worker.pid for worker in pool.workers],
        "stored_reply_bytes": sum(session.ledger.stored_bytes for session in sessions.by_id.values()),
        "held_bytes": dict(sessions.holdings.bytes),
        "max_held_bytes": sessions.holdings.limit_bytes,
        "event_loop_lag_last_seconds": counters.last_loop_lag_seconds,
        "opened_sessions": counters.opened_sessions,
        "requests": dict(counters.requests),
        "env_steps": counters.env_steps,
        "worker_restarts": pool.restarts,
        "attaches": counters.attaches,
        "replayed_answers": counters.replayed_answers,
        "refusals": dict(counters.refusals),
        "received_bytes": counters.received_bytes,
        "sent_bytes": counters.sent_bytes,
        "step_seconds": _histogram(counters.step_seconds),
        "event_loop_lag_seconds": _histogram(counters.loop_lag_seconds),
    }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {"buckets": histogram.cumulative(), "sum": histogram.total}
