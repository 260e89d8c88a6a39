"""No I/O: what is told to who looks on: figures of a server, its sessions and workers, and pictures of environments.

Named as `protos/remote_gym/wire/watch.proto` names it, where each field is explained. Counts and sums are totals; a
rate is the difference of two snapshots by that of their times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

DEFAULT_PERIOD_SECONDS, DEFAULT_FRAME_PERIOD_SECONDS = 1.0, 0.5
MIN_PERIOD_SECONDS, MAX_PERIOD_SECONDS = 0.1, 60.0
"""Between two snapshots, and between two pictures of one environment."""

DEFAULT_WIDTH, MIN_WIDTH, MAX_WIDTH = 320, 16, 4_096
"""Pixels of a picture, at most."""

MAX_FRAMES = 64
"""Environments that one stream shows."""

MAX_NAMED_SESSIONS = 64
"""Sessions that one stream may be narrowed to."""

ID_BYTES = 16
"""Of a session's id."""


class FrameRequest(NamedTuple):
    """A picture of environment `env` of the session with the id `session` is wanted, so many pixels wide at most."""

    session: bytes
    env: int
    max_width: int = DEFAULT_WIDTH


class WatchRequest(NamedTuple):
    """What somebody wants to see; see `WatchRequest` of the contract."""

    period_seconds: float = DEFAULT_PERIOD_SECONDS
    frames: Sequence[FrameRequest] = ()
    frame_period_seconds: float = DEFAULT_FRAME_PERIOD_SECONDS
    sessions: Sequence[bytes] = ()
    frames_only: bool = False


class HistogramFigures(NamedTuple):
    """How often something took how long: `counts[k]` times at most `bounds[k]`, and more than `bounds[k - 1]`.

    Attributes:
        bounds: Seconds, rising; the last is infinite.
        counts: Per bound, not cumulative.
        sum: Of all, in seconds.
    """

    bounds: Sequence[float] = ()
    counts: Sequence[int] = ()
    sum: float = 0.0

    @property
    def count(self) -> int:  # type: ignore[override]
        """How often, in all."""
        return sum(self.counts)

    def since(self, earlier: HistogramFigures) -> HistogramFigures:
        """Return what has been counted since `earlier`; all of it, if that was of another server or process."""
        if tuple(earlier.bounds) != tuple(self.bounds):
            return self
        counts = [now - before for now, before in zip(self.counts, earlier.counts, strict=False)]
        if min(counts, default=0) < 0:
            return self
        return HistogramFigures(self.bounds, counts, self.sum - earlier.sum)

    def percentile(self, share: float) -> float:
        """Return the time, about, that `share` (0 to 1) of all took at most; NaN if there were none.

        Between two bounds the times are taken for evenly spread; what is above the last finite bound counts as that.
        """
        wanted, below, lower = share * self.count, 0, 0.0
        if not self.count:
            return float("nan")
        for bound, count in zip(self.bounds, self.counts, strict=False):
            if count and below + count >= wanted:
                return lower if bound == float("inf") else lower + (bound - lower) * max(0.0, wanted - below) / count
            below, lower = below + count, bound
        return lower


class Totals(NamedTuple):
    """Since a session was opened, or the server started; see `Totals` of the contract."""

    requests: int = 0
    env_steps: int = 0
    episodes: int = 0
    lost_episodes: int = 0
    episode_returns: float = 0.0
    episode_lengths: int = 0
    episode_seconds: float = 0.0


class Episode(NamedTuple):
    """One that has ended; `ended` is a Unix time."""

    env: int
    episode_return: float
    length: int
    seconds: float
    ended: float


class ServerFigures(NamedTuple):
    """See `ServerFigures` of the contract."""

    version: str = ""
    entrypoint: str = ""
    addresses: Sequence[str] = ()
    process: int = 0
    server_epoch: bytes = b""
    started: float = 0.0
    draining: bool = False
    sessions: int = 0
    max_sessions: int = 0
    envs: int = 0
    max_envs: int = 0
    num_workers: int = 0
    is_operator: bool = False
    frames_allowed: bool = False
    principal: str = ""
    totals: Totals = Totals()
    received_bytes: int = 0
    sent_bytes: int = 0
    worker_restarts: int = 0
    refusals: int = 0
    loop_lag_seconds: float = 0.0
    memory_bytes: int = 0
    cpu_seconds: float = 0.0
    workers_memory_bytes: int = 0
    workers_cpu_seconds: float = 0.0
    step_seconds: HistogramFigures = HistogramFigures()


class SessionFigures(NamedTuple):
    """See `SessionFigures` of the contract."""

    id: bytes = b""
    principal: str = ""
    peer: str = ""
    envs: int = 0
    state: str = ""
    kept_seconds: float = 0.0
    lease_seconds: float = 0.0
    age_seconds: float = 0.0
    running: int = 0
    totals: Totals = Totals()
    mean_return: float = 0.0
    mean_length: float = 0.0
    mean_seconds: float = 0.0
    episodes: Sequence[Episode] = ()
    workers: Sequence[int] = ()
    autoreset_mode: str = ""
    render_mode: str = ""
    hosted_vector: bool = False


class WorkerFigures(NamedTuple):
    """See `WorkerFigures` of the contract."""

    index: int = 0  # type: ignore[assignment]
    process: int = 0
    principal: str = ""
    envs: int = 0
    busy_seconds: float = 0.0
    steps: int = 0
    steps_seconds: float = 0.0
    step_seconds: HistogramFigures = HistogramFigures()
    restarts: int = 0
    started: float = 0.0


class WorkerLoss(NamedTuple):
    """See `WorkerLoss` of the contract."""

    number: int = 0
    time: float = 0.0
    worker: int = 0
    process: int = 0
    reason: str = ""
    output: str = ""
    sessions: Sequence[bytes] = ()


class Frame(NamedTuple):
    """See `Frame` of the contract."""

    session: bytes = b""
    env: int = 0
    content_type: str = ""
    data: bytes = b""
    width: int = 0
    height: int = 0
    episode_return: float = 0.0
    episode_length: int = 0
    missing: str = ""
    time: float = 0.0


class WatchReply(NamedTuple):
    """One message of a server: the first part of a snapshot, or another one, or frames."""

    time: float = 0.0
    server: ServerFigures | None = None
    sessions: Sequence[SessionFigures] = ()
    workers: Sequence[WorkerFigures] = ()
    losses: Sequence[WorkerLoss] = ()
    more: bool = False
    frames: Sequence[Frame] = ()


class Snapshot(NamedTuple):
    """All figures of one moment."""

    time: float
    server: ServerFigures
    sessions: Sequence[SessionFigures]
    workers: Sequence[WorkerFigures]
    losses: Sequence[WorkerLoss]


class Frames(NamedTuple):
    """Pictures that have just been made, or why there are none."""

    frames: Sequence[Frame]


class Percentiles(NamedTuple):
    """Seconds that half, nine of ten and 99 of a hundred steps did not exceed."""

    p50: float
    p90: float
    p99: float


def percentiles(took: Iterable[float]) -> Percentiles | None:
    """Return those of steps that took so many seconds each; None of none."""
    ordered = sorted(took)
    if not ordered:
        return None
    last = len(ordered) - 1
    return Percentiles(*(ordered[min(int(share * len(ordered)), last)] for share in (0.5, 0.9, 0.99)))
