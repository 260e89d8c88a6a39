"""Which rows are where: a tuple as ever, and a table in a notebook."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faking import fleet_of

from remote_gym.client.blocks import COLUMNS, Block, Blocks, with_pace
from remote_gym.client.carriers.channel import Address
from remote_gym.client.fleet import Fleet
from remote_gym.client.pace import MIN_STEPS, Judged
from remote_gym.client.shards import Layout


@pytest.fixture
def three() -> Iterator[Fleet]:
    fleet, connections = fleet_of(2, 3, 1)
    for at, connection in enumerate(connections):
        connection.address = Address("fake", at + 1, None)
    yield fleet
    for connection in connections:
        connection.close()


def test_rows_without_a_server_are_between_the_others(three: Fleet) -> None:
    three.layout = Layout.of(three.shards[1:], 7)
    three.homeless = {0: "gone", 1: "gone", 6: "gone"}
    assert [block[:3] for block in three.blocks()] == [
        ("", range(2), "moving"), ("fake:2", range(2, 5), "there"), ("fake:3", range(5, 6), "there"),
        ("", range(6, 7), "moving"),
    ]  # fmt: skip


def test_a_straggler_is_named(three: Fleet) -> None:
    assert all(block.step_seconds is None and not block.straggling for block in three.blocks())
    for shard, seconds in zip(three.shards, (0.010, 0.050, 0.011), strict=True):
        shard.took.extend([seconds] * MIN_STEPS)
    assert three.blocks() == (
        Block("fake:1", range(2), "there", 0.010, False),
        Block("fake:2", range(2, 5), "there", 0.050, True),
        Block("fake:3", range(5, 6), "there", 0.011, False),
    )


def test_what_is_told_of_a_server_is_told_of_all_its_blocks() -> None:
    blocks = [Block("a", range(2), "there"), Block("", range(2, 3), "moving"), Block("a", range(3, 4), "there")]
    assert with_pace(blocks, {"a": Judged(0.5, True)}) == (
        Block("a", range(2), "there", 0.5, True), Block("", range(2, 3), "moving"),
        Block("a", range(3, 4), "there", 0.5, True),
    )  # fmt: skip


def test_it_is_a_tuple_of_named_tuples() -> None:
    blocks = Blocks([Block("a:1", range(2), "there")])
    assert blocks == (("a:1", range(2), "there", None, False),)
    assert blocks[0].address == "a:1"


def test_lines_for_people() -> None:
    blocks = Blocks([Block("a:1", range(2_000), "there"), Block("", range(2_000, 2_001), "moving")])
    assert blocks.lines() == [("a:1", "0 to 1999", "2,000", "there"), ("", "2000", "1", "moving")]
    assert all(len(line) == len(COLUMNS) for line in blocks.lines())


def test_a_notebook_shows_a_table_without_anybodys_markup() -> None:
    shown = Blocks([Block("<b>a</b>\x1b[2J:1", range(1), "there")])._repr_html_()
    assert "&lt;b&gt;a&lt;/b&gt;\\x1b[2J:1" in shown
    assert "<b>" not in shown
