"""Server process: all sessions of one server. Admission, look-up, draining; no gRPC."""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
from collections import OrderedDict
from functools import partial
from typing import Any, NamedTuple

from remote_gym import autoreset, failpoints, observation_modes
from remote_gym.compression import NAMES, codec
from remote_gym.errors import MisuseError, ProtocolError
from remote_gym.messages import Attach, Description, Lost, Open
from remote_gym.pool import Pool, WorkerLost, WorkerProcess, check_descriptors
from remote_gym.server.checks import surveyed_kwargs
from remote_gym.server.deaths import Deaths
from remote_gym.server.ended_totals import EndedTotals
from remote_gym.server.events import Events
from remote_gym.server.holdings import Holdings
from remote_gym.server.isolation import warm_seconds
from remote_gym.server.json_lines import FIELDS
from remote_gym.server.opening import Opening
from remote_gym.server.permissions import OWNER, Permissions
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.session import Outlet, Session
from remote_gym.server.settings import Settings
from remote_gym.server.shares import Hold, Shares
from remote_gym.server.statistics import Counters, Histogram
from remote_gym.server.tracing import Tracing
from remote_gym.server.trimming import Trimmer
from remote_gym.texts import printable
from remote_gym.version import __version__
from remote_gym.wire.codec import MAX_KWARGS_BYTES, MAX_MESSAGE_BYTES, PROTOCOL_MAX, PROTOCOL_MIN, common_protocol

logger = logging.getLogger("remote_gym.server")

MAX_TOMBSTONES = 1_024
"""Ended sessions whose reason is remembered, so that a client that comes back late gets the exact one."""

HANDOVER_LOOK_SECONDS = 0.05
"""How often to look whether all sessions have gone."""

_MODES = (autoreset.NONE, "NextStep", "SameStep", "Disabled")


def _detach(building: asyncio.Task[Session]) -> None:
    """Begin the lease of a session that was opened for a stream which is no more."""
    if not building.cancelled() and building.exception() is None:
        building.result().detach(None)


def _release_unless_built(hold: Hold, building: asyncio.Task[Session]) -> None:
    """Give back what was taken for a session that there is not, whatever it is that has kept it from being built."""
    if building.cancelled() or building.exception() is not None:
        hold.release()


def _check_compression(name: str) -> None:
    """Refuse what this server's workers, which have its libraries, cannot do."""
    if name not in NAMES:
        raise RefusalError("request", f"unknown compression {name!r}: upgrade the server")
    try:
        codec(name)
    except MisuseError as error:
        raise RefusalError("compression", f"the server cannot compress: {error}") from error


def _kwargs(message: Open, permissions: Permissions, settings: Settings) -> tuple[bytes, Permissions]:
    """Return the client's packed keyword arguments, after a look at their size and names, and its permissions then."""
    packed = bytes(message.entrypoint_kwargs)
    if len(packed) > MAX_KWARGS_BYTES:
        raise RefusalError(
            "request",
            f"remote_args['entrypoint_kwargs'] take {len(packed):,} bytes, the limit is {MAX_KWARGS_BYTES:,}: put "
            f"large values in a file that the entrypoint reads",
        )
    names = surveyed_kwargs(packed) if packed else []
    permissions = permissions.sift_kwargs(names, settings.entrypoint_kwargs)
    if kept := permissions.kept_kwargs:
        logger.warning("the owner's own stand where a client gives %s too", printable(", ".join(kept)))
    return packed if set(names).difference(kept) else b"", permissions


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


class Admitted(NamedTuple):
    """A session that may be opened: its packed kwargs, what its client may touch, and what was taken for it."""

    kwargs: bytes
    permissions: Permissions
    protocol: int
    hold: Hold


class Sessions:
    """The sessions, the pool they share and the limits they meet."""

    def __init__(self, settings: Settings, events: Events | None = None, tracing: Tracing | None = None) -> None:
        """Prepare; `start` starts the workers. What happens is told to `events`, what is traced to `tracing`."""
        self.tracing = tracing
        self.settings = settings
        self.events = Events() if events is None else events
        self.epoch = secrets.token_bytes(16)
        self.serving = False  # whether anybody could have come
        self.draining = False
        self._handover_ends = 0.0  # on the loop's clock: until then sessions go on, once it drains
        self.counters = Counters()
        self.holdings = Holdings(settings.max_held_bytes, Trimmer().freed)
        self.shares = Shares(settings.limits, settings.max_sessions, settings.max_envs, self.holdings)
        self.pool = Pool(
            settings.num_workers,
            settings.max_envs_per_worker,
            settings.timeouts,
            settings.restart_budget,
            settings.worker_limit,
            settings.surroundings,
            warm_seconds(settings.isolation),
        )
        self.pool.on_worker_lost = self._worker_lost
        self.deaths, self.ended_totals = Deaths(), EndedTotals()
        self.by_id: dict[bytes, Session] = {}
        self.opening: set[Session] = set()
        self._by_nonce: dict[tuple[Principal, bytes], asyncio.Task[Session]] = {}  # a nonce is its principal's alone
        self._tombstones: OrderedDict[bytes, tuple[Principal, Lost]] = OrderedDict()

    async def start(self, probe: bool) -> None:
        """Start the workers; with `probe`, build one environment to find out whether it can be.

        Raises:
            RefusalError: It cannot; says why.
            OSError, MemoryError: The workers could not be started.
        """
        await self.pool.start()
        if probe:
            opening = Opening(Open(1, 1, b"", self.settings.probe_envs), b"", self.settings, self.pool)
            await self.pool.probe((b"", None), opening.probe, await opening.envs_to_probe())

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
        building = self._by_nonce.get((principal, message.nonce))
        if building is None:
            admitted = self._admit(message, principal)
            building = self._by_nonce[principal, message.nonce] = asyncio.ensure_future(
                self._build(message, admitted, principal, peer)
            )
            building.add_done_callback(partial(_release_unless_built, admitted.hold))
        try:
            session = await asyncio.shield(building)
        except asyncio.CancelledError:
            # A stream that breaks meanwhile does not stop the building: its client comes back with the same nonce.
            building.add_done_callback(_detach)
            raise
        if session.reason is not None:
            raise RefusalError("ended", session.reason.detail)
        session.peer = peer
        session.principal = principal  # the same person, by what they have shown this time
        session.take_over(outlet)
        failpoints.hit("server.open.answered")
        return session

    def announce(self, session: Session) -> None:
        """Tell a client that was just told that it has `session` if that is not for long."""
        if self.draining and not session.draining:
            session.announce(self._handover_seconds)

    @property
    def _handover_seconds(self) -> float:
        return max(0.0, self._handover_ends - asyncio.get_running_loop().time())

    async def _build(self, message: Open, admitted: Admitted, principal: Principal, peer: str) -> Session:
        holdings, gone = self.shares.account(principal).holdings, partial(self._gone, admitted.hold)
        settings, kwargs, permissions = self.settings, admitted.kwargs, admitted.permissions
        try:
            session = Session(
                message, kwargs, settings, self.pool, self.counters, holdings, gone, principal, permissions, peer,
                self.events, self.tracing,
            )  # fmt: skip
            self.opening.add(session)
            try:
                await session.open(self.epoch, admitted.protocol)
            finally:
                self.opening.discard(session)
        except BaseException:
            self._by_nonce.pop((principal, message.nonce), None)
            raise
        failpoints.hit("server.open.built")
        self.by_id[session.id] = session
        session.draining = self.draining and not self._handover_seconds
        self.counters.opened_sessions += 1
        self.events.opened(session, message.client_version)
        if session.revoked is not None:
            session.revoke(session.revoked.detail, session.revoked.reason)
        return session

    def _admit(self, message: Open, principal: Principal) -> Admitted:
        """Check `message` against every limit and rule."""
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
        leaving = self.shares.who_gives_way(principal, message.num_envs, self.by_id.values())
        if message.compression is not None:
            _check_compression(message.compression)
        permissions = OWNER if principal.is_owner else self.settings.permissions
        kwargs, permissions = _kwargs(message, permissions, self.settings)
        _check_descriptors()
        hold = self.shares.take(principal, message.num_envs, len(kwargs), leaving)
        return Admitted(kwargs, permissions, protocol, hold)

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
        unknown = Lost("EXPIRED", "the server knows no such session")
        if session is None:
            whose, reason = self._tombstones.get(message.session_id, (principal, unknown))
            return reason if whose == principal else unknown
        if session.principal != principal or not hmac.compare_digest(session.token, message.token):
            return unknown  # the same words: a guess learns nothing
        before, session.peer = session.peer, peer
        try:
            session.attach(message, outlet)
        except ProtocolError:
            session.peer = before
            raise
        session.principal = principal  # as in `open`
        return session

    def _worker_lost(self, worker: WorkerProcess, lost: WorkerLost) -> None:
        self.deaths.note(worker, lost, [*self.by_id.values(), *self.opening])

    def _gone(self, hold: Hold, session: Session) -> None:
        self._by_nonce.pop((session.principal, session.nonce), None)
        hold.release()
        if self.by_id.pop(session.id, None) is not None and session.reason is not None:
            self.events.ended(session, session.reason)
            self.ended_totals.add(session.principal.name, session.totals())
            self._tombstones[session.id] = session.principal, session.reason
            while len(self._tombstones) > MAX_TOMBSTONES:
                self._tombstones.popitem(last=False)

    async def drain(self, grace_seconds: float, handover_seconds: float = 0.0) -> float:
        """Refuse new sessions, and let others go on for at most `handover_seconds`, or until none is left.

        Then refuse what is new and wait, at most `grace_seconds`, until nothing runs; what is left then ends.

        Returns:
            When the grace is over, on the loop's clock.
        """
        self.draining = True
        failpoints.hit("server.drain.begun")
        loop = asyncio.get_running_loop()
        if handover_seconds > 0:
            await self._hand_over(loop.time() + handover_seconds)
        self.end_handover()
        for session in self.by_id.values():
            session.draining = True
        if self.serving:
            told = {"event": "draining", "sessions": len(self.by_id)}
            logger.info("draining: refusing what is new, %d sessions", len(self.by_id), extra={FIELDS: told})
        deadline = loop.time() + grace_seconds
        while loop.time() < deadline and not all(session.idle for session in self.by_id.values()):
            await asyncio.sleep(0.01)
        self.events.stopping(list(self.by_id.values()))
        return deadline

    async def _hand_over(self, ends: float) -> None:
        """Tell clients that the server goes away, and wait until they have left, or the time is up."""
        self._handover_ends, loop = ends, asyncio.get_running_loop()
        sessions, seconds = list(self.by_id.values()), self._handover_seconds
        told = {"event": "handing_over", "sessions": len(sessions), "seconds": round(seconds, 3)}
        logger.info(
            "going away: %d sessions may go on for %g s", len(sessions), round(seconds, 3), extra={FIELDS: told}
        )
        for session in sessions:
            session.announce(seconds)
        while (self.by_id or self.opening) and loop.time() < self._handover_ends:
            await asyncio.sleep(HANDOVER_LOOK_SECONDS)

    def end_handover(self) -> None:
        """Let sessions not go on any longer."""
        self._handover_ends = 0.0

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
            env_step_seconds=self.pool.env_step_seconds,
        )


def collect(sessions: Sessions) -> dict[str, Any]:
    """Return what `RemoteEnvironmentServer.statistics` documents."""
    description, counters, pool = sessions.describe(), sessions.counters, sessions.pool
    return {
        "sessions": description.sessions,
        "envs": description.envs,
        "workers": len(pool.workers),
        "env_step_seconds": description.env_step_seconds,
        "max_sessions": description.max_sessions,
        "max_envs": description.max_envs,
        "draining": description.draining,
        "worker_processes": [worker.pid for worker in pool.workers],
        "stored_reply_bytes": sum(session.ledger.stored_bytes for session in sessions.by_id.values()),
        "held_bytes": dict(sessions.holdings.bytes),
        **sessions.shares.statistics(),
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
        "episodes": counters.episodes,
        "lost_episodes": counters.lost_episodes,
        "episode_returns": counters.episode_return.total,
        "episode_return": _histogram(counters.episode_return),
        "episode_length": _histogram(counters.episode_length),
        "episode_seconds": _histogram(counters.episode_seconds),
        "step_seconds": _histogram(counters.step_seconds),
        "event_loop_lag_seconds": _histogram(counters.loop_lag_seconds),
    }


def _histogram(histogram: Histogram) -> dict[str, Any]:
    return {"buckets": histogram.cumulative(), "sum": histogram.total}
