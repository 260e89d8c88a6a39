"""Percentiles of what was counted by bounds, and what was counted between two snapshots."""

from __future__ import annotations

import math

import pytest

from remote_gym.figures import HistogramFigures, Percentiles, percentiles

INF = float("inf")


def test_percentiles_lie_between_the_bounds() -> None:
    figures = HistogramFigures((1.0, 2.0, 4.0, INF), (10, 80, 10, 0), 200.0)
    assert figures.count == 100
    assert figures.percentile(0.05) == pytest.approx(0.5)
    assert figures.percentile(0.5) == pytest.approx(1.5)
    assert figures.percentile(0.9) == pytest.approx(2.0)
    assert figures.percentile(1.0) == pytest.approx(4.0)


def test_what_is_above_all_bounds_counts_as_the_last() -> None:
    assert HistogramFigures((1.0, INF), (0, 5), 50.0).percentile(0.5) == 1.0


def test_of_nothing_there_is_no_percentile() -> None:
    assert math.isnan(HistogramFigures((1.0, INF), (0, 0)).percentile(0.5))
    assert math.isnan(HistogramFigures().percentile(0.5))


def test_since_an_earlier_snapshot() -> None:
    earlier = HistogramFigures((1.0, INF), (2, 1), 3.0)
    later = HistogramFigures([1.0, INF], [5, 1], 4.0)
    assert later.since(earlier) == HistogramFigures([1.0, INF], [3, 0], 1.0)
    assert earlier.since(later) is earlier  # a process that was started anew
    assert later.since(HistogramFigures()) is later


def test_percentiles_are_of_what_happened() -> None:
    assert percentiles([]) is None and percentiles([0.3]) == Percentiles(0.3, 0.3, 0.3)
    assert percentiles(range(100)) == Percentiles(50, 90, 99)
