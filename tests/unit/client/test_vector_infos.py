"""Blocks of infos into a vector info dict: as Gymnasium does it row by row, and how much room that takes.

That any infos give what Gymnasium gives is a property in `test_infos`; here are the cases that decide the way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from remote_gym import CodecError
from remote_gym.client import vector_infos
from remote_gym.client.vector_infos import add_infos, room_for
from remote_gym.info_blocks import MIN_ROWS, InfoBlock, pack_infos, unpack_infos

NUM_ENVS = 12


def block(infos: dict[int, dict[str, Any]]) -> InfoBlock:
    return unpack_infos(pack_infos(list(infos), list(infos.values())))


def locally(*blocks: dict[int, dict[str, Any]]) -> dict[str, Any]:
    env: VectorEnv[Any, Any, Any] = VectorEnv()
    env.num_envs = NUM_ENVS
    infos: dict[str, Any] = {}
    for one in blocks:
        for index, info in sorted(one.items()):
            infos = env._add_info(infos, info, index)
    return infos


def told(infos: Any) -> Any:
    """What can be compared: types, order, dtypes and values."""
    if isinstance(infos, dict):
        return [(key, told(value)) for key, value in infos.items()]
    return (str(infos.dtype), infos.shape, str(infos.tolist())) if isinstance(infos, np.ndarray) else infos


EVERY = range(NUM_ENVS)
SOME = range(1, NUM_ENVS, 2)
assert len(SOME) >= MIN_ROWS

CASES: dict[str, list[dict[int, dict[str, Any]]]] = {
    "numbers of all": [{i: {"a": i, "b": i / 2, "c": bool(i % 2), "d": np.float32(i)} for i in EVERY}],
    "numbers of some": [{i: {"a": i} for i in SOME}],
    "a NumPy bool": [{i: {"a": np.bool_(i % 2)} for i in EVERY}],
    "arrays": [{i: {"a": np.full((2, 3), i)} for i in EVERY}],
    "arrays without elements": [{i: {"a": np.zeros((0, 2))} for i in EVERY}],
    "texts": [{i: {"a": str(i)} for i in EVERY}],
    "nested": [{i: {"a": {"b": {"c": i}}} for i in EVERY}],
    "nested and more of it": [{i: {"a": {"b": i}} for i in SOME}, {0: {"a": {"c": 1}, "d": 2}}],
    "a mask's name": [{i: {"a": i, "_a": i} for i in EVERY}],
    "final_obs": [{i: {"final_obs": np.full(2, i), "final_info": {"r": float(i)}} for i in EVERY}],
    "another kind first": [{0: {"a": 1.5}}, {i: {"a": i} for i in SOME}],
    "another shape of kind first": [{0: {"a": "text"}}, {i: {"a": i} for i in SOME}],
    "a dict after a number": [{0: {"a": {"b": 1}}}, {i: {"a": {"b": i}} for i in SOME}],
    "some have more keys": [{i: {"a": i, **({"b": i} if i % 2 else {})} for i in EVERY}],
    "some nest other keys": [{i: {"a": {"x" if i % 2 else "y": i}, "b": i} for i in EVERY}],
    "keys that are equal": [{i: {True if i % 2 else 1: i} for i in EVERY}],
}


@pytest.mark.parametrize("name", CASES)
def test_as_gymnasium_does_it(name: str) -> None:
    infos: dict[str, Any] = {}
    for one in CASES[name]:
        assert add_infos(infos, block(one), NUM_ENVS) is infos
    assert told(infos) == told(locally(*CASES[name]))


@pytest.mark.parametrize("first, second", [(np.zeros(2), np.zeros(3)), (1, "text"), (1, {"b": 1})])
def test_what_does_not_aggregate_raises_what_gymnasium_raises(first: Any, second: Any) -> None:
    cases = [{0: {"a": first}}, {1: {"a": second}}]
    with pytest.raises(Exception) as theirs:
        locally(*cases)
    infos: dict[str, Any] = {}
    add_infos(infos, block(cases[0]), NUM_ENVS)
    with pytest.raises(theirs.type):
        add_infos(infos, block(cases[1]), NUM_ENVS)


def test_columns_are_added_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def row_by_row(*_: object) -> None:
        raise AssertionError("one row after another")

    monkeypatch.setattr(vector_infos, "_add_value", row_by_row)
    infos = add_infos({}, block({i: {"a": i, "n": {"b": float(i)}, "x": np.full(2, i)} for i in SOME}), NUM_ENVS)
    assert infos["a"].tolist() == [i if i in SOME else 0 for i in EVERY]
    assert infos["_a"].tolist() == infos["n"]["_b"].tolist() == [i in SOME for i in EVERY]


def test_an_environment_that_is_not_there() -> None:
    with pytest.raises(CodecError, match="info for env 12, but there are 12 envs"):
        add_infos({}, block({12: {"a": 1}}), NUM_ENVS)


def size(value: Any) -> int:
    """Bytes of all arrays in it, but for what they refer to."""
    return sum(map(size, value.values())) if isinstance(value, dict) else value.nbytes


@pytest.mark.parametrize("name", CASES)
def test_room_is_never_less_than_it_takes(name: str) -> None:
    blocks = [block(one) for one in CASES[name]]
    infos: dict[str, Any] = {}
    for one in blocks:
        add_infos(infos, one, NUM_ENVS)
    assert size(infos) <= room_for(blocks, NUM_ENVS)


def test_a_key_counts_once_however_many_have_it() -> None:
    many = block({i: {"a": i} for i in EVERY})
    assert (
        room_for([many, many], NUM_ENVS)
        == room_for([many], NUM_ENVS)
        < room_for([block({0: {"a": 1, "b": 1}})], NUM_ENVS)
    )
    assert room_for([], NUM_ENVS) == 0
