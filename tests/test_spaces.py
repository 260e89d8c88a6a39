"""Spaces as data: rebuilt ones are equal, keep their order and sample the same, also through the protobuf message."""

from __future__ import annotations

import contextlib
import re
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same
from toys import SPACES, CustomSpace

from remote_gym.errors import MisuseError
from remote_gym.space_checks import MAX_SPACE_NODES
from remote_gym.spaces import build, describe
from remote_gym.wire import space_pb2
from remote_gym.wire.spaces import pack_space, read_space

SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
FLOATS = ["f2", "f4", "f8"]
INTEGERS = ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
KEYS = st.text("abé_ 1", max_size=3)


@st.composite
def boxes(draw: st.DrawFn) -> spaces.Box[Any]:
    dtype, shape = np.dtype(draw(st.sampled_from([*FLOATS, *INTEGERS]))), draw(SHAPES)
    low = np.asarray(draw(st.integers(0, 50))) + np.arange(int(np.prod(shape))).reshape(shape) % draw(st.integers(1, 4))
    high = low + draw(st.integers(0, 40))
    if dtype.kind == "f" and draw(st.booleans()):
        high = np.full(shape, np.inf)
    return spaces.Box(low.astype(dtype), high.astype(dtype), dtype=dtype.type)


@st.composite
def discretes(draw: st.DrawFn) -> spaces.Discrete[Any]:
    dtype = np.dtype(draw(st.sampled_from(INTEGERS)))
    start = draw(st.integers(0 if dtype.kind == "u" else -50, 50))
    return spaces.Discrete(draw(st.integers(1, 60)), start=start, dtype=dtype.type)


@st.composite
def multi_discretes(draw: st.DrawFn) -> spaces.MultiDiscrete[Any]:
    shape = draw(SHAPES.filter(bool))
    nvec = 1 + np.arange(int(np.prod(shape))).reshape(shape) % draw(st.integers(1, 5))
    dtype = np.dtype(draw(st.sampled_from(["i1", "i4", "i8", "u2"])))
    start = np.full(shape, draw(st.integers(0, 9)), dtype) if draw(st.booleans()) else None
    return spaces.MultiDiscrete(nvec.astype(dtype), dtype=dtype.type, start=start)


MULTI_BINARIES = st.one_of(st.integers(1, 5), SHAPES.filter(bool).map(list)).map(spaces.MultiBinary)
TEXTS = st.builds(
    lambda low, more, characters: spaces.Text(low + more, min_length=low, charset=characters),
    st.integers(0, 3),
    st.integers(1, 5),
    st.sets(st.sampled_from("abcé\U0001f600"), min_size=1).map("".join),
)
LEAVES = st.one_of(boxes(), discretes(), multi_discretes(), MULTI_BINARIES, TEXTS)
GRAPHS = st.builds(spaces.Graph, boxes(), st.none() | discretes())


def nest(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.dictionaries(KEYS, inner, max_size=3).map(spaces.Dict),
        st.dictionaries(KEYS, inner, max_size=3).map(lambda children: spaces.Dict(OrderedDict(children))),
        st.lists(inner, max_size=3).map(spaces.Tuple),
        inner.map(spaces.Sequence),
        st.lists(inner, min_size=1, max_size=3).map(spaces.OneOf),
        GRAPHS,
    )


ANY_SPACE = st.recursive(LEAVES, nest, max_leaves=6)


def through_the_wire(data: dict[str, Any]) -> dict[str, Any]:
    message = space_pb2.Space()
    message.ParseFromString(pack_space(data).SerializeToString())
    return read_space(message)


def order(space: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return [(key, order(child)) for key, child in space.spaces.items()]
    return [order(child) for child in space.spaces] if isinstance(space, (spaces.Tuple, spaces.OneOf)) else type(space)


def assert_rebuilt(space: spaces.Space[Any]) -> None:
    data = describe(space)
    for rebuilt in (build(data), build(through_the_wire(data))):
        assert rebuilt == space and space == rebuilt
        assert order(rebuilt) == order(space)
        assert describe(rebuilt) == data
        assert (rebuilt.dtype, rebuilt.shape) == (space.dtype, space.shape)
        seeds = space.seed(5), rebuilt.seed(5)
        assert seeds[0] == seeds[1]
        for _ in range(3):
            assert_same(rebuilt.sample(), space.sample())


@settings(max_examples=150, deadline=None)
@given(ANY_SPACE)
def test_random_spaces(space: spaces.Space[Any]) -> None:
    assert_rebuilt(space)


@pytest.mark.parametrize("name", list(SPACES))
def test_every_kind(name: str) -> None:
    assert_rebuilt(SPACES[name]())


@pytest.mark.parametrize(
    "space",
    [
        spaces.Sequence(spaces.Discrete(3), stack=True),
        spaces.Box(np.array([-np.inf, 0.1]), np.array([np.inf, 0.3]), dtype=np.float64),
        spaces.Discrete(255, start=np.uint64(2**63), dtype=np.uint64),
        spaces.Discrete(1, start=-(2**63)),
        spaces.MultiBinary(3),
        spaces.MultiBinary([3]),
        spaces.Tuple(()),
        spaces.Dict({}),
    ],
)
def test_corners(space: spaces.Space[Any]) -> None:
    assert_rebuilt(space)


def test_equal_bounds_travel_once() -> None:
    (fields,) = describe(spaces.Box(0, 255, (84, 84, 4), np.uint8)).values()
    assert len(fields["low"]) == len(fields["high"]) == 1


def test_custom_spaces_are_refused_by_name() -> None:
    for space in (CustomSpace(), spaces.Tuple((spaces.Dict({"a": CustomSpace()}),))):
        with pytest.raises(MisuseError, match=r"CustomSpace is a custom one and cannot travel: wrap"):
            describe(space)


def test_keys_that_are_no_strings() -> None:
    with pytest.raises(MisuseError, match="the key 3: only str"):
        describe(spaces.Dict({3: spaces.Discrete(2)}))  # type: ignore[dict-item]


BOX = {"dtype": "<f4", "shape": [2], "low": b"\0" * 4, "high": b"\0" * 4}


@pytest.mark.parametrize(
    "data, message",
    [
        ({"": {}}, "unknown kind of space ''.*upgrade"),
        ({"future": {}}, "unknown kind"),
        ({}, "malformed"),
        ({"box": {**BOX, "shape": [2**40, 2**40]}}, "too large"),
        ({"box": {**BOX, "shape": [-1]}}, "negative"),
        ({"box": {**BOX, "low": b"\0" * 12}}, "shape (2,) came with 3 values"),
        ({"box": {**BOX, "low": b"\0" * 3}}, "malformed"),
        ({"box": {**BOX, "low": b""}}, "0 values"),
        ({"box": {**BOX, "dtype": "O"}}, "the dtype 'O' is not allowed"),
        ({"box": {**BOX, "dtype": "nonsense"}}, "the dtype 'nonsense' is not allowed"),
        ({"box": {**BOX, "dtype": "<U4"}}, "not allowed"),
        ({"discrete": {"dtype": "<i8", "n": b"", "start": b""}}, "0 values"),
        ({"discrete": {"dtype": "<i8", "n": b"\0" * 8, "start": b"\0" * 8}}, "malformed"),
        ({"discrete": {"dtype": "<f8", "n": b"\0" * 8, "start": b"\0" * 8}}, "not allowed"),
        ({"multi_binary": {"shape": [], "flat": True}}, "malformed"),
        ({"dict": {"keys": ["a"], "spaces": []}}, "malformed"),
        ({"tuple": {"spaces": [{"tuple": {}}] * (MAX_SPACE_NODES + 1)}}, "more than"),
    ],
)
def test_malformed_descriptions(data: dict[str, Any], message: str) -> None:
    with pytest.raises(MisuseError, match=re.escape(message) if "(" in message else message):
        build(data)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes_build_a_space_or_raise_misuse(data: bytes) -> None:
    message = space_pb2.Space()
    try:
        message.ParseFromString(data)
    except Exception:
        return
    with contextlib.suppress(MisuseError):
        build(read_space(message))
