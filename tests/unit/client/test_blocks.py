"""Which rows are where, and who is slow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from faking import fleet_of

from remote_gym.client.blocks import Block, blocks
from remote_gym.client.carriers.channel import Address
from remote_gym.client.fleet import Fleet
from remote_gym.client.pace import MIN_STEPS


@pytest.fixture
def three() -> Iterator[Fleet]:
    fleet, connections = fleet_of(2, 3, 1)
    for at, connection in enumerate(connections):
        connection.address = Address("fake", at + 1, None)  # type: ignore[misc]
    yield fleet
    for connection in connections:
        connection.close()


def test_rows_without_a_server_are_between_the_others(three: Fleet) -> None:
    three.shards = three.shards[1:]
    assert [block[:3] for block in blocks(three.shards, {0: "gone", 1: "gone", 6: "gone"})] == [
        ("", range(2), "moving"), ("fake:2", range(2, 5), "there"), ("fake:3", range(5, 6), "there"),
        ("", range(6, 7), "moving"),
    ]  # fmt: skip


def test_a_straggler_is_named(three: Fleet) -> None:
    assert all(block.step_seconds is None and not block.straggling for block in blocks(three.shards, {}))
    for shard, seconds in zip(three.shards, (0.010, 0.050, 0.011), strict=True):
        shard.took.extend([seconds] * MIN_STEPS)
    assert blocks(three.shards, {}) == (
        Block("fake:1", range(2), "there", 0.010, False),
        Block("fake:2", range(2, 5), "there", 0.050, True),
        Block("fake:3", range(5, 6), "there", 0.011, False),
    )
