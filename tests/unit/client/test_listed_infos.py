"""Infos as a list: what the environments returned, and nothing in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sameness import assert_same

from remote_gym import CodecError
from remote_gym.client.listed_infos import add_listed_infos, listed
from remote_gym.info_blocks import MIN_ROWS, pack_infos, unpack_infos

INFOS: list[dict[str, Any]] = [
    {"a": 1, "b": np.int64(1), "c": np.zeros(2), "d": {"e": True}},
    {"a": 1.5, "b": "text", "c": np.zeros(3)},
    {},
    {"d": {"f": [1, {"g": None}]}, "_d": False},
]


def test_values_are_what_the_environments_returned() -> None:
    infos: list[dict[str, Any]] = []
    for rows in ([1, 3], [0]):
        infos = add_listed_infos(infos, unpack_infos(pack_infos(rows, [INFOS[row] for row in rows])), 4)
    assert_same(infos, INFOS)


def test_columns_become_rows_that_are_nobody_elses() -> None:
    rows = [{"a": at, "b": np.float32(at), "c": np.full(2, at), "d": {"e": bool(at)}} for at in range(MIN_ROWS + 1)]
    infos = add_listed_infos([], unpack_infos(pack_infos(range(len(rows)), rows)), len(rows))
    assert_same(infos, rows)
    infos[0]["c"][:] = 7
    assert_same(infos[1:], rows[1:])


def test_who_has_said_nothing_has_a_dict_too() -> None:
    assert listed({}, 2) == [{}, {}]
    assert listed([{"a": 1}], 1) == [{"a": 1}]
    empty = listed({}, 2)
    assert empty[0] is not empty[1]


def test_an_environment_that_is_not_there() -> None:
    with pytest.raises(CodecError, match="env 4"):
        add_listed_infos([], unpack_infos(pack_infos([4], [{"a": 1}])), 4)
