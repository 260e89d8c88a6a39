"""Dashboard process, no I/O: what is kept of a server between two snapshots, so that rates and curves can be drawn.

Snapshots hold totals. Everything here is bounded, however long it runs; times are the server's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from remote_gym.figures import HistogramFigures, ServerFigures, SessionFigures, Snapshot, WorkerFigures, WorkerLoss

POINTS = 60
"""Of a curve of rates: a minute."""

EPISODES = 64
"""Of the curves of returns and lengths; as many as one snapshot tells."""

RATE_SECONDS = 2.5
"""Over how long a rate is taken: one snapshot alone has a step more or less in it."""

WORKER_SECONDS = 6.0
"""Likewise of workers: a percentile needs many steps."""

MOMENTS = 256
"""That a window knows at most: more than the shortest period brings, for who tells oftener than it was asked to."""

LOSSES = 64
"""Of one server, that are kept."""

Item = TypeVar("Item")


class Tail(Generic[Item]):
    """The last items of a sequence without end, and how many there have been: who has seen `count` lacks the rest.

    Attributes:
        count: How many were ever added.
    """

    def __init__(self, length: int) -> None:
        """Keep `length`."""
        self._kept: deque[Item] = deque(maxlen=length)
        self.count = 0

    def add(self, items: Iterable[Item]) -> None:
        """Add what is new."""
        for item in items:
            self._kept.append(item)
            self.count += 1

    def since(self, seen: int) -> list[Item]:
        """Return what was added after the first `seen`, as far as it is kept."""
        missing = min(self.count - seen, len(self._kept))
        return list(self._kept)[len(self._kept) - missing :]


class Window:
    """Totals of the last seconds; their growth is what has happened in them."""

    def __init__(self, seconds: float) -> None:
        """Look back so far, or to the last but one snapshot if that is farther."""
        self._seconds = seconds
        self._seen: deque[tuple[float, Sequence[float]]] = deque(maxlen=MOMENTS)

    def see(self, time: float, totals: Sequence[float]) -> None:
        """Take down `totals` of one moment.

        It begins anew where they have shrunk or are of other things, and where the server's clock was set back.
        """
        if self._seen and not self._is_followed_by(time, totals):
            self._seen.clear()
        self._seen.append((time, totals))
        while len(self._seen) > 2 and time - self._seen[1][0] >= self._seconds:
            self._seen.popleft()

    def _is_followed_by(self, time: float, totals: Sequence[float]) -> bool:
        last, before = self._seen[-1]
        if not time > last or len(totals) != len(before):
            return False
        return not any(now < then for now, then in zip(totals, before, strict=True))

    @property
    def seconds(self) -> float:
        """How long it is; 0 before the second snapshot."""
        return self._seen[-1][0] - self._seen[0][0] if self._seen else 0.0

    @property
    def growth(self) -> list[float]:
        """By how much each total has grown."""
        if not self._seen:
            return []
        return [now - before for now, before in zip(self._seen[-1][1], self._seen[0][1], strict=True)]

    def rate(self, index: int = 0) -> float | None:
        """Return how much a total has grown in a second; None before the second snapshot."""
        return self.growth[index] / self.seconds if self.seconds > 0 else None


class SessionRecord:
    """One session.

    Attributes:
        figures: As the last snapshot has it.
        began: When it was opened, about: by the first snapshot that had it, so that its place among others stays.
        rates: Steps per second, one for each snapshot.
        episodes: (return, length) of the last ones.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.figures = SessionFigures()
        self.began = 0.0
        self.rates: Tail[float | None] = Tail(POINTS)
        self.episodes: Tail[tuple[float, float]] = Tail(EPISODES)
        self._window = Window(RATE_SECONDS)

    def see(self, time: float, figures: SessionFigures) -> None:
        """Take down the session's part of a snapshot."""
        self.began = self.began or time - figures.age_seconds
        self.figures = figures
        self._window.see(time, [figures.totals.env_steps])
        self.rates.add([self._window.rate()])
        self.episodes.add((one.episode_return, one.length) for one in figures.episodes)

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self._window.rate() or 0.0


class WorkerRecord:
    """One worker; who takes its place has the same index, and begins anew.

    Attributes:
        figures: As the last snapshot has it.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.figures = WorkerFigures()
        self._window = Window(WORKER_SECONDS)

    def see(self, time: float, figures: WorkerFigures) -> None:
        """Take down the worker's part of a snapshot."""
        if self.figures.process != figures.process:
            self._window = Window(WORKER_SECONDS)
        self.figures = figures
        self._window.see(time, [figures.busy_seconds, figures.steps, *figures.step_seconds.counts])

    @property
    def busy(self) -> float | None:
        """The share of its time that it works, 0 to 1; None before the second snapshot."""
        share = self._window.rate()
        return None if share is None else min(1.0, share)

    @property
    def rate(self) -> float:
        """Steps of environments per second."""
        return self._window.rate(1) or 0.0

    def step_seconds(self, share: float) -> float:
        """Return how long one environment's step takes at most in `share` of all, lately, else ever; NaN: unknown."""
        ever, lately = self.figures.step_seconds, self._window.growth[2:]
        counted = HistogramFigures(ever.bounds, [int(count) for count in lately]) if any(lately) else ever
        return counted.percentile(share)


class ServerRecord:
    """One server, and all that it has told.

    Attributes:
        figures: As the last snapshot has it; None: there was none yet.
        time: Of the last snapshot.
        error: Why there is no connection; empty: there is one, or it is being made.
        sessions: By id.
        workers: By index.
        losses: Of workers.
        rates: Steps per second of all that is seen, one for each snapshot.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self.figures: ServerFigures | None = None
        self.time = 0.0
        self.error = ""
        self.losses: Tail[WorkerLoss] = Tail(LOSSES)
        self._loss = 0  # the last one's number
        self._epoch = b""  # of the process that has numbered them
        self._forget()

    def _forget(self) -> None:
        self.sessions: dict[bytes, SessionRecord] = {}
        self.workers: dict[int, WorkerRecord] = {}
        self.rates: Tail[float | None] = Tail(POINTS)
        self._window = Window(RATE_SECONDS)

    def see(self, snapshot: Snapshot) -> None:
        """Take down a whole snapshot."""
        figures, time = snapshot.server, snapshot.time
        if figures.server_epoch != self._epoch:
            self._forget()
            self._loss, self._epoch = 0, figures.server_epoch
        self.figures, self.time, self.error = figures, time, ""
        self._window.see(
            time,
            [
                figures.totals.env_steps, figures.totals.episodes, figures.received_bytes, figures.sent_bytes,
                figures.cpu_seconds,
            ],
        )  # fmt: skip
        self.rates.add([self._window.rate()])
        new = [one for one in snapshot.losses if one.number > self._loss]
        self.losses.add(new)
        self._loss = max([self._loss, *(one.number for one in new)])
        self.sessions = {one.id: self.sessions.get(one.id) or SessionRecord() for one in snapshot.sessions}
        for session in snapshot.sessions:
            self.sessions[session.id].see(time, session)
        self.workers = {one.index: self.workers.get(one.index) or WorkerRecord() for one in snapshot.workers}
        for worker in snapshot.workers:
            self.workers[worker.index].see(time, worker)

    def lose(self, error: str) -> None:
        """Take down why nothing is told any more, empty if nobody looks: who is on it now nobody knows."""
        self._forget()
        self.figures = None
        self.error = error

    def rate(self, index: int = 0) -> float | None:
        """Return per second: 0 steps, 1 episodes, 2 bytes received, 3 bytes sent, 4 seconds of the process's CPU."""
        return self._window.rate(index)
