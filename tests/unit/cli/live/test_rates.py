"""Rates out of totals, whatever the clock and the server do in between."""

from __future__ import annotations

import sys

import pytest

from remote_gym.cli.live.rates import WINDOW_SECONDS, Rates


def fed(*points: tuple[float, float], window: float = WINDOW_SECONDS) -> Rates:
    rates = Rates(window)
    for time, total in points:
        rates.add("key", time, {"steps": total})
    return rates


def test_two_totals_make_a_rate() -> None:
    assert fed().rate("key", "steps") is None
    assert fed((1.0, 500.0)).rate("key", "steps") is None
    assert fed((1.0, 500.0), (3.0, 700.0)).rate("key", "steps") == 100.0
    assert fed((1.0, 500.0), (3.0, 500.0)).rate("key", "steps") == 0.0


def test_it_is_that_of_the_window_however_often_snapshots_come() -> None:
    """1,000 a second for a minute, then 10 a second for as long as the window."""
    for period in (0.1, 0.25, 1.0):
        fast = [(at * period, 1_000 * at * period) for at in range(int(60 / period) + 1)]
        slow = [(60 + at * period, 60_000 + 10 * at * period) for at in range(1, int(5 / period) + 1)]
        assert fed(*fast).rate("key", "steps") == pytest.approx(1_000)
        assert fed(*fast, *slow).rate("key", "steps") == pytest.approx(10)


def test_over_a_gap_it_is_what_has_happened_there() -> None:
    assert fed((0.0, 0.0), (1.0, 100.0), (601.0, 6_100.0)).rate("key", "steps") == pytest.approx(10)


def test_a_snapshot_of_the_same_moment_is_no_infinite_rate() -> None:
    rates = fed((1.0, 100.0), (1.0, 150.0))
    assert rates.rate("key", "steps") is None
    rates.add("key", 2.0, {"steps": 250.0})
    assert rates.rate("key", "steps") == 100.0


@pytest.mark.parametrize("point", [(3.0, 10.0), (1.5, 900.0)], ids=["total fell", "clock went back"])
def test_another_process_begins_anew(point: tuple[float, float]) -> None:
    rates = fed((1.0, 500.0), (2.0, 700.0), point)
    assert rates.rate("key", "steps") is None
    rates.add("key", point[0] + 1.0, {"steps": point[1] + 7.0})
    assert rates.rate("key", "steps") == 7.0


def test_a_total_that_was_not_told_before_counts_from_nothing() -> None:
    rates = Rates()
    rates.add("key", 1.0, {})
    rates.add("key", 2.0, {"refusals": 3.0})
    assert rates.rate("key", "refusals") == 3.0
    assert rates.rate("key", "other") == 0.0


def test_keys_are_apart_and_can_be_forgotten() -> None:
    rates = Rates()
    for key, speed in (("a", 1.0), ("b", 2.0)):
        for time in (0.0, 1.0):
            rates.add(key, time, {"steps": speed * time})
    rates.keep(["b", "c"])
    assert (rates.rate("a", "steps"), rates.rate("b", "steps")) == (None, 2.0)
    rates.forget()
    assert rates.rate("b", "steps") is None


def test_a_day_takes_as_much_memory_as_a_minute() -> None:
    rates = Rates()
    sizes = []
    for second in range(86_400):
        rates.add("key", float(second), {"steps": second * 10.0})
        if second in (60, 86_399):
            sizes.append(sys.getsizeof(rates._known["key"]) + len(rates._known["key"]))
    assert sizes[0] == sizes[1]
    assert rates.rate("key", "steps") == pytest.approx(10)
