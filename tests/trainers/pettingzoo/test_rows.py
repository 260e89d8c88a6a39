"""Rows of agents, of spaces of every kind: together and apart again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate
from sameness import assert_same

from remote_gym import MisuseError
from remote_gym.pettingzoo.rows import by_agent, interleaved

SPACES = [
    spaces.Discrete(5),
    spaces.Box(-1, 1, (), np.float32),
    spaces.Box(0, 255, (2, 3), np.uint8),
    spaces.MultiDiscrete([3, 4]),
    spaces.MultiBinary(4),
    spaces.Text(5),
    spaces.Sequence(spaces.Discrete(2)),
    spaces.Dict({"b": spaces.Box(-1, 1, (2,)), "a": spaces.Tuple([spaces.Discrete(2), spaces.Text(3)])}),
    spaces.Tuple([spaces.Dict({"x": spaces.MultiBinary(2)}), spaces.Box(-1, 1, (1,), np.float64)]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(("num_envs", "agents"), [(3, 2), (1, 4), (2, 1)])
def test_they_are_in_the_order_of_environments_and_then_of_agents(space: Any, num_envs: int, agents: int) -> None:
    batched = batch_space(space, num_envs * agents)
    batched.seed(1)
    rows = batched.sample()
    parts = by_agent(space, rows, num_envs, agents)
    each = list(iterate(batched, rows))
    for agent, part in enumerate(parts):
        own = each[agent::agents]
        assert_same(part, concatenate(space, own, create_empty_array(space, num_envs)))
    assert_same(interleaved(space, parts), rows)


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (spaces.Text(4), "abcd"),
        (spaces.Text(4), ("a",)),
        (spaces.Dict({"x": spaces.Discrete(2)}), {"y": np.zeros(4, np.int64)}),
        (spaces.Dict({"x": spaces.Discrete(2)}), np.zeros(4, np.int64)),
        (spaces.Tuple([spaces.Discrete(2)] * 2), (np.zeros(4, np.int64),)),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(space: Any, actions: Any) -> None:
    with pytest.raises(MisuseError, match="actions"):
        by_agent(space, actions, 2, 2)


def test_rows_that_come_together_are_the_callers_own() -> None:
    part = np.zeros((2, 3), np.float32)
    part.flags.writeable = False
    for parts in ([part], [part, part]):
        rows = interleaved(spaces.Box(-1, 1, (3,)), parts)
        assert rows.flags.writeable
        assert not np.shares_memory(rows, part)
