"""Spaces as data: rebuilt ones are equal, keep their order and sample the same, also through the protobuf message."""

from __future__ import annotations

import contextlib
import copy
import re
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from costs import assert_cheap
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same
from toys import GRAPHS_HOLD_ANY, SPACES, CustomSpace

from remote_gym.errors import MisuseError
from remote_gym.leaves import MAX_SPACE_DEPTH
from remote_gym.space_checks import MAX_SPACE_BYTES, MAX_SPACE_NODES, MAX_TEXT_CHARACTERS, MAX_TEXT_LENGTH
from remote_gym.spaces import bases_assumed, build, describe, is_custom
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
FIXED = st.one_of(boxes(), discretes(), multi_discretes(), MULTI_BINARIES)
GRAPHS = st.builds(spaces.Graph, boxes(), st.none() | discretes())
if GRAPHS_HOLD_ANY:
    GRAPHS = st.builds(
        spaces.Graph, *[FIXED | st.dictionaries(KEYS, FIXED, min_size=1, max_size=2).map(spaces.Dict)] * 2
    )


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
        spaces.Box(-np.inf, np.inf, (3,), np.float32),
        spaces.Box(-np.inf, np.inf, (3,), np.int64),
        spaces.Box(-np.inf, 4, (), np.int32),
        spaces.Box(np.array([-np.inf, 0]), np.array([7.0, 9.0]), dtype=np.int16),
        spaces.Box(0, 1, (2,), np.bool_),
        spaces.Box(0, 1, (0, 2), np.int8),
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


@pytest.mark.parametrize("low, high", [(-np.inf, np.inf), (0, np.inf), (-np.inf, 4), (0, 4)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.int8])
def test_bounds_that_are_missing_are_missing(low: float, high: float, dtype: Any) -> None:
    space = spaces.Box(low, high, (2, 2), dtype)
    rebuilt: Any = build(through_the_wire(describe(space)))
    for name in ("low", "high", "bounded_below", "bounded_above"):
        assert_same(getattr(rebuilt, name), getattr(space, name))
    assert [rebuilt.is_bounded(side) for side in ("below", "above")] == [low == 0, high == 4]


def test_equal_bounds_travel_once() -> None:
    (fields,) = describe(spaces.Box(0, 255, (84, 84, 4), np.uint8)).values()
    assert len(fields["low"]) == len(fields["high"]) == 1
    (fields,) = describe(spaces.Box(-np.inf, 255, (84, 84, 4), np.int32)).values()
    assert len(fields["low"]) == len(fields["high"]) == 4
    assert (fields["unbounded_below"], "unbounded_above" in fields) == (b"\1", False)


@pytest.mark.parametrize("low", [[0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0], [0.0, 0.0], [0.0, -0.0, 0.0]])
def test_bounds_that_are_equal_but_not_the_same_arrive_as_they_are(low: list[float]) -> None:
    space = spaces.Box(np.array(low), np.ones(len(low)), dtype=np.float64)
    rebuilt: Any = build(describe(space))
    assert rebuilt.low.tobytes() == space.low.tobytes()


def test_gymnasium_gets_equal_bounds_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks at arrays ten times: seconds where the frames of many cameras are one Box."""
    given: list[Any] = []

    def record(low: Any, high: Any, **kwargs: Any) -> spaces.Box[Any]:
        given.append((np.ndim(low), np.ndim(high)))
        return Box(low, high, **kwargs)

    Box = spaces.Box
    described = describe(Box(0, np.array([1.0, 2.0]), dtype=np.float64)), describe(Box(0, 255, (4, 4), np.uint8))
    monkeypatch.setattr("remote_gym.gym.Box", record)
    assert [build(data) for data in described] and given == [(0, 1), (0, 0)]


def test_custom_spaces_are_refused_by_name() -> None:
    for space in (CustomSpace(), spaces.Tuple((spaces.Dict({"a": CustomSpace()}),))):
        with pytest.raises(MisuseError, match=r"CustomSpace is a custom one and cannot travel: say .*register_space"):
            describe(space)


class Bounded(spaces.Box[Any]):
    """A subclass."""


def test_an_instance_of_a_subclass_is_described_as_its_base_and_says_so() -> None:
    space = spaces.Dict({"a": Bounded(0, 1, (2,)), "b": Bounded(0, 1, (3,))})
    data = through_the_wire(describe(space))
    rebuilt: Any = build(data)
    assert rebuilt == space and type(rebuilt["a"]) is spaces.Box
    (said,) = bases_assumed(data)
    assert said.endswith("test_spaces.Bounded is a Box here")
    assert is_custom(data) and not is_custom(describe(rebuilt))
    assert bases_assumed(describe(rebuilt)) == []


@pytest.mark.parametrize("keys", [[2, 10, -1], [-(2**63), 2**63 - 1], [True, False], [np.uint8(3)], []])
def test_keys_that_are_numbers(keys: list[Any]) -> None:
    assert_rebuilt(spaces.Dict({key: spaces.Discrete(2 + at) for at, key in enumerate(keys)}))
    assert_rebuilt(spaces.Dict(OrderedDict((key, spaces.Discrete(2)) for key in keys)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([3, "a"], "the keys 3, 'a': only"),
        ([(1, 2)], "the keys (1, 2): only"),
        ([1.5], "the keys 1.5: only"),
        ([-(2**63) - 1], "64 bits"),
    ],
)
def test_keys_that_cannot_travel_are_named(keys: list[Any], message: str) -> None:
    with pytest.raises(MisuseError, match=re.escape(message)):
        describe(spaces.Dict({key: spaces.Discrete(2) for key in keys}))


# --- generators -------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(ANY_SPACE)
def test_a_seeded_space_goes_on_where_it_is(space: spaces.Space[Any]) -> None:
    space.seed(11)
    space.sample()
    for described in (describe(space), through_the_wire(describe(space))):
        rebuilt, original = build(described), copy.deepcopy(space)
        for _ in range(3):
            assert_same(rebuilt.sample(), original.sample())


def test_half_of_a_number_that_is_left_over_travels_too() -> None:
    space = spaces.Discrete(100, seed=3)
    space.np_random.integers(10, dtype=np.uint32)
    assert space.np_random.bit_generator.state["has_uint32"]
    rebuilt = build(through_the_wire(describe(space)))
    assert rebuilt.np_random.bit_generator.state == space.np_random.bit_generator.state


def test_a_generator_that_spaces_share_is_one_again() -> None:
    one = spaces.Discrete(1_000, seed=np.random.default_rng(4))
    box = spaces.Box(0, 1, (2,), seed=one.np_random)
    space = spaces.Tuple([one, one, box, spaces.Discrete(9, seed=1)])
    rebuilt: Any = build(through_the_wire(describe(space)))
    for _ in range(3):
        assert_same(rebuilt.sample(), space.sample())


def test_only_the_state_of_pcg64_travels() -> None:
    for bits in (np.random.MT19937(1), np.random.Philox(1), np.random.PCG64DXSM(1)):
        space = spaces.Discrete(3, seed=np.random.Generator(bits))
        assert "generator" not in describe(space)
    assert build(describe(spaces.Discrete(3)))._np_random is None


def test_without_generators_equal_spaces_are_described_alike() -> None:
    assert describe(spaces.Discrete(3, seed=1)) != describe(spaces.Discrete(3, seed=2))
    assert describe(spaces.Discrete(3, seed=1), False) == describe(spaces.Discrete(3), False)


GENERATOR = {"state": bytes(16), "increment": b"\1" + bytes(15), "has_uint32": False, "uinteger": 0, "number": 0}


@pytest.mark.parametrize(
    "fields",
    [
        {"state": bytes(15)}, {"state": bytes(1_000)}, {"state": "0" * 16}, {"increment": bytes(16)},
        {"uinteger": 2**32}, {"uinteger": -1}, {"uinteger": 1.0}, {"number": 2**32}, {"has_uint32": 2},
    ],
    ids=repr,
)  # fmt: skip
def test_a_hostile_state_of_a_generator(fields: dict[str, Any]) -> None:
    space, hostile = describe(spaces.Discrete(3)), {**GENERATOR, **fields}
    assert build({**space, "generator": GENERATOR}).sample() in range(3)
    for data in ({**space, "generator": hostile}, {"tuple": {"spaces": [{**space, "generator": hostile}]}}):
        with pytest.raises(MisuseError, match="malformed"):
            build(data)


@pytest.mark.parametrize("more", [{"type": "x" * 257}, {"type": 3}, {"type": "\ud800"}, {"by_base": 2}], ids=repr)
def test_a_hostile_type(more: dict[str, Any]) -> None:
    with pytest.raises(MisuseError):
        build({**describe(spaces.Discrete(3)), **more})


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
        ({"box": {**BOX, "unbounded_below": b"\1"}}, "malformed"),
        ({"box": {**BOX, "dtype": "<i4", "unbounded_below": b"\2"}}, "malformed"),
        ({"box": {**BOX, "dtype": "<i4", "unbounded_above": b"\1" * 3}}, "shape (2,) came with 3 values"),
        ({"box": {**BOX, "dtype": "O"}}, "the dtype 'O' is not allowed"),
        ({"box": {**BOX, "dtype": "nonsense"}}, "the dtype 'nonsense' is not allowed"),
        ({"box": {**BOX, "dtype": "<U4"}}, "not allowed"),
        ({"discrete": {"dtype": "<i8", "n": b"", "start": b""}}, "0 values"),
        ({"discrete": {"dtype": "<i8", "n": b"\0" * 8, "start": b"\0" * 8}}, "malformed"),
        ({"discrete": {"dtype": "<f8", "n": b"\0" * 8, "start": b"\0" * 8}}, "not allowed"),
        ({"multi_binary": {"shape": [], "flat": True}}, "malformed"),
        ({"dict": {"keys": ["a"], "spaces": []}}, "malformed"),
        ({"dict": {"numbers": [1], "spaces": []}}, "malformed"),
        ({"dict": {"keys": ["a"], "numbers": [1], "spaces": [{"tuple": {}}] * 2}}, "all str or all int"),
        ({"dict": {"numbers": [1, 1], "spaces": [{"tuple": {}}] * 2}}, "no two equal"),
        ({"dict": {"numbers": [2**63], "spaces": [{"tuple": {}}]}}, "64 bits"),
        ({"dict": {"numbers": [True], "spaces": [{"tuple": {}}]}}, "neither str nor int"),
        ({"tuple": {}, "dict": {}}, "malformed"),
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


# --- descriptions that hurt -------------------------------------------------------------------------------------------


DISCRETE = {"discrete": {"dtype": "<i8", "n": b"\3" + bytes(7), "start": bytes(8)}}
TEXT = {"min_length": 0, "max_length": 5, "characters": "abc"}
UNSIGNED = {"dtype": "|u1", "shape": [2], "low": b"\0", "high": b"\1"}


def box(*shape: Any, **fields: Any) -> dict[str, Any]:
    return {"box": {**UNSIGNED, "shape": list(shape), **fields}}


def multi(*shape: Any, **fields: Any) -> dict[str, Any]:
    return {
        "multi_discrete": {
            "dtype": "<i8",
            "shape": list(shape),
            "nvec": DISCRETE["discrete"]["n"],
            "start": bytes(8),
            **fields,
        }
    }


def nested(wrap: Callable[[Any], Any], levels: int, inner: Any = DISCRETE) -> Any:
    data = inner
    for _ in range(levels):
        data = wrap(data)
    return data


WRAPS: dict[str, Callable[[Any], Any]] = {
    "tuple": lambda data: {"tuple": {"spaces": [data]}},
    "dict": lambda data: {"dict": {"keys": ["k"], "spaces": [data], "sort_keys": True}},
    "one of": lambda data: {"one_of": {"spaces": [data]}},
    "sequence": lambda data: {"sequence": {"feature": data, "stack": False}},
}
TEXTS_FOR_NUMPY = [
    "m8[s/0]",
    "<m8[s/0]",
    "f8,f8",
    "<f8,<f8",
    "(9,)f8",
    "<M8[s]",
    "|V8",
    "|S1",
    "<c8",
    ">f4",
    "f4",
    "O",
    "",
    "a" * 9_999,
]

HURTFUL: dict[str, Any] = {
    **{
        f"dtype {text[:9]}": data
        for text in TEXTS_FOR_NUMPY
        for data in (box(1, dtype=text, low=bytes(8), high=bytes(8)),)
    },
    **{f"multi dtype {text[:9]}": multi(1, dtype=text) for text in [*TEXTS_FOR_NUMPY, "<f8", "|b1"]},
    **{
        f"discrete dtype {str(text)[:9]}": {"discrete": {**DISCRETE["discrete"], "dtype": text}}
        for text in [*TEXTS_FOR_NUMPY, None, 3]
    },
    **{f"length {length!r}": box(length) for length in (-1, 2**63, 2**64, 2**70, 1.0, True, None, "3", [3])},
    **{f"multi length {length!r}": multi(length) for length in (-1, 2**63, 2**64, 1.0, True, None)},
    **{
        f"binary length {length!r}": {"multi_binary": {"shape": [length], "flat": flat}}
        for length in (-1, 0, 2**40, 1.0, True)
        for flat in (True, False)
    },
    "many axes": box(*[1] * 65),
    "many axes of two": box(*[2] * 64),
    "no bytes and large": box(0, 2**40),
    "one box": box(MAX_SPACE_BYTES // 4),
    "boxes": {"tuple": {"spaces": [box(64 << 20)] * 4}},
    "many boxes": {"tuple": {"spaces": [box(1 << 20)] * 128}},
    "many boxes, deep": nested(WRAPS["dict"], 5, {"tuple": {"spaces": [box(1 << 20)] * 128}}),
    "multi discretes": {"tuple": {"spaces": [multi(1 << 20)] * 32}},
    "multi binaries": {"tuple": {"spaces": [{"multi_binary": {"shape": [1 << 26], "flat": True}}] * 9}},
    "texts": {"tuple": {"spaces": [{"text": {**TEXT, "characters": "x" * MAX_TEXT_CHARACTERS}}] * 22}},
    "one text": {"text": {**TEXT, "characters": "x" * (MAX_TEXT_CHARACTERS + 1)}},
    **{
        f"text {low!r}..{high!r}": {"text": {**TEXT, "min_length": low, "max_length": high}}
        for low, high in ((6, 5), (-1, 5), (0, MAX_TEXT_LENGTH + 1), (0, 2**64), (True, 5), (0, 5.0), (None, 5))
    },
    "text of a lone surrogate": {"text": {**TEXT, "characters": "a\ud800"}},
    "text of no str": {"text": {**TEXT, "characters": 5}},
    "stacks of a box": nested(lambda data: {"sequence": {"feature": data, "stack": True}}, 6, box(1 << 18)),
    "stacks": nested(lambda data: {"sequence": {"feature": data, "stack": True}}, 16),
    **{
        f"nested {name}": nested(wrap, levels)
        for name, wrap in WRAPS.items()
        for levels in (MAX_SPACE_DEPTH + 1, 100, 5_000)
    },
    "two keys": {"dict": {"keys": ["a", "a"], "spaces": [DISCRETE] * 2}},
    "a key too many": {"dict": {"keys": ["a", "b"], "spaces": [DISCRETE]}},
    "a key that is no str": {"dict": {"keys": [1], "spaces": [DISCRETE]}},
    "a key of a lone surrogate": {"dict": {"keys": ["\udcff"], "spaces": [DISCRETE]}},
    "keys of megabytes": {"dict": {"keys": [str(i) + "x" * 2**20 for i in range(129)], "spaces": [DISCRETE] * 129}},
    "graphs of graphs": nested(lambda data: {"graph": {"node": data}}, 8),
    "graphs of a box": nested(lambda data: {"graph": {"node": data, "edge": DISCRETE}}, 6, box(1 << 18)),
    "one of none": {"one_of": {"spaces": []}},
    "discrete of none": {"discrete": {**DISCRETE["discrete"], "n": bytes(8)}},
    "discrete of less than none": {"discrete": {**DISCRETE["discrete"], "n": b"\xff" * 8}},
    "discrete of two": {"discrete": {**DISCRETE["discrete"], "n": b"\1" * 16}},
    "multi discrete of none": multi(3, nvec=bytes(8)),
    "upside down": box(2, low=b"\2", high=b"\1"),
    "upside down, many short axes": box(*[2] * 22, low=b"\2", high=b"\1"),
    "nan": box(*[2] * 20, dtype="<f4", low=np.float32("nan").tobytes(), high=np.float32(1).tobytes()),
    "inf below": box(*[2] * 20, dtype="<f4", low=np.float32("inf").tobytes(), high=np.float32("inf").tobytes()),
    "inf above": box(*[2] * 20, dtype="<f4", low=np.float32("-inf").tobytes(), high=np.float32("-inf").tobytes()),
    "bools of two": box(2, dtype="|b1", high=b"\2"),
    "text as bytes": box(1, low="\0"),
    "a list": [],
    "nothing": None,
    "an int": 7,
    "two kinds": {**DISCRETE, "text": TEXT},
    "no kind": {None: {}},
    "a huge kind": {"x" * 10_000_000: {}},
    "no fields": {"box": {}},
    "fields that are none": {"box": None},
}


@pytest.mark.parametrize("data", HURTFUL.values(), ids=HURTFUL.keys())
def test_descriptions_that_hurt_are_misuse_and_cost_nothing(data: Any) -> None:
    tracemalloc.start()
    started = time.thread_time()
    try:
        with pytest.raises(MisuseError) as caught:
            build(data)
        assert time.thread_time() - started < 1
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 2_000


UNHEARD_OF = [text for text in TEXTS_FOR_NUMPY if text not in ("<M8[s]", "|V8", "|S1", "<c8", ">f4")]
"""The others are dtypes, though none of a space."""


@pytest.mark.parametrize("text", UNHEARD_OF, ids=lambda text: text[:9])
def test_numpy_sees_no_dtype_of_a_peer(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np, "dtype", lambda *_args, **_kwargs: pytest.fail("NumPy saw it"))
    with pytest.raises(MisuseError, match="not allowed"):
        build(multi(1, dtype=text))


@pytest.mark.parametrize("wrap", WRAPS.values(), ids=WRAPS.keys())
def test_spaces_at_the_limit_of_depth_are_built(wrap: Callable[[Any], Any]) -> None:
    data = nested(wrap, MAX_SPACE_DEPTH)
    assert describe(build(data)) == data


def test_spaces_at_the_other_limits_are_built() -> None:
    assert build(box(16 << 20)).shape == (16 << 20,)
    assert build({"text": {**TEXT, "max_length": MAX_TEXT_LENGTH}}) == spaces.Text(
        MAX_TEXT_LENGTH, min_length=0, charset="abc"
    )
    assert len(build({"tuple": {"spaces": [DISCRETE] * (MAX_SPACE_NODES - 1)}}).spaces) == MAX_SPACE_NODES - 1  # type: ignore[attr-defined]
    assert build(nested(lambda data: {"sequence": {"feature": data, "stack": True}}, 4)).stack  # type: ignore[attr-defined]


def test_a_description_is_as_cheap_as_its_bytes() -> None:
    def read(data: bytes) -> Any:
        message = space_pb2.Space()
        message.ParseFromString(data)
        return build(read_space(message))

    for data in ({"tuple": {"spaces": [box(1 << 26)] * 2_000}}, {"tuple": {"spaces": [multi(*[1 << 20] * 9)] * 500}}):
        assert_cheap(read, pack_space(data).SerializeToString())


def _deep_space(levels: int) -> spaces.Space[Any]:
    space: spaces.Space[Any] = spaces.Discrete(2)
    for level in range(levels):
        space = (spaces.Tuple((space,)), spaces.Sequence(space), spaces.OneOf((space,)))[level % 3]
    return space


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: spaces.Dict({"\ud800": spaces.Discrete(2)}), "Dict space cannot travel.*surrogate"),
        (
            lambda: spaces.Tuple((spaces.Text(3, charset="a\udcff"),)),
            r"Tuple space cannot travel.*surrogate.* at \[0\]",
        ),
        (
            lambda: spaces.Text(3, charset="".join(map(chr, range(0x10000, 0x10000 + MAX_TEXT_CHARACTERS + 1)))),
            "65,536 characters",
        ),
        (lambda: spaces.Text(2**63), "lengths of a Text"),
        (lambda: spaces.Dict({"a": spaces.Dict({"b": spaces.MultiBinary(2**30)})}), r"too large.* at \['a'\]\['b'\]"),
        (lambda: _deep_space(MAX_SPACE_DEPTH + 1), "deeper than 16"),
        (lambda: spaces.Dict({3 * "x" * 2**26: spaces.Discrete(2)}), "too large"),
        (lambda: spaces.Tuple([spaces.Discrete(2)] * MAX_SPACE_NODES), "more than 4,096 spaces"),
    ],
)
def test_spaces_that_cannot_travel_are_refused_where_they_are_described(make: Any, message: str) -> None:
    with pytest.raises(MisuseError, match=message) as caught:
        describe(make())
    assert len(str(caught.value)) < 2_000
    str(caught.value).encode()


def test_big_endian_spaces_arrive_with_the_same_numbers() -> None:
    space = spaces.Box(np.array([1, 2], ">f4"), np.array([3, 4], ">f4"), dtype=np.dtype(">f4"))  # type: ignore[arg-type]
    rebuilt: Any = build(describe(space))
    assert rebuilt.low.tolist() == [1, 2] and rebuilt.high.tolist() == [3, 4]
