"""No I/O: rows -> lines of text. What each column says, which fit, and in which order rows come."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from remote_gym.cli.live.board import WATCHED, LossRow, ServerRow, SessionRow, WorkerRow
from remote_gym.cli.quantities import UNKNOWN, bytes_of, counted, measured, percent, short_time, span
from remote_gym.texts import printable

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=+*#"
"""Where the terminal's encoding has no others."""

GAP = 2
"""Characters between two columns."""

LEAST = 4
"""How narrow a column may become before others go."""

SPARKS = 16
"""Characters of a sparkline."""

CUT = "~"
"""What ends a text that is cut."""

MAX_OUTPUT_LINES = 20
"""Of what a worker's environments have said last."""

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """One column.

    Attributes:
        title: Its heading.
        text: What it says of a row, in one printable line.
        order: What rows are sorted by; None: last.
        right: Whether it is flushed right.
        most: How wide it may become.
        spare: Who goes first where not all fit; 0: never.
        falling: Whether whoever sorts by it wants the greatest first.
        tail: Whether the end of a text that is cut is what stays.
    """

    title: str
    text: Callable[[Row], str]
    order: Callable[[Row], Any]
    right: bool = False
    most: int = 24
    spare: int = 0
    falling: bool = False
    tail: bool = False


def width_of(text: str) -> int:
    """Return how many cells of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def fitted(text: str, width: int, right: bool = False) -> str:
    """Return `text` in exactly `width` cells: filled up, or cut."""
    if (room := width - width_of(text)) < 0:
        while text and width_of(text) > width - 1:
            text = text[:-1]
        text += CUT
        room = width - width_of(text)
    return " " * room + text if right else text + " " * room


def sparkline(values: Sequence[float], width: int = SPARKS, blocks: str = BLOCKS) -> str:
    """Return the last `width` values as blocks, the least of them lowest; ``"?"`` for what is no number."""
    shown = values[-width:]
    numbers = [value for value in shown if math.isfinite(value)]
    low, high = min(numbers, default=0.0), max(numbers, default=0.0)
    top = len(blocks) - 1
    extent = high / 2 - low / 2  # halved, for it to be finite

    def block(value: float) -> str:
        if not math.isfinite(value):
            return "?"
        return blocks[round(top * ((value / 2 - low / 2) / extent)) if extent else top // 2]

    return "".join(map(block, shown))


def chosen(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int) -> list[tuple[Column[Row], int]]:
    """Return the columns that fit into `width` cells, and how wide each is; the widest give way where none can go."""
    wide = {
        column.title: min(column.most, max([width_of(column.title), *(width_of(column.text(row)) for row in rows)]))
        for column in columns
    }
    left = list(columns)
    while (over := sum(wide[one.title] + GAP for one in left) - GAP - width) > 0:
        if (spared := max(left, key=lambda one: one.spare)).spare:
            left.remove(spared)
            continue
        widest = max(left, key=lambda one: wide[one.title])
        if wide[widest.title] > LEAST:
            wide[widest.title] = max(LEAST, wide[widest.title] - over)
        elif len(left) > 1:
            left.pop()
        else:
            break
    return [(column, wide[column.title]) for column in left]


def line(columns: Sequence[tuple[Column[Row], int]], row: Row) -> str:
    """Return what the columns say of a row."""
    texts = [(column, column.text(row), width) for column, width in columns]
    cells = [fitted(text[-width:] if column.tail else text, width, column.right) for column, text, width in texts]
    return (" " * GAP).join(cells).rstrip()


def heading(columns: Sequence[tuple[Column[Any], int]]) -> str:
    """Return their titles."""
    return (" " * GAP).join(fitted(column.title, width, column.right) for column, width in columns).rstrip()


def in_order(rows: Iterable[Row], column: Column[Row], reverse: bool = False) -> list[Row]:
    """Return rows as a column sorts them, `reverse` the other way; those of which it knows nothing come last."""
    known: list[Row] = []
    unknown: list[Row] = []
    for row in rows:
        order = column.order(row)
        (unknown if order is None else known).append(row)
    return sorted(known, key=column.order, reverse=column.falling is not reverse) + unknown


def table(columns: Sequence[Column[Row]], rows: Sequence[Row], width: int) -> list[str]:
    """Return a heading and a line for each row, within `width` cells where that can be."""
    fitting = chosen(columns, rows, width)
    return [heading(fitting), *(line(fitting, row) for row in rows)]


# What the columns say


def _of_server(row: ServerRow) -> str:
    if row.figures is None or row.state != WATCHED:
        return row.state if not row.reason else f"{row.state}: {row.reason}"
    return "draining" if row.figures.draining else "up"


def _held(now: int, most: int) -> str:
    return f"{now}/{most}"


def _figure(read: Callable[[Any], str]) -> Callable[[ServerRow], str]:
    return lambda row: UNKNOWN if row.figures is None else read(row.figures)


def _order(read: Callable[[Any], Any]) -> Callable[[ServerRow], Any]:
    return lambda row: None if row.figures is None else read(row.figures)


def _uptime(row: ServerRow) -> str:
    return UNKNOWN if row.figures is None else span(row.uptime_seconds)


SERVERS: Sequence[Column[ServerRow]] = (
    Column("SERVER", lambda row: row.address, lambda row: row.address, most=30),
    Column("STATE", _of_server, _of_server, most=40),
    Column("STEPS/S", lambda row: counted(row.steps_per_second), lambda row: row.steps_per_second, True, falling=True),
    Column(
        "SESSIONS", _figure(lambda told: _held(told.sessions, told.max_sessions)), _order(lambda told: told.sessions),
        True, spare=2, falling=True,
    ),
    Column(
        "ENVS", _figure(lambda told: _held(told.envs, told.max_envs)), _order(lambda told: told.envs), True,
        falling=True,
    ),
    Column("UP", _uptime, lambda row: row.uptime_seconds, True, spare=1, falling=True),
    Column(
        "LAG", _figure(lambda told: short_time(told.loop_lag_seconds)), _order(lambda told: told.loop_lag_seconds),
        True, falling=True,
    ),
    Column("CPU", lambda row: percent(row.cpu_share), lambda row: row.cpu_share, True, falling=True),
    Column(
        "MEMORY", _figure(lambda told: bytes_of(told.memory_bytes)), _order(lambda told: told.memory_bytes), True,
        spare=3, falling=True,
    ),
    Column(
        "RESTARTS", _figure(lambda told: counted(told.worker_restarts)), _order(lambda told: told.worker_restarts),
        True, spare=4, falling=True,
    ),
    Column(
        "REFUSED", _figure(lambda told: counted(told.refusals)), _order(lambda told: told.refusals), True, spare=5,
        falling=True,
    ),
    Column("IN/S", lambda row: bytes_of(row.received_per_second), lambda row: row.received_per_second, True, spare=6),
    Column("OUT/S", lambda row: bytes_of(row.sent_per_second), lambda row: row.sent_per_second, True, spare=6),
)  # fmt: skip


def _lease(row: SessionRow) -> str:
    return row.state if row.kept_seconds is None else f"gone, {span(row.kept_seconds)}"


def sessions(blocks: str = BLOCKS) -> Sequence[Column[SessionRow]]:
    """Return the columns of sessions, their sparklines made of `blocks`."""
    return (
        Column("SESSION", lambda row: row.id[:8], lambda row: row.id, most=8),
        Column("ON", lambda row: str(row.server), lambda row: row.server, True, spare=2),
        Column("PRINCIPAL", lambda row: row.principal, lambda row: row.principal, most=16),
        Column("PEER", lambda row: row.peer, lambda row: row.peer, spare=4),
        Column("ENVS", lambda row: counted(row.envs), lambda row: row.envs, True, falling=True),
        Column(
            "STEPS/S", lambda row: counted(row.steps_per_second), lambda row: row.steps_per_second, True, falling=True
        ),
        Column("EPISODES", lambda row: counted(row.episodes), lambda row: row.episodes, True, falling=True),
        Column("RETURN", lambda row: measured(row.mean_return), lambda row: row.mean_return, True, falling=True),
        Column(
            "LENGTH", lambda row: measured(row.mean_length), lambda row: row.mean_length, True, spare=3, falling=True
        ),
        Column(
            "RETURNS",
            lambda row: sparkline(row.returns, SPARKS, blocks),
            lambda row: row.mean_return,
            most=SPARKS,
            falling=True,
            tail=True,
        ),
        Column("LEASE", _lease, _lease, most=12),
        Column("AGE", lambda row: span(row.age_seconds), lambda row: row.age_seconds, True, spare=5, falling=True),
    )


def _loss(row: WorkerRow) -> str:
    return "" if row.loss is None else printable(row.loss.reason, 200)


WORKERS: Sequence[Column[WorkerRow]] = (
    Column("WORKER", lambda row: str(row.index), lambda row: row.index, True),
    Column("ON", lambda row: str(row.server), lambda row: row.server, True, spare=1),
    Column("PROCESS", lambda row: str(row.process), lambda row: row.process, True, spare=3),
    Column("PRINCIPAL", lambda row: row.principal, lambda row: row.principal, most=16, spare=2),
    Column("ENVS", lambda row: counted(row.envs), lambda row: row.envs, True, falling=True),
    Column("BUSY", lambda row: percent(row.busy), lambda row: row.busy, True, falling=True),
    Column("STEPS/S", lambda row: counted(row.steps_per_second), lambda row: row.steps_per_second, True, falling=True),
    Column("P50", lambda row: short_time(row.p50), lambda row: row.p50, True, falling=True),
    Column("P90", lambda row: short_time(row.p90), lambda row: row.p90, True, spare=4, falling=True),
    Column("P99", lambda row: short_time(row.p99), lambda row: row.p99, True, falling=True),
    Column("RESTARTS", lambda row: counted(row.restarts), lambda row: row.restarts, True, falling=True),
    Column("LAST END", _loss, _loss, most=60),
)


def matches(text: str, columns: Sequence[Column[Row]], row: Row) -> bool:
    """Tell whether a row says `text` anywhere, whatever its case."""
    wanted = text.casefold()
    return not wanted or any(wanted in column.text(row).casefold() for column in columns)


def loss_lines(row: LossRow, now: float) -> list[str]:
    """Return what is told of a worker's end: a line, and the last ones of its environments."""
    loss, ago = row.loss, span(now - row.loss.time)
    which = f"worker {loss.worker} of server {row.server}, process {loss.process}"
    lines = [f"{ago} ago: {which}: {printable(loss.reason, 400)}"]
    return lines + [f"    {printable(said, 200)}" for said in loss.output.splitlines()[-MAX_OUTPUT_LINES:]]
