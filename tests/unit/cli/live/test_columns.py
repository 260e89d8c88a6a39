"""Lines of text: in whole cells, within a width, in an order, and none of it obeyed by a terminal."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from snapshots import episodes, loss, session, snapshot, worker

from remote_gym.cli.live import columns
from remote_gym.cli.live.board import Board, LossRow, View
from remote_gym.cli.live.columns import ASCII_BLOCKS, BLOCKS, SERVERS, WORKERS, fitted, sparkline, table, width_of
from remote_gym.figures import HistogramFigures, Totals

SESSIONS = columns.sessions()


def view(*snapshots: Any, address: str = "127.0.0.1:56765") -> View:
    board = Board([address])
    for one in snapshots or (snapshot(1.0), snapshot(2.0)):
        board.take(address, one)
    return board.view()


# Cells


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("é", 1), ("e\u0301", 1), ("環境", 4), ("▁▂▃", 3), ("a\u0300\u0301\u0302", 1)],
)
def test_how_wide_a_text_is(text: str, width: int) -> None:
    assert width_of(text) == width


@pytest.mark.parametrize("width", [1, 2, 3, 5, 8, 20])
@pytest.mark.parametrize("text", ["", "short", "a longer text than that", "環境環境環境", "x環y境z"])
@pytest.mark.parametrize("right", [False, True])
def test_a_cell_is_exactly_as_wide_as_asked(text: str, width: int, right: bool) -> None:
    cell = fitted(text, width, right)
    assert width_of(cell) == width
    assert ("~" in cell) is (width_of(text) > width)


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == BLOCKS
    assert sparkline([7, 0], blocks=ASCII_BLOCKS) == "#_"
    assert sparkline([5, 5, 5]) == BLOCKS[3] * 3, "of what stays the same neither much nor little"
    assert sparkline([9, 9, 0, 1], 2) == "▁█", "the last ones"
    assert sparkline([math.nan, 0, math.inf, 1]) == "?▁?█"
    assert sparkline([-1.7e308, 1.7e308, 0.0]) == "▁█▅"


# Tables


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 160, 300])
def test_no_line_is_wider_than_asked(width: int) -> None:
    seen = view(snapshot(1.0, [session(1, principal="環" * 100, peer="p" * 200)], losses=[loss(reason="x" * 500)]))
    for kinds, rows in ((SERVERS, seen.servers), (SESSIONS, seen.sessions), (WORKERS, seen.workers)):
        lines = table(kinds, rows, width)  # type: ignore[arg-type]
        assert all(width_of(line) <= width for line in lines)
        assert len(lines) == len(rows) + 1


def test_at_80_all_that_matters_is_there() -> None:
    totals = Totals(env_steps=2_000, episodes=100)
    detached = session(2, 2.0, state="detached", kept_seconds=119.0, totals=totals, episodes=episodes(*range(20)))
    seen = view(snapshot(1.0), snapshot(2.0, [session(1, 2.0), detached]))
    heading, _, row = table(SESSIONS, seen.sessions, 80)
    assert heading.split() == [
        "SESSION", "PRINCIPAL", "ENVS", "STEPS/S", "EPISODES", "RETURN", "RETURNS", "LEASE"
    ]  # fmt: skip
    assert row.startswith("02020202  anonymous")
    assert row.endswith("█  gone, 1m59s"), "of returns that do not fit the last ones are kept"
    heading = table(WORKERS, seen.workers, 80)[0]
    assert {"WORKER", "ENVS", "BUSY", "STEPS/S", "P50", "P99", "RESTARTS"} <= set(heading.split())
    heading = table(SERVERS, seen.servers, 80)[0]
    assert {"SERVER", "STATE", "STEPS/S", "ENVS", "CPU", "LAG"} <= set(heading.split())


def test_a_wide_terminal_has_all_columns() -> None:
    seen = view()
    assert [column.title for column, _ in columns.chosen(SESSIONS, seen.sessions, 200)] == [
        "SESSION", "ON", "PRINCIPAL", "PEER", "ENVS", "STEPS/S", "EPISODES", "RETURN", "LENGTH", "RETURNS", "LEASE",
        "AGE",
    ]  # fmt: skip


def test_what_a_server_is_up_to() -> None:
    board = Board(["a:1"])
    name, state, *figures = table(SERVERS, board.view().servers, 80)[1].split()
    assert (name, state, set(figures)) == ("a:1", "connecting", {"-"})
    board.take("a:1", snapshot(1.0))
    assert " up " in table(SERVERS, board.view().servers, 80)[1]
    board.take("a:1", snapshot(2.0, draining=True))
    assert " draining " in table(SERVERS, board.view().servers, 80)[1]
    board.lost("a:1", "connection refused")
    assert "away: connection refused" in table(SERVERS, board.view().servers, 120)[1]


def test_nothing_that_others_say_is_obeyed() -> None:
    evil = "\x1b]0;title\x07\x1b[2J\r\n\x9b[bold red]x[/]\u202e"
    seen = view(
        snapshot(1.0, [session(1, principal=evil, peer=evil, state=evil)], [worker(0, principal=evil)],
                 [loss(reason=evil, output=f"{evil}\n{evil}")], version=evil, entrypoint=evil),
        address=f"unix:{evil}",
    )  # fmt: skip
    lines = [
        *table(SERVERS, seen.servers, 500), *table(SESSIONS, seen.sessions, 500), *table(WORKERS, seen.workers, 500),
        *columns.loss_lines(seen.losses[0], 1_001.0),
    ]  # fmt: skip
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, -1.0, 1e308])
def test_odd_numbers_are_shown_as_what_they_are(odd: float) -> None:
    """A server may tell anything."""
    histogram = HistogramFigures((odd, odd), (1, 2**63), odd)
    ages = {"age_seconds": odd, "mean_return": odd, "mean_length": odd, "kept_seconds": odd, "state": "detached"}
    totals = Totals(env_steps=2**63, episodes=2**63)
    told = [
        snapshot(
            second,
            [session(1, 0.0, totals=totals, episodes=episodes(odd, 1.0), **ages)],
            [worker(0, 0.0, busy_seconds=odd, step_seconds=histogram._replace(counts=(int(second), 2**63)))],
            [loss(time=odd)],
            started=odd, loop_lag_seconds=odd, cpu_seconds=odd, memory_bytes=2**63,
        )._replace(time=time)
        for second, time in ((1.0, odd), (2.0, odd), (3.0, 5.0), (4.0, 6.0))
    ]  # fmt: skip
    seen = view(*told)
    for kinds, rows in ((SERVERS, seen.servers), (SESSIONS, seen.sessions), (WORKERS, seen.workers)):
        for column in kinds:
            columns.in_order(rows, column)  # type: ignore[arg-type]
        assert table(kinds, rows, 200)  # type: ignore[arg-type]
    assert columns.loss_lines(seen.losses[0], 1.0)


# Order


@pytest.mark.parametrize("kinds", [SERVERS, SESSIONS, WORKERS], ids=["servers", "sessions", "workers"])
@pytest.mark.parametrize("reverse", [False, True])
def test_every_column_sorts(kinds: Any, reverse: bool) -> None:
    board = Board(["a:1", "b:1", "c:1"])
    draw = random.Random(1)
    for second in (1.0, 2.0):
        for address in ("a:1", "b:1"):
            speeds = [draw.randrange(1_000) + 5_000 * int(second) for _ in range(9)]
            board.take(address, snapshot(second, [session(at, second, speed) for at, speed in enumerate(speeds)]))
    given: Any = list(board.view()[[SERVERS, SESSIONS, WORKERS].index(kinds)])
    for column in kinds:
        sorted_rows = columns.in_order(given, column, reverse)
        assert sorted(map(id, sorted_rows)) == sorted(map(id, given))
        keys = [column.order(row) for row in sorted_rows]
        known = [key for key in keys if key is not None]
        assert keys[: len(known)] == known, "what is not known comes last"
        assert known == sorted(known, reverse=column.falling is not reverse)


def test_a_filter_looks_at_everything_that_is_shown() -> None:
    seen = view(snapshot(1.0, [session(1, principal="Alice"), session(2, principal="bob", peer="ipv4:10.0.0.7:1")]))
    for text, count in (("", 2), ("alice", 1), ("10.0.0.7", 1), ("0202", 1), ("nobody", 0)):
        assert sum(columns.matches(text, SESSIONS, row) for row in seen.sessions) == count


def test_the_end_of_a_worker_with_its_last_words() -> None:
    lines = columns.loss_lines(LossRow(2, loss(worker=3, output="one\ntwo\x1b[2J\n" + "x" * 5_000)), 1_065.0)
    assert lines[0] == "1m05s ago: worker 3 of server 2, process 3999: signal 9"
    assert lines[1:3] == ["    one", r"    two\x1b[2J"]
    assert len(lines[3]) < 250
    assert len(columns.loss_lines(LossRow(1, loss(output="x\n" * 500)), 1_000.0)) == 21
