"""What servers have told becomes rows: rates, the last returns, and text that is fit to be shown."""

from __future__ import annotations

import math
from typing import Any

import pytest
from snapshots import episodes, loss, session, snapshot, worker

from remote_gym.cli.live.board import AWAY, CONNECTING, MAX_LOSSES, MAX_RETURNS, WATCHED, Board, View
from remote_gym.figures import HistogramFigures, Totals


def told(*snapshots: Any) -> View:
    board = Board(["a:1"])
    for one in snapshots:
        board.take("a:1", one)
    return board.view()


def test_before_anybody_has_told_anything() -> None:
    view = Board(["a:1", "b:\x1b[2J"]).view()
    assert [(row.address, row.state) for row in view.servers] == [("a:1", CONNECTING), (r"b:\x1b[2J", CONNECTING)]
    assert view.sessions == view.workers == view.losses == ()


def test_rates_are_those_of_totals() -> None:
    first = told(snapshot(10.0))
    assert first.servers[0].steps_per_second is None
    assert first.sessions[0].steps_per_second is None
    assert first.workers[0].busy is None
    view = told(snapshot(10.0), snapshot(12.0))
    server = view.servers[0]
    assert (server.state, server.uptime_seconds) == (WATCHED, 112.0)
    assert (server.steps_per_second, server.cpu_share) == (1_500.0, 0.25)
    assert (server.received_per_second, server.sent_per_second) == (2_048.0, 4_096.0)
    assert [row.steps_per_second for row in view.sessions] == [1_000.0, 500.0]
    assert [(row.busy, row.steps_per_second) for row in view.workers] == [(0.5, 100.0)] * 2


def test_step_times_are_those_of_late() -> None:
    """Slow at first, quick since: what was slow a minute ago is no news."""
    slow = HistogramFigures((0.001, 0.1, math.inf), (0, 1_000, 0), 50.0)
    quick = HistogramFigures((0.001, 0.1, math.inf), (90, 1_010, 0), 50.0)
    view = told(
        snapshot(1.0, workers=[worker(0, 1.0, step_seconds=slow)]),
        snapshot(2.0, workers=[worker(0, 2.0, step_seconds=quick)]),
    )
    row = view.workers[0]
    assert row.p50 is not None and row.p50 < 0.001
    assert row.p90 == 0.001
    assert row.p99 is not None and 0.05 < row.p99 <= 0.1
    idle = told(snapshot(1.0), snapshot(1.5, workers=[worker(0, 1.0)])).workers[0]
    assert (idle.p50, idle.p90, idle.p99) == (None, None, None)


def test_returns_gather_over_snapshots_and_are_bounded() -> None:
    totals = Totals(episodes=100)
    view = told(
        snapshot(1.0, [session(1, episodes=episodes(*range(60)), totals=totals, mean_return=3.0)]),
        snapshot(2.0, [session(1, episodes=episodes(*range(60, 70)), totals=totals, mean_return=4.0)]),
        snapshot(3.0, [session(1, totals=totals, mean_return=5.0, mean_length=7.0)]),
    )
    row = view.sessions[0]
    assert row.returns == tuple(range(70 - MAX_RETURNS, 70))
    assert (row.episodes, row.mean_return, row.mean_length) == (100, 5.0, 7.0)
    assert told(snapshot(1.0, [session(1)])).sessions[0].mean_return is None, "without episodes there is no mean"


def test_a_session_that_is_detached_says_for_how_long() -> None:
    there, gone = told(
        snapshot(1.0, [session(1, kept_seconds=7.0), session(2, state="detached", kept_seconds=99.0)])
    ).sessions
    assert (there.kept_seconds, gone.kept_seconds) == (None, 99.0)


def test_who_has_ended_is_forgotten() -> None:
    board = Board(["a:1"])
    for second in range(200):
        board.take("a:1", snapshot(float(second), [session(second % 250, second, episodes=episodes(1.0))]))
    kept = board._told["a:1"]
    assert len(kept.returns) == 1
    assert len(kept.rates._known) == 4, "the server, a session, two workers"


def test_ends_of_workers() -> None:
    board = Board(["a:1", "b:1"])
    board.take("b:1", snapshot(1.0, losses=[loss(1, worker=1), loss(2, worker=1, reason="exit code 3")]))
    board.take("b:1", snapshot(2.0))
    view = board.view()
    assert [(row.server, row.loss.number) for row in view.losses] == [(2, 1), (2, 2)]
    assert [row.loss and row.loss.reason for row in view.workers] == [None, "exit code 3"]
    board.take("b:1", snapshot(3.0, losses=[loss(number) for number in range(3, 1_000)]))
    assert len(board.view().losses) == MAX_LOSSES


def test_a_server_that_is_away_keeps_what_it_told_but_no_rates() -> None:
    board = Board(["a:1", "b:1"])
    for second in (1.0, 2.0):
        board.take("a:1", snapshot(second))
    for address in ("a:1", "b:1"):
        board.lost(address, "connection refused\x1b[31m")
    view = board.view()
    assert [row.state for row in view.servers] == [AWAY, CONNECTING]
    assert view.servers[0].reason == r"connection refused\x1b[31m"
    assert view.servers[0].figures is not None and view.servers[0].steps_per_second is None
    assert [row.steps_per_second for row in view.sessions] == [None, None]
    assert [row.busy for row in view.workers] == [None, None]
    board.take("a:1", snapshot(9.0))
    assert board.view().servers[0].steps_per_second == 1_500.0, "over the gap"


def test_a_server_that_was_started_anew_begins_anew() -> None:
    view = told(
        snapshot(100.0, [session(1, 100.0, episodes=episodes(5.0))], losses=[loss(worker=0)]),
        snapshot(101.0, [session(1, 101.0)], server_epoch=b"f" * 16),
    )
    assert view.sessions[0].returns == ()
    assert view.sessions[0].steps_per_second is None
    assert view.workers[0].loss is None
    assert len(view.losses) == 1, "it has happened all the same"


HOSTILE = "evil\x1b[2J\x9b31m\n\u202e[bold]\ud800"


@pytest.mark.parametrize("name", ["principal", "peer", "state"])
def test_what_others_have_said_is_printable(name: str) -> None:
    view = told(
        snapshot(1.0, [session(1, **{name: HOSTILE})], [worker(0, principal=HOSTILE)]),
    )
    texts = [view.sessions[0].principal, view.sessions[0].peer, view.sessions[0].state, view.workers[0].principal]
    assert all(text.isprintable() for text in texts)
    assert "\\x1b" in "".join(texts)
    "".join(texts).encode()
