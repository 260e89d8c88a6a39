"""No I/O: what several servers have told so far -> the rows of three tables. Text of others is made printable here."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from remote_gym.cli.live.rates import Rates
from remote_gym.figures import HistogramFigures, ServerFigures, SessionFigures, Snapshot, WorkerFigures, WorkerLoss
from remote_gym.texts import printable

MAX_RETURNS = 64
"""Of a session, the last that are kept: as wide as its sparkline may be."""

MAX_LOSSES = 200
"""Of all servers, the last that are kept."""

CONNECTING, WATCHED, AWAY = "connecting", "watched", "away"
"""What may be the matter with a server: it has told nothing yet, it tells, it has told and is not reached now."""


@dataclass(frozen=True)
class ServerRow:
    """One server.

    Attributes:
        address: As it was asked for.
        state: `CONNECTING`, `WATCHED` or `AWAY`.
        reason: Why it is not reached; empty if it is.
        figures: What it told last; None before.
        uptime_seconds: By its own clock.
        steps_per_second, episodes_per_second: Of environments, as far as they may be seen; None as long as that is not
            known.
        received_per_second, sent_per_second: Bytes of messages.
        cpu_share: Of one core, the server's process alone.
    """

    address: str
    state: str
    reason: str = ""
    figures: ServerFigures | None = None
    uptime_seconds: float = 0.0
    steps_per_second: float | None = None
    episodes_per_second: float | None = None
    received_per_second: float | None = None
    sent_per_second: float | None = None
    cpu_share: float | None = None


@dataclass(frozen=True)
class SessionRow:
    """One session.

    Attributes:
        server: Number of its server, from 1.
        id: Hexadecimal.
        principal, peer: Printable.
        state: Whether somebody is attached.
        kept_seconds: For how much longer it is kept; None while somebody is attached.
        age_seconds: Since it was opened.
        envs: How many environments.
        steps_per_second: Of all of them; None as long as that is not known.
        episodes: How many have ended.
        returns: Of the last ones, the oldest first.
        mean_return, mean_length: Of the last 100; None without any.
    """

    server: int
    id: str
    principal: str
    peer: str
    state: str
    kept_seconds: float | None
    age_seconds: float
    envs: int
    steps_per_second: float | None
    episodes: int
    returns: tuple[float, ...]
    mean_return: float | None
    mean_length: float | None


@dataclass(frozen=True)
class WorkerRow:
    """One worker.

    Attributes:
        server: Number of its server, from 1.
        index: In its server; whoever takes a dead one's place has its index.
        process: Its process id.
        principal: Whose environments are there; printable.
        envs: How many.
        busy: Share of the time that it spends with commands, 0 to 1; None as long as that is not known.
        steps_per_second: Of its environments.
        p50, p90, p99: Seconds that a step of an environment takes, of those in the window; None without any.
        restarts: How often a worker of this index was replaced.
        loss: The last time that happened; None if nobody has seen it.
    """

    server: int
    index: int
    process: int
    principal: str
    envs: int
    busy: float | None
    steps_per_second: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    restarts: int
    loss: WorkerLoss | None


class LossRow(NamedTuple):
    """A worker's end.

    Attributes:
        server: Number of its server, from 1.
        loss: What was told of it; its texts are as they came.
    """

    server: int
    loss: WorkerLoss


class View(NamedTuple):
    """All there is to see at one moment."""

    servers: tuple[ServerRow, ...]
    sessions: tuple[SessionRow, ...]
    workers: tuple[WorkerRow, ...]
    losses: tuple[LossRow, ...]


@dataclass
class _Told:
    """What one server has told so far."""

    number: int
    row: ServerRow
    epoch: bytes = b""
    sessions: tuple[SessionRow, ...] = ()
    workers: tuple[WorkerRow, ...] = ()
    returns: dict[bytes, deque[float]] = field(default_factory=dict)
    last_losses: dict[int, WorkerLoss] = field(default_factory=dict)  # by worker
    rates: Rates = field(default_factory=Rates)


class Board:
    """Takes in what servers tell, in whatever order; says what there is to see."""

    def __init__(self, addresses: Sequence[str]) -> None:
        """Begin with servers of which nothing is known."""
        self._told = {
            address: _Told(number, ServerRow(printable(address), CONNECTING))
            for number, address in enumerate(addresses, 1)
        }
        self._losses: deque[LossRow] = deque(maxlen=MAX_LOSSES)

    def lost(self, address: str, why: str) -> None:
        """Take note that a server is not reached; what it told last stays, its rates are of the past."""
        told = self._told[address]
        state = CONNECTING if told.row.figures is None else AWAY
        told.row = ServerRow(
            told.row.address, state, printable(why, 400), told.row.figures, told.row.uptime_seconds
        )  # fmt: skip
        told.sessions = tuple(replace(row, steps_per_second=None) for row in told.sessions)
        told.workers = tuple(
            replace(row, steps_per_second=None, busy=None, p50=None, p90=None, p99=None) for row in told.workers
        )

    def take(self, address: str, snapshot: Snapshot) -> None:
        """Take in what a server tells."""
        told, server, now = self._told[address], snapshot.server, snapshot.time
        if told.epoch != server.server_epoch:  # another process: nothing of the old one's goes on
            told.epoch, told.returns, told.last_losses = server.server_epoch, {}, {}
            told.rates.forget()
        told.row = _server_row(told, server, now)
        told.sessions = tuple(_session_row(told, one, now) for one in snapshot.sessions)
        for loss in snapshot.losses:
            self._losses.append(LossRow(told.number, loss))
            told.last_losses[loss.worker] = loss
        told.workers = tuple(_worker_row(told, one, now) for one in snapshot.workers)
        there = {one.id for one in snapshot.sessions}
        told.returns = {key: returns for key, returns in told.returns.items() if key in there}
        told.rates.keep(["server", *there, *(("worker", one.index, one.process) for one in snapshot.workers)])

    def view(self) -> View:
        """Return what there is to see now."""
        told = self._told.values()
        return View(
            tuple(one.row for one in told),
            tuple(row for one in told for row in one.sessions),
            tuple(row for one in told for row in one.workers),
            tuple(self._losses),
        )


def _server_row(told: _Told, server: ServerFigures, now: float) -> ServerRow:
    rates = told.rates
    rates.add(
        "server",
        now,
        {
            "steps": server.totals.env_steps,
            "episodes": server.totals.episodes,
            "received": server.received_bytes,
            "sent": server.sent_bytes,
            "cpu": server.cpu_seconds,
        },
    )
    return ServerRow(
        told.row.address,
        WATCHED,
        "",
        server,
        max(0.0, now - server.started),
        *(rates.rate("server", name) for name in ("steps", "episodes", "received", "sent", "cpu")),
    )


def _session_row(told: _Told, one: SessionFigures, now: float) -> SessionRow:
    told.rates.add(one.id, now, {"steps": one.totals.env_steps})
    returns = told.returns.setdefault(one.id, deque(maxlen=MAX_RETURNS))
    returns.extend(episode.episode_return for episode in one.episodes)
    some = one.totals.episodes > 0
    return SessionRow(
        told.number,
        one.id.hex(),
        printable(one.principal),
        printable(one.peer),
        printable(one.state, 20),
        one.kept_seconds if one.state == "detached" else None,
        one.age_seconds,
        one.envs,
        told.rates.rate(one.id, "steps"),
        one.totals.episodes,
        tuple(returns),
        one.mean_return if some else None,
        one.mean_length if some else None,
    )


def _worker_row(told: _Told, one: WorkerFigures, now: float) -> WorkerRow:
    key, histogram = ("worker", one.index, one.process), one.step_seconds
    counts = {str(at): float(count) for at, count in enumerate(histogram.counts)}
    told.rates.add(key, now, {"busy": one.busy_seconds, "steps": one.steps, **counts})
    busy = told.rates.rate(key, "busy")
    recent = HistogramFigures(histogram.bounds, [int(told.rates.risen(key, name) or 0) for name in counts])
    p50, p90, p99 = (recent.percentile(share) if recent.count else None for share in (0.5, 0.9, 0.99))
    return WorkerRow(
        told.number,
        one.index,
        one.process,
        printable(one.principal),
        one.envs,
        None if busy is None else min(1.0, busy),
        told.rates.rate(key, "steps"),
        p50,
        p90,
        p99,
        one.restarts,
        told.last_losses.get(one.index),
    )
