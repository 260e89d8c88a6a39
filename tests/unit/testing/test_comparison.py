"""What counts as the same, and how a difference is told."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import GraphInstance

from remote_gym.testing import difference

STRUCT = np.dtype([("a", "i2"), ("b", "f8")], align=True)

SAME: list[tuple[Any, Any]] = [
    ({"a": 1, "b": [2]}, {"b": [2], "a": 1}),
    (float("nan"), -float("nan")),
    (np.array([np.nan, 1.0], np.longdouble), np.array([np.nan, 1.0], np.longdouble)),
    (np.array(["NaT"], "datetime64[s]"), np.array(["NaT"], "datetime64[s]")),
    (np.zeros(2, STRUCT), np.zeros(2, STRUCT)),
    ({1, "a"}, {"a", 1}),
    (np.array([1, None, (2,)], object), np.array([1, None, (2,)], object)),
    (np.zeros((2, 0)), np.zeros((2, 0))),
]
DIFFERENT: list[tuple[Any, Any, str, str]] = [
    (1, True, "type", ""),
    (1, np.int64(1), "type", ""),
    (1.0, np.float64(1), "type", ""),
    ((1,), [1], "type", ""),
    ({"a": 1}, OrderedDict(a=1), "type", ""),
    ({"a": 1}, {"b": 1}, "keys", ""),
    ({1: "a"}, {True: "a"}, "keys", ""),
    (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1), "keys", ""),
    ([1, 2], [1], "length", ""),
    (0.0, -0.0, "value", ""),
    (complex(1, 0.0), complex(1, -0.0), "value", ""),
    ({1}, {True}, "value", ""),
    ("a", "b", "value", ""),
    (np.zeros(2, "f4"), np.zeros(2, "f8"), "dtype", ""),
    (np.zeros(2, "<f4"), np.zeros(2, ">f4"), "dtype", ""),
    (np.zeros((1, 2)), np.zeros((2, 1)), "shape", ""),
    (np.datetime64(1, "s"), np.datetime64(1, "ms"), "dtype", ""),
    ({"a": (1, np.array([[1, 2], [3, 4]]))}, {"a": (1, np.array([[1, 2], [3, 5]]))}, "value", "['a'][1][1][1]"),
    (np.array([None, [1]], object), np.array([None, [True]], object), "type", "[1][0]"),
    (np.array([(1, 2.0)], STRUCT), np.array([(1, -2.0)], STRUCT), "value", "[0]"),
    (GraphInstance(np.ones(1), None, None), GraphInstance(np.zeros(1), None, None), "value", "['nodes'][0]"),
]


@pytest.mark.parametrize("remote, local", SAME)
def test_the_same(remote: Any, local: Any) -> None:
    assert difference(remote, local) is None


@pytest.mark.parametrize("remote, local, kind, where", DIFFERENT)
def test_different(remote: Any, local: Any, kind: str, where: str) -> None:
    for ours, theirs in ((remote, local), (local, remote)):
        found = difference(ours, theirs)
        assert found is not None
        assert (found.kind, found.where) == (kind, where)


def test_in_words() -> None:
    assert str(difference({"a": [1]}, {"a": [True]})) == "['a'][0]: 1 (int) is not True (bool)"
    assert str(difference(np.zeros(1, "i4"), np.zeros(1, "i8"))) == (
        "value: dtype('int32') (dtype) is not dtype('int64') (dtype)"
    )
