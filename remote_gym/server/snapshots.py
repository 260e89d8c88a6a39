"""Server process: the figures of one moment, as somebody may see them, and made in slices: steps go on in between."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

from remote_gym.figures import HistogramFigures, ServerFigures, SessionFigures, Totals, WatchReply, WorkerFigures
from remote_gym.pool import STEP_BOUNDS_SECONDS, WorkerProcess
from remote_gym.server.deaths import TOLD_AT_FIRST, Deaths
from remote_gym.server.ended_totals import added
from remote_gym.server.session import Session
from remote_gym.server.sessions import Sessions
from remote_gym.server.statistics import Histogram
from remote_gym.texts import printable
from remote_gym.version import __version__
from remote_gym.wire.watching import SESSIONS_AT_ONCE, pack_watched

SLICE_SECONDS = 0.0005
"""How long snapshots are made before others have their turn."""

REST_SECONDS = 3 * SLICE_SECONDS
"""And how long that lasts: all snapshots take a quarter of the event loop's time, whoever asks for however many."""

_INFINITE = float("inf")


class View(NamedTuple):
    """What somebody sees.

    Attributes:
        principal: Who it is.
        is_operator: Whether everybody's sessions are seen, or the principal's own.
        sessions: Of those, only these; empty: all.
    """

    principal: str
    is_operator: bool
    sessions: frozenset[bytes] = frozenset()

    def sees(self, principal: str, session: bytes) -> bool:
        """Return whether a session of `principal` with this id is seen."""
        return (self.is_operator or principal == self.principal) and (not self.sessions or session in self.sessions)


@dataclass
class Told:
    """What a stream was told already: how many episodes of each session, and how many deaths."""

    episodes: dict[bytes, int] = field(default_factory=dict)
    deaths: int = 0

    @classmethod
    def nothing(cls, deaths: Deaths) -> Told:
        """Return what somebody was told who has just come: nothing, and of deaths only the last are told."""
        return cls({}, max(0, deaths.count - TOLD_AT_FIRST))


class Slices:
    """The time that goes into snapshots of one server: they share it, and others have their turn in between."""

    def __init__(self) -> None:
        """Begin with a rest that is over."""
        self._until = -_INFINITE
        self._next = asyncio.Lock()  # fair: who came first has the next slice

    async def turn(self) -> None:
        """Return at once, or if the slice is over when it is the caller's turn again."""
        if perf_counter() <= self._until:
            return
        async with self._next:
            if (now := perf_counter()) > self._until:
                await asyncio.sleep(max(0.0, self._until + REST_SECONDS - now))
                self._until = perf_counter() + SLICE_SECONDS


class Snapshots:
    """Makes them.

    Attributes:
        addresses: Where the server listens.
    """

    def __init__(self, sessions: Sessions, addresses: Sequence[str] = ()) -> None:
        """Tell of `sessions` and their workers."""
        self.addresses = addresses
        self._sessions = sessions
        self._slices = Slices()
        self._started = time.time()

    async def make(self, view: View, told: Told, until: Told | None = None) -> list[bytes]:
        """Return a snapshot as serialised replies.

        Args:
            view: What is seen.
            told: What has been told already; brought up to date, unless there is an `until`.
            until: Tell no more than these were told: a newcomer will be told of the rest together with them.
        """
        await self._slices.turn()
        now = time.time()
        seen = [one for one in self._all() if view.sees(one.principal.name, one.id)]
        # In the same moment: who ends from now on counts among the seen.
        ended = self._sessions.ended_totals.of(None if view.is_operator else view.principal)
        workers, hosted, numbers = await self._workers(view, seen)
        totals = Totals() if view.sessions else ended
        counts: dict[bytes, int] = {}
        pieces = []
        for session in seen:
            await self._slices.turn()
            totals_of = session.totals()
            totals = added(totals, totals_of)
            count = session.episodes.count
            upto = count if until is None else min(count, until.episodes.get(session.id, 0))
            episodes = session.episodes.between(told.episodes.get(session.id, 0), upto)
            counts[session.id] = count
            figures = session_figures(session, totals_of, numbers.get(session.id, ()))
            pieces.append(pack_watched(WatchReply(sessions=[figures._replace(episodes=episodes)])))
        deaths = self._sessions.deaths
        last = deaths.count if until is None else until.deaths
        losses = deaths.between(told.deaths, last, view.sees, view.is_operator)
        if until is None:
            told.episodes, told.deaths = counts, last
        server = self._server(view, totals)._replace(
            workers_memory_bytes=hosted.memory_bytes, workers_cpu_seconds=hosted.cpu_seconds
        )
        head = pack_watched(WatchReply(time=now, server=server, losses=losses)) + b"".join(workers)
        parts = [pieces[at : at + SESSIONS_AT_ONCE] for at in range(0, len(pieces), SESSIONS_AT_ONCE)] or [[]]
        more = pack_watched(WatchReply(more=True))
        stamp = pack_watched(WatchReply(time=now))
        # Serialised messages, one after the other, are one with the fields of all.
        return [
            (stamp if number else head) + b"".join(part) + (more if number < len(parts) - 1 else b"")
            for number, part in enumerate(parts)
        ]

    def _all(self) -> list[Session]:
        sessions = self._sessions
        return [*sessions.by_id.values(), *sessions.opening]

    async def _workers(
        self, view: View, seen: Iterable[Session]
    ) -> tuple[list[bytes], Usage, dict[bytes, Sequence[int]]]:
        """Return the workers that are seen, serialised, what all workers use, and in which each session is."""
        owners: dict[WorkerProcess, set[str]] = {}
        numbers: dict[bytes, Sequence[int]] = {}
        for session in self._all():
            await self._slices.turn()
            hosts = {block.worker for block in session.blocks}
            for worker in hosts:
                owners.setdefault(worker, set()).add(session.principal.name)
            numbers[session.id] = sorted({worker.number for worker in hosts})
        own = {block.worker for session in seen for block in session.blocks}
        packed, memory_bytes, cpu_seconds = [], 0, 0.0
        for worker in list(self._sessions.pool.workers):
            await self._slices.turn()
            names = owners.get(worker, set())
            if view.is_operator and not view.sessions:
                more = usage(worker.pid)
                memory_bytes, cpu_seconds = memory_bytes + more.memory_bytes, cpu_seconds + more.cpu_seconds
            elif worker not in own or not (view.is_operator or names == {view.principal}):
                continue
            packed.append(pack_watched(WatchReply(workers=[worker_figures(worker, names)])))
        return packed, Usage(memory_bytes, cpu_seconds), numbers

    def _server(self, view: View, totals: Totals) -> ServerFigures:
        sessions, counters = self._sessions, self._sessions.counters
        settings, description = sessions.settings, sessions.describe()
        entrypoint = settings.entrypoint if view.is_operator else os.path.basename(settings.entrypoint)
        own = usage(os.getpid())
        return ServerFigures(
            version=__version__,
            entrypoint=printable(entrypoint),
            addresses=list(self.addresses) if view.is_operator else [],
            process=os.getpid() if view.is_operator else 0,
            server_epoch=sessions.epoch,
            started=self._started,
            draining=sessions.draining,
            sessions=description.sessions,
            max_sessions=description.max_sessions,
            envs=description.envs,
            max_envs=description.max_envs,
            num_workers=len(sessions.pool.workers),
            is_operator=view.is_operator,
            frames_allowed=settings.frames,
            principal=printable(view.principal),
            totals=totals,
            received_bytes=counters.received_bytes,
            sent_bytes=counters.sent_bytes,
            worker_restarts=sessions.pool.restarts,
            refusals=sum(counters.refusals.values()),
            loop_lag_seconds=counters.last_loop_lag_seconds,
            memory_bytes=own.memory_bytes,
            cpu_seconds=time.process_time(),
            step_seconds=histogram_figures(counters.step_seconds),
        )


def session_figures(session: Session, totals: Totals, workers: Sequence[int]) -> SessionFigures:
    """Return what is told of `session`, but for its episodes."""
    kept, means = session.kept_seconds, session.episodes.means
    return SessionFigures(
        id=session.id,
        principal=printable(session.principal.name),
        peer=printable(session.peer),
        envs=session.num_envs,
        state=session.ledger.state.value,
        kept_seconds=0.0 if kept is None else max(0.0, kept),
        lease_seconds=session.lease_seconds,
        age_seconds=time.monotonic() - session.began,
        running=session.running,
        totals=totals,
        mean_return=means[0],
        mean_length=means[1],
        mean_seconds=means[2],
        workers=workers,
        autoreset_mode=session.autoreset_mode if session.autoreset_mode != "None" else "",
        render_mode=session.render_mode or "",
        hosted_vector=session.is_vector,
    )


def worker_figures(worker: WorkerProcess, principals: set[str]) -> WorkerFigures:
    """Return what is told of `worker`, where environments of `principals` live."""
    steps, seconds = worker.steps
    bounds = (*STEP_BOUNDS_SECONDS, _INFINITE) if worker.step_counts else ()
    return WorkerFigures(
        index=worker.number,
        process=worker.pid,
        principal=printable(next(iter(principals))) if len(principals) == 1 else "",
        envs=worker.num_envs,
        busy_seconds=worker.busy_seconds,
        steps=steps,
        steps_seconds=seconds,
        step_seconds=HistogramFigures(bounds, [*worker.step_counts, 0] if bounds else (), seconds),
        restarts=worker.restarts,
        started=worker.started,
    )


def histogram_figures(histogram: Histogram) -> HistogramFigures:
    """Return what is told of `histogram`."""
    return HistogramFigures((*histogram.bounds, _INFINITE), list(histogram.counts), histogram.total)


class Usage(NamedTuple):
    """Of processes: resident memory, and processor time."""

    memory_bytes: int = 0
    cpu_seconds: float = 0.0


def usage(process: int) -> Usage:
    """Return what the process of that number uses; nothing where the system does not say (it has no ``/proc``)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # proc(5): the command's name, in brackets, may hold anything; utime is the 12th field after it.
        fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b") ")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return Usage(int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), ticks / os.sysconf("SC_CLK_TCK"))
    return Usage()
