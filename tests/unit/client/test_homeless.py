"""Resets that wait for a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from faking import FakeConnection, fleet_of

from remote_gym.client.homeless import Homeless
from remote_gym.client.operations import Operation
from remote_gym.client.shards import Shard
from remote_gym.messages import Reset


def reset(*indices: int, **fields: Any) -> Operation:
    notes = {index: {"remote_gym": {"lost": True}} for index in indices}
    return Operation(list(indices), True, b"options", [10 * index for index in indices], notes, **fields)


def waiting(homeless: Homeless) -> list[list[int]]:
    return [list(one.operation.indices) for one in homeless.held if one.waits]


@pytest.fixture
def shard() -> Iterator[Shard]:
    fleet, connections = fleet_of(3)
    yield fleet.shards[0]
    for connection in connections:
        FakeConnection.close(connection)


def test_a_newer_one_takes_the_place_of_an_older() -> None:
    homeless = Homeless()
    homeless.hold(reset(1, 2, 3), 5.0)
    homeless.hold(reset(2), 6.0)
    assert waiting(homeless) == [[1, 3], [2]] and homeless.deadline == 5.0
    homeless.hold(reset(1, 3), 7.0)
    assert waiting(homeless) == [[2], [1, 3]] and homeless.deadline == 6.0


def test_whoever_has_a_home_is_set_apart() -> None:
    homeless = Homeless()
    homeless.hold(reset(1, 2, 3, steps=True), 5.0)
    homeless.hold(reset(5), 6.0)
    homeless.housed([2, 3, 4])
    assert waiting(homeless) == [[2, 3], [1], [5]]
    (ready,) = homeless.ready([2, 3, 4])
    assert ready.operation.indices == [2, 3] and ready.operation.seeds == [20, 30] and ready.operation.steps
    assert ready.operation.notes.keys() == {2, 3} and ready.operation.options == b"options" and ready.deadline == 5.0


def test_time_runs_for_those_without_a_home_only(shard: Shard) -> None:
    homeless = Homeless()
    homeless.hold(reset(0), 5.0)
    homeless.hold(reset(1), 6.0)
    assert homeless.overdue(4.9) == [] and [one.operation.indices for one in homeless.overdue(5.5)] == [[0]]
    first = homeless.held[0]
    first.part = shard, Reset(0)
    assert homeless.deadline == 6.0 and homeless.overdue(5.5) == []
    assert homeless.unsent() == [first], "it was not sent"
    shard.session.send(first.part[1])
    assert homeless.unsent() == []
    homeless.drop([first])
    assert waiting(homeless) == [[1]]
