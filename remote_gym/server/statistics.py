"""Server process: what a server counts, and how late its loop is. Plain numbers on the loop's thread, next to free.

`collect` of the sessions and the metrics read them; nothing here knows either. All sessions share the loop, so what
blocks it delays everybody.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from remote_gym import figures
from remote_gym.messages import Call, Render, Reset, Step

STEP_BOUNDS_SECONDS = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0
)  # fmt: skip
"""From a batch of small environments, below a millisecond, to the default deadline of a step."""

LAG_BOUNDS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""From what a timer is late anyway to what a client notices as a stall."""

_RETURNS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1e3, 3e3, 1e4, 1e5, 1e6)

RETURN_BOUNDS = (*(-bound for bound in reversed(_RETURNS)), 0.0, *_RETURNS)
"""Of an episode's return, which may be anything: half a power of ten apart, on either side of 0."""

LENGTH_BOUNDS = (1, 3, 10, 30, 100, 200, 300, 500, 1_000, 2_000, 3_000, 10_000, 30_000, 100_000)
"""In steps: with the usual limits of episodes among them."""

EPISODE_BOUNDS_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 3_600.0)
"""From a few steps of a small environment to an hour of a simulator."""

KINDS: dict[type, str] = {Reset: "reset", Step: "step", Call: "call", Render: "render"}
"""What requests are counted as."""


LAST_STEPS = 128
"""Step requests of a session of which it is known how long each took: a window of seconds, and a kilobyte."""


def percentiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Return which value half, nine of ten and 99 of a hundred of them do not exceed; zeros of none."""
    return figures.percentiles(values) or (0.0, 0.0, 0.0)


class Histogram:
    """How often a value fell between two bounds.

    Attributes:
        bounds: Upper, inclusive, rising.
        counts: Per bound, not cumulative; one more for what lies above the last.
        total: Sum of all values.
    """

    __slots__ = ("_edges", "bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Begin at zero."""
        self.bounds = tuple(bounds)
        self._edges = np.array(self.bounds, float)
        self.counts = [0] * (len(self.bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: npt.NDArray[np.float64]) -> None:
        """Count each of `values`, (count,) float64: several at once take little more time than one."""
        places = self._edges.searchsorted(values)
        for place, count in enumerate(np.bincount(places).tolist()):
            self.counts[place] += count
        self.total += float(values.sum())

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """Return (bound, number of values up to it), with infinity as the last bound."""
        result, reached = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            reached += count
            result.append((bound, reached))
        return result


@dataclass
class Counters:
    """Since the server began. Units are in the names; docs/reference/metrics-and-limits.md explains each."""

    opened_sessions: int = 0
    requests: Counter[str] = field(default_factory=Counter)  # by kind, see `KINDS`
    env_steps: int = 0
    step_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BOUNDS_SECONDS))
    attaches: int = 0
    replayed_answers: int = 0
    refusals: Counter[str] = field(default_factory=Counter)  # by the name of the limit
    received_bytes: int = 0
    sent_bytes: int = 0
    loop_lag_seconds: Histogram = field(default_factory=lambda: Histogram(LAG_BOUNDS_SECONDS))
    last_loop_lag_seconds: float = 0.0

    episodes: int = 0
    lost_episodes: int = 0
    episode_return: Histogram = field(default_factory=lambda: Histogram(RETURN_BOUNDS))
    episode_length: Histogram = field(default_factory=lambda: Histogram(LENGTH_BOUNDS))
    episode_seconds: Histogram = field(default_factory=lambda: Histogram(EPISODE_BOUNDS_SECONDS))

    def observe_loop_lag(self, seconds: float) -> None:
        """Count how late the event loop was."""
        self.last_loop_lag_seconds = seconds
        self.loop_lag_seconds.observe(seconds)


INTERVAL_SECONDS = 0.25
"""Between measurements: a loop that is blocked for longer is always seen, and four wake-ups a second cost nothing."""


async def watch_loop_lag(counters: Counters) -> None:
    """Measure for ever."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + INTERVAL_SECONDS
        await asyncio.sleep(INTERVAL_SECONDS)
        counters.observe_loop_lag(max(0.0, loop.time() - due))
