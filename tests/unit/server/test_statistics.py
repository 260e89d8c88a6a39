"""What is counted, and how late the loop was."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from remote_gym.server import statistics
from remote_gym.server.statistics import Counters, Histogram, percentiles, watch_loop_lag


def test_a_histogram_counts_up_to_each_bound_inclusively() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.cumulative() == [(1.0, 2), (2.0, 3), (float("inf"), 4)]
    assert (histogram.count, histogram.total) == (4, 12.0)


def test_many_at_once_count_as_one_by_one() -> None:
    one, many = Histogram((-1.0, 0.0, 2.0)), Histogram((-1.0, 0.0, 2.0))
    values = np.array([-5.0, -1.0, 0.0, 0.5, 2.0, 2.0, 9.0])
    for value in values:
        one.observe(float(value))
    many.observe_all(values)
    many.observe_all(np.array([]))
    assert (many.counts, many.total) == (one.counts, one.total)


def test_a_blocked_loop_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "INTERVAL_SECONDS", 0.0)

    async def main() -> Counters:
        counters = Counters()
        task = asyncio.ensure_future(watch_loop_lag(counters))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
        return counters

    counters = asyncio.run(main())
    assert counters.loop_lag_seconds.count > 0
    assert counters.last_loop_lag_seconds >= 0.0


def test_percentiles_are_of_what_happened() -> None:
    assert percentiles([]) == (0.0, 0.0, 0.0) and percentiles([0.3]) == (0.3, 0.3, 0.3)
    assert percentiles(range(100)) == (50, 90, 99)
