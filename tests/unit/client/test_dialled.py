"""What a client is made of: the spaces that its users see, of one environment and of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from faking import ACTION, OBSERVATION, FakeConnection, fleet_of
from gymnasium import spaces
from helpers import settings

from remote_gym.client.dialled import Dialled, prepared
from remote_gym.client.hosted import Told

Make = Callable[..., Dialled]


@pytest.fixture
def make() -> Iterator[Make]:
    servers: list[FakeConnection] = []

    def made(*counts: int, **changed: Any) -> Dialled:
        fleet, connections = fleet_of(*counts)
        servers.extend(connections)
        told = Told(OBSERVATION, ACTION, {}, None, None)
        return prepared(settings(num_envs=sum(counts), **changed), fleet, told, None, None)

    yield made
    for server in servers:
        server.close()


def test_a_batch_has_the_spaces_of_all(make: Make) -> None:
    dialled = make(2, 1)
    assert dialled.single == (OBSERVATION, ACTION)
    assert dialled.observation_space == spaces.Box(-1, 1, (3, 2), np.float32)
    assert dialled.action_space == spaces.MultiDiscrete([2, 2, 2])


def test_a_single_environment_has_its_own(make: Make) -> None:
    dialled = make(1, single=True)
    assert (dialled.observation_space, dialled.action_space) == dialled.single == (OBSERVATION, ACTION)


def test_nothing_is_under_way_and_all_parts_know_each_other(make: Make) -> None:
    dialled = make(2)
    assert dialled.turns.pending is None and not dialled.exchange.busy
    assert not dialled.reader.frames
    assert dialled.observations is dialled.batches._observations
