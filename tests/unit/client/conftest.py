"""What several files here play on: two fake servers, and stages in each autoreset mode; servers end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from faking import FakeConnection, fleet_of
from fleet_stage import DISABLED, NEXT_STEP, SAME_STEP, Stage

from remote_gym.client.fleet import Fleet


@pytest.fixture
def two() -> Iterator[tuple[Fleet, list[FakeConnection]]]:
    """A fleet of two servers, with two environments and with three."""
    fleet, connections = fleet_of(2, 3)
    yield fleet, connections
    for connection in connections:
        connection.close()


@pytest.fixture
def stages() -> Iterator[list[Any]]:
    """Where a test puts whatever has `servers`, which are closed in the end."""
    made: list[Any] = []
    yield made
    for stage in made:
        for server in stage.servers:
            server.close()


@pytest.fixture(params=[NEXT_STEP, SAME_STEP, DISABLED], ids=lambda mode: mode.value)
def stage(stages: list[Any], request: pytest.FixtureRequest) -> Stage:
    """Rows on two servers, in each autoreset mode."""
    stages.append(Stage(request.param))
    return stages[0]  # type: ignore[no-any-return]
