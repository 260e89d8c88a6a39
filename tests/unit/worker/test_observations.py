"""Observations in rows: what is exact as it is, what is alike converted, all else refused with its field's name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym.ipc.commands import HostingOptions
from remote_gym.ipc.rows import Rows
from remote_gym.worker.observations import Observations
from remote_gym.worker.results import InvalidResult, Results

PAIR = spaces.Box(-1, 1, (2,))


def attached(space: Any) -> tuple[Observations, Rows]:
    observations = Observations(space)
    memory = bytearray(Rows.size_bytes([], observations.leaves, 3))
    rows = Rows(memory, [], observations.leaves, 3)
    observations.attach(rows)
    return observations, rows


def write(observations: Observations, observation: Any, exact: bool = False) -> Results:
    collected = Results(HostingOptions("None", exact), set())
    observations.write(1, observation, collected)
    return collected


def test_a_single_leaf_is_known_as_such() -> None:
    observations, rows = attached(PAIR)
    assert observations.only == (np.float32, (2,))
    row: Any = observations.row(1)
    row[...] = 5
    assert rows.observations[0].tolist() == [[0, 0], [5, 5], [0, 0]]
    nested, _ = attached(spaces.Dict(a=PAIR))
    assert (nested.only, nested.row(1)) == ((None, None), None)


@pytest.mark.parametrize("pair", [np.array([1, 2], np.float32), [1, 2], np.array([1.0, 2.0])])
def test_a_row_holds_what_was_observed(pair: Any) -> None:
    observations, rows = attached(PAIR)
    write(observations, pair)
    assert rows.observations[0].tolist() == [[0, 0], [1, 2], [0, 0]]


def test_variable_leaves_go_beside_the_rows() -> None:
    observations, rows = attached(spaces.Dict(a=PAIR, b=spaces.Text(5)))
    collected = write(observations, {"a": np.ones(2, np.float32), "b": "text"})
    assert collected.variable == {1: ["text"]}
    assert rows.observations[0][1].tolist() == [1, 1]


@pytest.mark.parametrize(("pair", "told"), [(np.ones(2, np.float32), False), ([1, 1], True)])
def test_what_is_no_usual_array_is_told_to_a_single_environment(pair: Any, told: bool) -> None:
    observations, _ = attached(PAIR)
    assert bool(write(observations, pair, exact=True).exact) is told
    assert not write(observations, pair).exact


ORDERED = spaces.Dict(
    {"b": PAIR, "a": spaces.Tuple([spaces.Discrete(3), spaces.Dict(x=PAIR, y=PAIR)])}
)  # a comes first


@pytest.mark.parametrize(
    ("keys", "below", "orders"), [("ab", "xy", None), ("ba", "xy", [[1, 0], None]), ("ab", "yx", [None, [1, 0]])]
)
def test_an_order_of_keys_is_told_to_a_single_environment_where_it_is_not_the_spaces(
    keys: str, below: str, orders: Any
) -> None:
    observations, _ = attached(ORDERED)
    pair = np.ones(2, np.float32)
    parts = {"b": pair, "a": (np.array(1), dict.fromkeys(below, pair))}
    observation = {key: parts[key] for key in keys}
    assert write(observations, observation, exact=True).exact == ({} if orders is None else {1: {"order": orders}})
    assert not write(observations, observation).exact


@pytest.mark.parametrize("observation", [{"text": "a", "more": 1}, {}, None, [], {"text": "a", 1: 2}])
def test_what_its_space_has_no_place_for_is_told_whole_to_a_single_environment(observation: Any) -> None:
    observations, _ = attached(spaces.Dict(text=spaces.Text(3)))
    collected = write(observations, observation, exact=True)
    assert collected.exact == {1: {"observation": observation}}
    assert len(collected.variable[1]) == 1


@pytest.mark.parametrize(
    ("observation", "text"),
    [
        ({"b": 1}, "does not fit its space"),
        ({"a": np.zeros(3, np.float32)}, r"observation\['a'\] of shape \(3,\), its space says \(2,\)"),
        ({"a": np.array([1j, 1])}, r"observation\['a'\] of dtype complex128, its space says float32"),
        ({"a": [[1], [1, 2]]}, r"observation\['a'\] that is no array"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_where(observation: Any, text: str) -> None:
    observations, _ = attached(spaces.Dict(a=PAIR))
    with pytest.raises(InvalidResult, match=text):
        write(observations, observation)
