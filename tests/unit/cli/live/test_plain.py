"""Text and JSON for scripts: whole, plain, and obeyed by no terminal."""

from __future__ import annotations

import json
import math

from snapshots import loss, session, snapshot

from remote_gym.cli.live import plain
from remote_gym.cli.live.board import Board
from remote_gym.cli.live.columns import ASCII_BLOCKS
from remote_gym.figures import Snapshot


def test_three_tables() -> None:
    board = Board(["a:1", "b:1"])
    for second in (1.0, 2.0):
        board.take("a:1", snapshot(second))
    text = plain.text(board.view(), 100)
    servers, sessions, workers = [block.splitlines() for block in text.split("\n\n")]
    assert [line.split()[0] for line in servers] == ["SERVER", "a:1", "b:1"]
    assert [line.split()[0] for line in sessions] == ["SESSION", "01010101", "02020202"]
    assert [line.split()[0] for line in workers] == ["WORKER", "0", "1"]
    assert "1.5k" in servers[1]


def test_without_anybody() -> None:
    board = Board(["a:1"])
    board.take("a:1", snapshot(1.0, [], []))
    assert plain.text(board.view(), 80).split("\n\n")[1:] == ["no sessions", "no workers"]


def test_it_can_be_ascii_alone() -> None:
    board = Board(["a:1"])
    board.take("a:1", snapshot(1.0, [session(1, principal="环")]))
    assert plain.text(board.view(), 200, ASCII_BLOCKS).replace("环", "").isascii()


def test_json_holds_all_that_was_told() -> None:
    evil = "\x1b[2J\u202e\n"
    told = snapshot(1.0, [session(1, 1.0, principal=evil, mean_return=math.nan)], losses=[loss(output=evil)])
    line = plain.json_line("a:1", told)
    assert line.isascii() and line.isprintable()
    read = json.loads(line)
    assert read["address"] == "a:1"
    assert set(read) == {"address", *Snapshot._fields}
    assert read["sessions"][0]["id"] == "01" * 16
    assert read["sessions"][0]["principal"] == evil
    assert read["sessions"][0]["mean_return"] is None
    assert read["workers"][0]["step_seconds"]["bounds"][-1] is None
    assert read["server"]["totals"]["env_steps"] == 1_000
