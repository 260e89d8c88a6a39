"""What was asked of some environments: what makes up for a loss, and the rows of some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym import values
from remote_gym.client.actions import Actions
from remote_gym.client.operations import Operation, chosen
from remote_gym.client.parts import Part

NOTE = {"remote_gym": {"lost": True}}


def test_the_answer_to_a_reset_after_a_loss_tells_of_it() -> None:
    part = Part([0, 1], [], notes={0: {"a": 1}})
    Operation([0, 1, 2], True, notes={1: NOTE, 2: NOTE}).mark(part, [0, 1])
    assert part.notes == {0: {"a": 1}, 1: NOTE}, "another part tells of the third one"
    assert part.truncations is None


def test_in_same_step_it_is_the_truncated_end_too() -> None:
    part = Part([4, 2], [])
    Operation([4, 2], True, notes={4: NOTE, 2: NOTE}, truncated=True).mark(part, [4, 2])
    assert part.truncations is not None and part.truncations.tolist() == [True, True]
    assert part.truncations.dtype == np.bool_


def picked(indices: Any, rows: list[Any], variable: bytes, positions: Any) -> tuple[list[int], list[Any], bytes]:
    own, some = chosen(indices, Actions(rows, variable), positions)
    return own, some.rows, some.variable


@pytest.mark.parametrize("positions", [range(1, 3), [1, 2], (1, 2)])
def test_actions_of_some_that_are_neighbours(positions: Any) -> None:
    rows = [np.arange(4), np.arange(8).reshape(4, 2)]
    own, some, variable = picked([7, 3, 5, 1], rows, b"", positions)
    assert own == [3, 5] and variable == b""
    assert some[0].tolist() == [1, 2] and some[1].tolist() == [[2, 3], [4, 5]]


def test_actions_of_some_in_another_order() -> None:
    packed = values.pack([["a"], ["b"], ["c"]])
    own, some, variable = picked([7, 3, 5], [np.arange(3)], packed, [2, 0])
    assert own == [5, 7] and some[0].tolist() == [2, 0]
    assert values.unpack(variable) == [["c"], ["a"]]


def test_what_is_sent_lies_in_order() -> None:
    fortran = np.asfortranarray(np.arange(12).reshape(4, 3))
    for positions in (range(4), [0, 1, 2, 3]):
        (leaf,) = picked(range(4), [fortran], b"", positions)[1]
        assert leaf.flags.c_contiguous and leaf.tolist() == fortran.tolist()


def test_what_begins_elsewhere_tells_of_the_end_before() -> None:
    part = Part([4, 2], [])
    Operation([4, 2], True, ends={2: (1.5, True, False)}).mark(part, [4, 2])
    assert part.rewards is not None and part.rewards.tolist() == [0.0, 1.5]
    assert part.terminations is not None and part.terminations.tolist() == [False, True]
    assert part.truncations is not None and part.truncations.tolist() == [False, False]


def test_a_range_of_a_range_is_one_again() -> None:
    own, some, _ = picked(range(10), [np.arange(10)], b"", range(3, 7))
    assert own == range(3, 7) and some[0].tolist() == [3, 4, 5, 6]
    listed, same, _ = picked(list(range(10)), [np.arange(10)], b"", range(3, 7))
    assert listed == list(own) and same[0].tolist() == some[0].tolist()
