"""The last observation of each environment: copies and views out, never written again once handed out."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym.client.observations import Observations
from remote_gym.client.parts import Part

BOX = spaces.Box(-1, 1, (2,), np.float32)
TEXT = spaces.Dict({"text": spaces.Text(5), "x": spaces.Box(-1, 1, (1,), np.float32)})


def leaves(*rows: Any) -> list[np.ndarray[Any, Any]]:
    return [np.array(rows, np.float32)]


def test_zeros_before_the_first() -> None:
    observations = Observations(BOX, 2)
    assert observations.rows([1])[0].tolist() == [[0, 0]]
    assert observations.element(0).tolist() == [0, 0]


def test_views_are_the_very_rows_and_copies_can_be_written() -> None:
    observations = Observations(BOX, 2)
    given = leaves([1, 2], [3, 4])
    observations.put(given)
    assert observations.batch(copy=False) is given[0]
    copied = observations.batch(copy=True)
    copied[:] = 9
    assert observations.batch(copy=False).tolist() == [[1, 2], [3, 4]]
    for read in (lambda: observations.rows([0])[0], lambda: observations.leaves()[0], lambda: observations.element(0)):
        read()[:] = 9
    assert given[0].tolist() == [[1, 2], [3, 4]]


def test_rows_put_in_leave_alone_what_was_handed_out() -> None:
    observations = Observations(BOX, 2)
    given = leaves([1, 2], [3, 4])
    observations.put(given)
    observations.put_rows([1], leaves([5, 6]))
    assert given[0].tolist() == [[1, 2], [3, 4]]
    assert observations.rows([0, 1])[0].tolist() == [[1, 2], [5, 6]]


def test_the_only_one() -> None:
    observations = Observations(BOX, 1)
    given = leaves([1, 2])
    observations.put(given)
    only = observations.only()
    only[:] = 9
    assert given[0].tolist() == [[1, 2]] and only.shape == (2,)


def test_the_keys_of_the_only_one_come_in_the_order_that_is_said() -> None:
    observations = Observations(TEXT, 1)
    observations.put(leaves([1]))
    assert list(observations.only()) == list(observations.only([None])) == ["text", "x"]
    assert list(observations.only([[1, 0]])) == ["x", "text"]
    assert list(observations.only()) == ["text", "x"]  # nothing is remembered


def test_variable_elements_stay_until_others_come() -> None:
    observations = Observations(TEXT, 2)
    observations.put(leaves([1], [2]))
    observations.put_variable(Part(None, [], variable={0: ["a"], 1: ["b"]}))
    observations.put_variable(Part(None, [], variable={1: ["c"]}))
    assert observations.batch(copy=True)["text"] == ("a", "c")
    assert observations.element(1) == {"text": "c", "x": np.array([2], np.float32)}
    assert observations.some([1], leaves([2]), copy=False)["text"] == ("c",)


def test_writable_leaves_are_handed_out_and_remembered_as_they_were() -> None:
    observations = Observations(BOX, 2)
    for step in range(3):
        given = leaves([step, 1], [2, 3])
        batch = observations.put_batch(given, copy=True)
        assert batch is given[0]
        batch[:] = 9  # the user's
        assert observations.leaves()[0].tolist() == [[step, 1], [2, 3]]
        assert not np.shares_memory(observations.leaves()[0], batch)
    observations.put_rows([1], leaves([7, 8]))
    assert observations.leaves()[0].tolist() == [[2, 1], [7, 8]]
    assert (batch == 9).all()


def test_what_cannot_be_written_is_copied() -> None:
    observations = Observations(BOX, 2)
    given = leaves([1, 2], [3, 4])
    given[0].flags.writeable = False
    batch = observations.put_batch(given, copy=True)
    assert batch is not given[0] and batch.flags.writeable and batch.flags.owndata
    assert observations.put_batch(given, copy=False) is given[0]


def test_copies_that_were_kept_are_not_written_after_they_were_shown() -> None:
    observations = Observations(BOX, 2)
    observations.put_batch(leaves([1, 2], [3, 4]), copy=True)
    shown = observations.batch(copy=False)
    observations.put_batch(leaves([5, 6], [7, 8]), copy=True)
    observations.put_rows([0], leaves([0, 0]))
    assert shown.tolist() == [[1, 2], [3, 4]]
