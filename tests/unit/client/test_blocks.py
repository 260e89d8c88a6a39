"""Which rows are where, and who is slow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faking import fleet_of

from remote_gym.client.blocks import Block, with_pace
from remote_gym.client.carriers.channel import Address
from remote_gym.client.fleet import Fleet
from remote_gym.client.pace import MIN_STEPS, Judged


@pytest.fixture
def three() -> Iterator[Fleet]:
    fleet, connections = fleet_of(2, 3, 1)
    for at, connection in enumerate(connections):
        connection.address = Address("fake", at + 1, None)
    yield fleet
    for connection in connections:
        connection.close()


def test_rows_without_a_server_are_between_the_others(three: Fleet) -> None:
    three.shards = three.shards[1:]
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
