"""Parts of a batch: rows by env index, and what belongs to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym.client.parts import Part
from remote_gym.messages import Failure, FailureKind


def part(indices: Any, **fields: Any) -> Part:
    rows = np.array(indices)
    given: dict[str, Any] = {
        "rewards": rows * 10.0,
        "terminations": rows == 3,
        "truncations": rows == 1,
        "notes": {1: {"n": 1}},
        "variable": {3: ["x"]},
        "failures": [Failure(3, FailureKind.RAISED), Failure(1, FailureKind.LOST)],
    }
    return Part(indices, [rows[:, None] * 1.0], **{**given, **fields})


@pytest.mark.parametrize("chosen, indices", [(slice(1, 3), [1, 0]), (np.array([2, 0], np.intp), [0, 3])])
def test_some_rows(chosen: Any, indices: list[int]) -> None:
    some = part([3, 1, 0]).rows(chosen)
    assert some.indices == indices
    assert some.leaves[0][:, 0].tolist() == indices
    assert some.rewards is not None and some.rewards.tolist() == [index * 10 for index in indices]
    assert some.terminations is not None and some.terminations.tolist() == [index == 3 for index in indices]
    assert some.truncations is not None and some.truncations.tolist() == [index == 1 for index in indices]
    assert set(some.notes) == {1} & set(indices) and set(some.variable) == {3} & set(indices)
    assert some.failures == []


def test_some_rows_come_from_the_same_source() -> None:
    whole = part([0, 1])
    assert whole.rows(slice(0, 1)).source == whole.source != part([0, 1]).source


def test_the_rest_keeps_the_other_failures() -> None:
    rest = part([3, 1, 0]).without({1})
    assert rest.indices == [3, 0]
    assert [failure.index for failure in rest.failures] == [3]
    assert rest.notes == {} and rest.variable == {3: ["x"]}


def test_without_all_nothing_is_left() -> None:
    rest = part([3, 1]).without({3: {}, 1: {}})
    assert rest.indices == [] and len(rest.leaves[0]) == 0 and rest.failures == []


def test_a_reset_stays_one() -> None:
    reset = part([3, 1, 0], rewards=None, terminations=None, truncations=None)
    some = reset.without({1})
    assert some.rewards is None and some.terminations is None and some.truncations is None
    rewards, terminations, truncations = some.scalars(2)
    assert rewards.tolist() == [0, 0] and rewards.dtype == np.float64
    assert terminations.tolist() == truncations.tolist() == [False, False] and terminations.dtype == np.bool_


def test_scalars_that_are_there_are_passed_on() -> None:
    whole = part([3, 1])
    assert all(
        a is b for a, b in zip(whole.scalars(2), (whole.rewards, whole.terminations, whole.truncations), strict=True)
    )


def test_the_ends_of_lost_episodes() -> None:
    leaves, notes = [np.array([[5.0], [6.0]])], {2: {"a": 1}, 0: {}}
    ends = Part.of_ends([2, 0], leaves, notes)
    assert (ends.indices, ends.leaves, ends.notes) == ([2, 0], leaves, notes)
    assert [array.tolist() for array in ends.scalars(2)] == [[0.0, 0.0], [False, False], [True, True]]
