"""What is kept between snapshots: rates over windows, curves without end in constant memory, percentiles of lately."""

from __future__ import annotations

import math

import pytest
from staged import BEGAN, identity, loss, session, snapshot, worker

from remote_gym.dashboard.records import (
    EPISODES,
    LOSSES,
    MOMENTS,
    POINTS,
    ServerRecord,
    SessionRecord,
    Tail,
    Window,
    WorkerRecord,
)
from remote_gym.figures import HistogramFigures


def test_a_tail_tells_what_somebody_lacks() -> None:
    tail: Tail[int] = Tail(3)
    assert tail.since(0) == []
    tail.add([1, 2])
    assert (tail.since(0), tail.since(1), tail.since(2)) == ([1, 2], [2], [])
    tail.add([3, 4, 5])
    assert tail.count == 5
    assert (tail.since(0), tail.since(2), tail.since(4)) == ([3, 4, 5], [3, 4, 5], [5])


def test_a_rate_is_over_the_whole_window() -> None:
    window = Window(2.5)
    assert (window.rate(), window.seconds) == (None, 0.0)
    window.see(0.0, [0])
    assert window.rate() is None
    for second, total in enumerate((100, 300, 300, 300, 300), start=1):
        window.see(second, [total])
    assert window.rate() == 0.0  # the last 2.5 s
    window.see(6.0, [600])
    assert window.rate() == pytest.approx(100.0)


def test_a_window_reaches_back_to_one_snapshot_however_rare_they_are() -> None:
    window = Window(2.5)
    window.see(0.0, [0])
    window.see(60.0, [600])
    assert window.rate() == pytest.approx(10.0)


def test_totals_that_have_shrunk_are_anothers() -> None:
    window = Window(10.0)
    window.see(0.0, [1_000])
    window.see(1.0, [5])
    assert window.rate() is None
    window.see(2.0, [10])
    assert window.rate() == pytest.approx(5.0)


@pytest.mark.parametrize(("before", "after"), [([5, 1, 2], [5]), ([5], [5, 1, 2])])
def test_totals_of_other_things_begin_anew(before: list[int], after: list[int]) -> None:
    window = Window(10.0)
    window.see(0.0, before)
    window.see(1.0, after)
    assert (window.rate(), len(window.growth)) == (None, len(after))
    window.see(2.0, [5 + total for total in after])
    assert window.growth == [5.0] * len(after)


@pytest.mark.parametrize("time", [-3_600.0, 10.0, math.nan])
def test_a_clock_that_was_set_back_begins_anew(time: float) -> None:
    window = Window(2.5)
    for second in range(11):
        window.see(second, [100 * second])
    window.see(time, [1_100])
    assert window.rate() is None
    for second in range(1, 20):
        window.see(second - 3_600.0, [1_100 + 50 * second])
    assert window.rate() == pytest.approx(50.0)
    assert window.seconds < 4.0


def test_a_window_is_bounded_however_often_it_is_told() -> None:
    window = Window(2.5)
    for number in range(10 * MOMENTS):
        window.see(1.0 + 1e-6 * number, [number])
    assert len(window._seen) == MOMENTS
    assert window.rate() == pytest.approx(1e6, rel=0.01)


def test_a_session_has_its_rate_and_its_curves() -> None:
    record = SessionRecord()
    for tick in range(1, 200):
        record.see(BEGAN + tick, session(0, tick))
    assert record.rate == pytest.approx(100.0)
    assert len(record.rates.since(0)) == POINTS
    assert len(record.episodes.since(0)) == EPISODES
    assert record.episodes.since(record.episodes.count - 1) == [(20.0 + 199 % 5, 100)]


def test_a_session_stays_where_it_is_among_others() -> None:
    record = SessionRecord()
    record.see(BEGAN + 1, session(0, 1))
    began = record.began
    record.see(BEGAN + 2.4, session(0, 2))
    assert record.began == began


def test_a_worker_is_busy_for_a_share_of_its_time() -> None:
    record = WorkerRecord()
    record.see(BEGAN, worker(0, 1))
    assert record.busy is None
    record.see(BEGAN + 1, worker(0, 2))
    assert record.busy == pytest.approx(0.5)
    assert record.rate == pytest.approx(1_000.0)


def test_a_workers_percentiles_are_of_lately() -> None:
    bounds = (0.001, 0.01, math.inf)
    record = WorkerRecord()
    for tick in range(100):
        slow = max(0, tick - 90)  # for the last ten seconds
        counts = [100 * min(tick, 90), 100 * slow, 0]
        record.see(BEGAN + tick, worker(0, tick, step_seconds=HistogramFigures(bounds, counts, 0.0)))
    assert record.step_seconds(0.5) == pytest.approx(0.001 + 0.009 / 2)


def test_without_steps_lately_those_of_ever_are_told_and_without_any_none() -> None:
    record = WorkerRecord()
    for tick in range(5):
        record.see(BEGAN + tick, worker(0, 3))
    assert record.step_seconds(0.5) > 0
    idle = WorkerRecord()
    idle.see(BEGAN, worker(0, 0))
    assert math.isnan(idle.step_seconds(0.5))


def test_a_worker_that_was_replaced_begins_anew() -> None:
    record = WorkerRecord()
    record.see(BEGAN, worker(0, 10))
    record.see(BEGAN + 1, worker(0, 0, process=9_999))
    assert record.busy is None
    record.see(BEGAN + 2, worker(0, 1, process=9_999))
    assert record.busy == pytest.approx(0.5)


def test_a_server_knows_who_is_there_and_who_has_gone() -> None:
    record = ServerRecord()
    record.see(snapshot(1, 5))
    assert list(record.sessions) == [identity(number) for number in range(5)]
    record.see(snapshot(2, 2))
    assert list(record.sessions) == [identity(0), identity(1)]
    assert record.rate() == pytest.approx(3_000.0)
    assert record.rate(2) == pytest.approx(50_000.0)


def test_losses_are_told_once_whatever_repeats_them() -> None:
    record = ServerRecord()
    record.see(snapshot(1, losses=(loss(1), loss(2))))
    record.see(snapshot(2, losses=(loss(2), loss(3))))
    assert [one.number for one in record.losses.since(0)] == [1, 2, 3]
    record.see(snapshot(3, losses=tuple(loss(number) for number in range(4, 500))))
    assert len(record.losses.since(0)) == LOSSES


def test_a_worker_that_was_lost_before_it_worked_is_told_among_the_losses() -> None:
    """Its times are then told without a single bound."""
    record = ServerRecord()
    record.see(snapshot(1)._replace(workers=[worker(0, 0)]))
    empty = worker(0, 0, step_seconds=HistogramFigures())
    record.see(snapshot(2, losses=(loss(1),))._replace(workers=[empty]))
    assert record.losses.count == 1
    assert math.isnan(record.workers[0].step_seconds(0.5))
    record.see(snapshot(3)._replace(workers=[worker(0, 1)]))
    assert record.workers[0].step_seconds(0.5) > 0


def test_a_server_that_was_started_anew_begins_anew() -> None:
    record = ServerRecord()
    record.see(snapshot(50, losses=(loss(7),)))
    record.see(snapshot(1, losses=(loss(1),), server_epoch=b"another"))
    assert record.rate() is None
    assert [one.number for one in record.losses.since(0)] == [7, 1]


def test_of_a_server_that_is_lost_nothing_is_known_but_its_losses() -> None:
    record = ServerRecord()
    record.see(snapshot(1, losses=(loss(1),)))
    record.lose("gone")
    assert (record.figures, record.error, record.sessions, record.workers) == (None, "gone", {}, {})
    assert record.losses.count == 1
    record.see(snapshot(2))
    assert record.error == ""
