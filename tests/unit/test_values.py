"""A value comes back equal, bit for bit and type for type, or a CodecError names what is wrong and where."""

from __future__ import annotations

import collections
import enum
import itertools
import math
import struct
import sys
import threading
import tracemalloc
import warnings
from typing import Any, cast

import msgpack
import numpy as np
import pytest
from costs import assert_cheap, cpu_seconds, slowness
from gymnasium.spaces import GraphInstance
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_gym import values
from remote_gym.errors import CodecError
from remote_gym.values import MAX_BYTES, MAX_DEPTH, encoding, pack, pack_lossy, scanning, simple_dtype, unpack
from remote_gym.values.scanning import scan, skip, survey


def identical(a: Any, b: Any) -> bool:
    """Equal in type and in every bit, at every level."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        if (a.dtype, a.dtype.str, a.dtype.char, a.shape) != (b.dtype, b.dtype.str, b.dtype.char, b.shape):
            return False
        if a.dtype.kind == "O":
            return all(map(identical, a.ravel().tolist(), b.ravel().tolist()))
        if a.dtype.names:  # field by field: the padding between fields is nobody's data
            return all(identical(a[name].copy(), b[name].copy()) for name in a.dtype.names)
        return bool(a.tobytes() == b.tobytes() and b.flags.writeable and b.flags.owndata and b.flags.c_contiguous)
    if isinstance(a, np.str_ | np.bytes_):
        return bool(a == b)
    if isinstance(a, np.longdouble | np.clongdouble):  # their padding is nobody's data
        return bool((a == b or (a != a and b != b)) and a.dtype == b.dtype)
    if isinstance(a, np.generic):
        return identical(np.array(a), np.array(b))
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b)
    if isinstance(a, complex):
        return identical((a.real, a.imag), (b.real, b.imag))
    if isinstance(a, dict):
        return identical(list(a.items()), list(b.items()))
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(identical, a, b))
    if isinstance(a, set | frozenset):
        return len(a) == len(b) and all(any(identical(x, y) for y in b) for x in a)
    return bool(a == b)


NUMBER_DTYPES = [np.dtype(order + char) for char in "bBhHiIlLqQefdgFDG" for order in "<>"]
OTHER_DTYPES = ["?", "M8[ns]", ">M8[D]", "m8", "m8[25s]", "<U3", ">U1", "S4", "V3", "f4,>i2,S1"]
DTYPES = [*NUMBER_DTYPES, *map(np.dtype, OTHER_DTYPES)]
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (3,), (2, 3), (2, 0), (1, 2, 1)]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of every dtype with any bits."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(st.sampled_from(SHAPES))
    size = math.prod(shape)
    if dtype.kind == "U":
        return np.array(draw(st.lists(TEXT, min_size=size, max_size=size)), dtype).reshape(shape)
    if dtype.kind == "b":
        return np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype).reshape(shape)
    nbytes = size * dtype.itemsize
    return np.ndarray(shape, dtype, draw(st.binary(min_size=nbytes, max_size=nbytes))).copy()


@st.composite
def scalars(draw: st.DrawFn) -> Any:
    """Hashable NumPy scalars with any bits."""
    return draw(arrays().filter(lambda array: array.size and array.dtype.kind != "V" and array.dtype != "m8")).ravel()[
        0
    ]


@st.composite
def values_(draw: st.DrawFn, strategy: st.SearchStrategy[Any]) -> Any:
    """Hide a strategy's long repr."""
    return draw(strategy)


TEXT = st.text(st.characters(codec=None), max_size=8)
INTS = st.integers() | st.integers(-(2**200), 2**200)
NUMBERS = st.none() | st.booleans() | INTS | st.floats() | st.complex_numbers()
ATOMS = NUMBERS | TEXT | st.binary(max_size=8) | scalars()
HASHABLE = values_(ATOMS | st.lists(ATOMS, max_size=2).map(tuple) | st.lists(NUMBERS, max_size=3).map(frozenset))
LEAVES = HASHABLE | arrays() | st.binary(max_size=8).map(bytearray) | st.lists(HASHABLE, max_size=3).map(set)


def _pairs(keys: st.SearchStrategy[Any], inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(st.tuples(keys, inner), max_size=3)


def _object_array(items: list[Any]) -> Any:
    array = np.empty(len(items), object)
    for i, item in enumerate(items):
        array[i] = item
    return array


VALUES = values_(
    st.recursive(
        values_(LEAVES),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | _pairs(TEXT, inner).map(dict)
            | _pairs(HASHABLE, inner).map(dict)
            | _pairs(TEXT, inner).map(collections.OrderedDict)
            | st.lists(inner, max_size=3).map(_object_array)
        ),
        max_leaves=8,
    )
)


@settings(max_examples=250, deadline=None)
@given(VALUES)
def test_round_trip(value: Any) -> None:
    assert identical(value, unpack(pack(value)))


NAN_WITH_PAYLOAD = struct.unpack("<d", struct.pack("<Q", 0xFFF8_0000_0000_BEEF))[0]
STRUCTURED = np.dtype({"names": ["x", "y"], "formats": ["<i2", (">f8", (2,))], "offsets": [2, 8], "itemsize": 32})
NESTED = np.dtype([("a", STRUCTURED), ("b", "U3", (2, 2)), (("title", "c"), "?")])
ALIGNED = np.dtype([("a", "u1"), ("b", "f8")], align=True)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        (),
        ((),),
        set(),
        pytest.param({frozenset({1, (2, "x")})}, id="a set of frozensets"),  # whose order, and so its text, varies
        -0.0,
        math.inf,
        NAN_WITH_PAYLOAD,
        np.float64(NAN_WITH_PAYLOAD),
        np.array([0x7F800001], np.uint32).view(np.float32)[0],
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        10**400,
        True,
        "\ud800 lone, \udc00 and a pair of two \ud83d\ude00",
        {"\udcff": "\udcff"},
        np.str_("\ud800"),
        np.bytes_(b"a\0b"),
        bytearray(b"x"),
        {False: "bool", 1: "int"},
        {(1, "a"): 1, 2.5: 2, None: 3, np.int8(4): 4, b"b": 5, "s": 6},
        {np.str_("key"): 1, "other": 2},
        np.longdouble("0.1"),
        np.clongdouble(1 + 2j),
        np.longlong(3),
        np.ulonglong(3),
        np.datetime64("NaT"),
        np.datetime64("2024-02-29T12", "h"),
        np.array(3, "m8[25s]")[()],
        np.timedelta64(3),
        np.void(b"abc"),
        np.zeros((), STRUCTURED)[()],
        np.zeros((2, 0, 3), np.float32),
        np.zeros((0, 2**20)),
        np.array(5),
        np.array(1.5, ">f4"),
        np.arange(3, dtype=np.longlong),
        np.arange(3).astype(np.dtype("q").newbyteorder(">")),
        np.zeros(2, STRUCTURED),
        np.zeros((2, 2), NESTED),
        np.zeros(2, ALIGNED),
        np.zeros(3, "V4"),
        np.array(["a", "", "\U0010ffff"]),
        np.array([b"a", b""]),
        np.array([], object),
        np.zeros((0, 3), object),
        _object_array([np.array(5), [1, 2], (), None, {"a": np.zeros(2)}, _object_array([1])]).reshape(2, 3),
        np.array(None, object),
        GraphInstance(np.zeros((2, 3)), None, None),
        GraphInstance(np.zeros((2, 3)), np.ones((1, 2), np.float32), np.zeros((1, 2), np.int64)),
        collections.OrderedDict([("b", 1), ("a", collections.OrderedDict())]),
    ],
    ids=repr,
)
def test_exact(value: Any) -> None:
    assert identical(value, unpack(pack(value)))
    assert identical({"k": [value]}, unpack(memoryview(pack({"k": [value]}))))


def test_aligned_structs_stay_aligned() -> None:
    assert unpack(pack(np.zeros(2, ALIGNED))).dtype.isalignedstruct


def test_fortran_and_strided_arrays_come_back_in_c_order() -> None:
    for array in (np.asfortranarray(np.arange(6).reshape(2, 3)), np.arange(12).reshape(3, 4)[::2, ::-1]):
        back = unpack(pack(array))
        assert (back == array).all()
        assert back.flags.c_contiguous


class Colour(enum.IntEnum):
    """An int that is not only an int."""

    RED = 1


class Letter(str, enum.Enum):
    """A str with a name."""

    A = "a"

    def __str__(self) -> str:
        """Say something else."""
        return "Letter.A"


class Flags(enum.IntFlag):
    """Bits with names."""

    ONE, TWO = 1, 2


class Half(float, enum.Enum):
    """A float with a name."""

    NOTHING = -0.0


class Shade(enum.Enum):
    """Equal to itself alone."""

    DARK = 1


Point = collections.namedtuple("Point", "x y")


class Upside(dict[Any, Any]):
    """Gives other values than it holds."""

    def __getitem__(self, key: Any) -> Any:
        """Return the negative."""
        return -super().__getitem__(key)


class Number(np.float32):
    """A NumPy scalar that is not only one."""


PAIR = np.dtype([("a", "i8"), ("b", "f8")])


def _subclass(base: type) -> Any:
    return type(f"Sub{base.__name__}", (base,), {})


class Custom:
    """Nothing the codec knows."""


class SubArray(np.ndarray[Any, Any]):
    """An array that is not only an array."""


BAD = [
    (Custom(), "Custom", "leave it out"),
    (Shade.DARK, "Shade", ".value"),
    (np.ma.masked_array([1], [True]), "MaskedArray", ".mask"),
    (np.zeros(2, np.dtype([("a", object)])), "|O", "astype"),
    (len, "builtin_function_or_method", "call it"),
    (Custom, "type", "call it"),
    (memoryview(b"x"), "memoryview", "bytes()"),
    (msgpack.Timestamp(0), "Timestamp", "leave it out"),
    (slice(1), "slice", "leave it out"),
]


@pytest.mark.parametrize(("bad", "name", "remedy"), BAD, ids=[name for _, name, _ in BAD])
def test_what_cannot_travel_is_refused_by_path_type_and_remedy(bad: Any, name: str, remedy: str) -> None:
    with pytest.raises(CodecError) as caught:
        pack({"ok": 1, "contacts": [0, 1, 2, (bad,)]}, "info")
    assert caught.value.path == "info['contacts'][3][0]"
    assert name in str(caught.value)
    assert remedy in str(caught.value)


BASED: list[tuple[Any, Any, str]] = [
    (Colour.RED, 1, "Colour"),
    (Letter.A, "a", "Letter"),
    (Flags.ONE | Flags.TWO, 3, "Flags"),
    (Half.NOTHING, -0.0, "Half"),
    (Point(1, Colour.RED), (1, 1), "Point"),
    (collections.defaultdict(list, {"a": [1]}), {"a": [1]}, "defaultdict"),
    (collections.Counter("aab"), {"a": 2, "b": 1}, "Counter"),
    (Upside(a=1), {"a": 1}, "Upside"),
    (Number(2.5), np.float32(2.5), "Number"),
    (np.arange(2.0).view(SubArray), np.arange(2.0), "SubArray"),
    (np.zeros(2, PAIR).view(np.recarray), np.zeros(2, PAIR), "recarray"),
    (msgpack.ExtType(1, b"x"), (1, b"x"), "ExtType"),
    *((_subclass(base)(value), value, f"Sub{base.__name__}") for base, value in (
        (int, 2**70), (int, -1), (float, 1.5), (complex, 1j), (str, "\ud800ñ"), (bytes, b"\0a"), (bytearray, b"a"),
        (list, [1, [2]]), (tuple, (1, ())), (dict, {"a": {}}), (set, {1}), (frozenset, frozenset({1})),
        (collections.OrderedDict, collections.OrderedDict(b=1, a=2)),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("value", "base", "name"), BASED, ids=[f"{i} {name}" for i, (_, _, name) in enumerate(BASED)])
def test_an_instance_of_a_subclass_travels_as_its_base(value: Any, base: Any, name: str) -> None:
    base = bytearray(base) if isinstance(value, bytearray) else base
    hashable = not isinstance(value, (list, dict, set, bytearray, np.ndarray))
    for wrapped, expected in (
        (value, base),
        ({"a": [value]}, {"a": [base]}),
        (_object_array([value, 1]), _object_array([base, 1])),
        *([({value: 1, "b": 2}, {base: 1, "b": 2}), ({value}, {base})] if hashable else []),
    ):
        based: set[type] = set()
        back = unpack(pack(wrapped, based=based))
        assert identical(back, expected)
        assert any(name in kind.__name__ for kind in based)


def test_of_each_subclass_one_warning() -> None:
    class Mine(int):
        """An int."""

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            pack([Mine(1), Mine(2)], "options")
    (warning,) = caught
    assert "options holds what arrives as its base from now on: " in str(warning.message)
    assert "Mine travels as int" in str(warning.message)
    if sys.version_info >= (3, 12):
        assert warning.filename == __file__


def test_what_is_left_out_of_a_subclass_keeps_the_rest() -> None:
    value = {"a": collections.defaultdict(int, x=Custom(), y=Colour.RED), "b": (Custom(),)}
    based: set[type] = set()
    packed, dropped = pack_lossy(value, "info", based)
    assert identical(unpack(packed), {"a": {"y": 1}})
    assert dropped == ["info['a']['x']", "info['b']"]
    assert based == {collections.defaultdict, Colour}


def test_a_subclass_that_contains_itself() -> None:
    loop: Any = collections.defaultdict(int)
    loop["x"] = [loop]
    with pytest.raises(CodecError, match="contains itself") as caught:
        pack(loop, "v")
    assert caught.value.path == "v['x'][0]"


def test_paths_through_every_container() -> None:
    bad = Custom()
    cases: list[tuple[Any, str]] = [
        (bad, "v"),
        (_object_array([0, 1, 2, bad]).reshape(2, 2), "v[1, 1]"),
        (GraphInstance(np.zeros(1), cast("Any", bad), None), "v.edges"),
        ({bad: 1}, "the key <Custom> of v"),
        ({(1, bad): 1}, f"the key {(1, bad)!r} of v[1]"),
        (collections.OrderedDict(a=bad), "v['a']"),
        ({1: {np.int8(2): bad}}, "v[1][np.int8(2)]"),
        ({bad}, "an element of v"),
        (np.array(bad, object), "v[]"),
    ]
    for value, path in cases:
        with pytest.raises(CodecError) as caught:
            pack(value, "v")
        assert caught.value.path == path


def test_lossy_drops_the_innermost_entry_and_keeps_the_rest() -> None:
    loop: dict[str, Any] = {"n": 1}
    loop["self"] = loop
    value = {"a": 1, "bad": Custom(), "list": [1, {"x": len, "y": 2}], "tuple": (1, len), "loop": loop, Custom(): 1}
    packed, dropped = pack_lossy(value, "info")
    assert unpack(packed) == {"a": 1, "list": [1, {"y": 2}], "loop": {"n": 1}}
    assert dropped == ["info['bad']", "info['list'][1]['x']", "info['tuple']", "info['loop']['self']", "info[<Custom>]"]
    assert pack_lossy({"a": 1}) == (pack({"a": 1}), [])
    with pytest.raises(CodecError):
        pack_lossy(Custom())  # type: ignore[arg-type]


def _deep(levels: int, wrap: Any) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS = [
    lambda value: [value],
    lambda value: (value,),
    lambda value: {"k": value},
    lambda value: {1: value},
    lambda value: frozenset({value}),
    lambda value: _object_array([value]),
    lambda value: GraphInstance(value, None, None),
    lambda value: collections.OrderedDict(a=value),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_depth(wrap: Any) -> None:
    assert identical(_deep(MAX_DEPTH, wrap), unpack(pack(_deep(MAX_DEPTH, wrap))))
    with pytest.raises(CodecError, match="deeper"):
        pack(_deep(MAX_DEPTH + 1, wrap))
    for levels in (MAX_DEPTH + 1, 200):
        with pytest.raises(CodecError):
            unpack(pack(_deep(levels, wrap), max_depth=1000))


@pytest.mark.parametrize("prefix", [b"\x91", b"\x92\xc7\x00\x01", b"\x81\xa1k", b"\x95\xc7\x00\x08\x01\x01"])
def test_bottomless_messages(prefix: bytes) -> None:
    for levels in (500, 1_023, 20_000, 300_000):
        with pytest.raises(CodecError):
            unpack(prefix * levels + b"\x01")


def test_containers_that_contain_themselves() -> None:
    a: list[Any] = []
    a.append(a)
    b: dict[str, Any] = {}
    b["x"] = [b, b]
    c = np.empty(1, object)
    c[0] = (c,)
    for loop, path in ((a, "v[0]"), (b, "v['x'][0]"), (c, "v[0][0]")):
        with pytest.raises(CodecError, match="contains itself") as caught:
            pack(loop, "v")
        assert caught.value.path == path


def limit_items(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    for module in (values, encoding, scanning):
        monkeypatch.setattr(module, "MAX_ITEMS", limit)


def test_shared_containers_that_unfold_to_too_many_items(monkeypatch: pytest.MonkeyPatch) -> None:
    limit_items(monkeypatch, 10_000)
    value: Any = [0]
    for _ in range(MAX_DEPTH - 2):
        value = [value, value]
    with pytest.raises(CodecError, match="items"):
        pack({"x": value})
    packed, dropped = pack_lossy({"y": 1, "x": value}, "v")
    assert (unpack(packed), dropped) == ({"y": 1}, ["v['x']"])


def test_item_limit_is_the_same_on_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = 150
    struct_array = np.zeros(2, "f4,f4,f4")
    for make in (
        lambda n: [None] * n,
        lambda n: [()] * n,
        lambda n: [{1: 2}] * n,
        lambda n: {str(i): i for i in range(n)},
        lambda n: [struct_array] * n,
        lambda n: [np.zeros((1, 1)), _object_array([1] * n)],
        lambda n: [np.datetime64(1, "s")] * n,
    ):
        limit_items(monkeypatch, limit)
        n = next(n for n in range(limit, 0, -1) if _packs(make(n)))
        assert identical(unpack(pack(make(n))), make(n))
        limit_items(monkeypatch, 10**9)
        packed = pack(make(n + 1))
        limit_items(monkeypatch, limit)
        with pytest.raises(CodecError, match="items"):
            unpack(packed)


def _packs(value: Any) -> bool:
    try:
        return bool(pack(value))
    except CodecError:
        return False


def test_large_arrays_pass_and_too_large_ones_are_refused_on_both_ends() -> None:
    array = np.arange(2_000_000, dtype=np.uint16)
    assert identical(array, unpack(pack({"a": array}))["a"])
    for value in (np.zeros(MAX_BYTES, np.uint8), bytes(MAX_BYTES)):
        with pytest.raises(CodecError, match="limit"):
            pack(value)
    with pytest.raises(CodecError, match="limit"):
        unpack(bytes(MAX_BYTES + 1))
    with pytest.raises(CodecError, match="limit"):
        pack({"a": np.broadcast_to(np.zeros(1), (2**40,))})


def _array(dtype: Any, data: bytes, *shape: Any) -> bytes:
    packed: bytes = msgpack.packb([msgpack.ExtType(7, b""), dtype, data, *shape])
    return packed


MALFORMED = {
    "nothing": b"",
    "unused byte": b"\xc1",
    "truncated": b"\x92\x01",
    "extra": b"\x01\x01",
    "array shorter than its header": b"\xdd\xff\xff\xff\xff",
    "map shorter than its header": b"\xdf\xff\xff\xff\xff",
    "map with a list as key": b"\x81\x90\x01",
    "map with an int as key": b"\x81\x01\x01",
    "bad utf-8": b"\xa1\xff",
    "unknown extension": b"\xc7\x01\x63\x00",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "lone tag": b"\xc7\x00\x01",
    "tag in second place": b"\x92\x01\xc7\x00\x01",
    "tag as a value": b"\x81\xa1k\xc7\x00\x01",
    "tags in a tuple": b"\x92\xc7\x00\x01\xc7\x00\x01",
    "float64 of 3 bytes": msgpack.packb(msgpack.ExtType(43, b"abc")),
    "float32 of 8 bytes": msgpack.packb(msgpack.ExtType(42, bytes(8))),
    "bool of 2": msgpack.packb(msgpack.ExtType(32, b"\2")),
    "complex of 3 bytes": msgpack.packb(msgpack.ExtType(17, b"abc")),
    "np.str_ of bad utf-8": msgpack.packb(msgpack.ExtType(19, b"\xff")),
    "dict with an odd item": msgpack.packb([msgpack.ExtType(4, b""), 1]),
    "dict with an unhashable key": msgpack.packb([msgpack.ExtType(4, b""), [], 1]),
    "set of lists": msgpack.packb([msgpack.ExtType(2, b""), []]),
    "graph of two": msgpack.packb([msgpack.ExtType(6, b""), 1, 2]),
    "array with too little data": _array("<f8", bytes(7), 1),
    "array with too much data": _array("<f8", bytes(16), 1),
    "array with negative axes": _array("<f8", bytes(8), -1, -1),
    "array whose size overflows 64 bits": _array("<f8", b"", 2**32, 2**32, 2**32),
    "array of 100 axes": _array("<f8", bytes(8), *[1] * 100),
    "array with a float as axis": _array("<f8", bytes(8), 1.0),
    "array with a bool as axis": _array("<f8", bytes(8), True),
    "array of objects": _array("|O", bytes(8), 1),
    "array of objects by char": _array("O", bytes(8), 1),
    "array of a comma dtype": _array("<f8,<f8", bytes(16), 1),
    "array of an unknown dtype": _array("<f9", bytes(9), 1),
    "array of no dtype": _array(None, bytes(8), 1),
    "array of bools of 2": _array("|b1", b"\2", 1),
    "array of text beyond Unicode": _array("<U1", b"\xff\xff\xff\x7f", 1),
    "array of text beyond Unicode, big-endian": _array(">U1", b"\x7f\xff\xff\xff", 1),
    "array of structs of objects": _array(["struct", 8, False, "a", 0, None, "|O"], bytes(8), 1),
    "array of structs beyond their size": _array(["struct", 8, False, "a", 4, None, "<f8"], bytes(8), 1),
    "array of structs before their start": _array(["struct", 8, False, "a", -4, None, "<f8"], bytes(8), 1),
    "array of unfinished structs": _array(["struct", 8, False, "a"], bytes(8), 1),
    "array of no bytes": _array("<f8", [], 0),
    "array of text as bytes": _array("|S1", "a", 1),
    "array in sub form": _array(["sub", "<f8", 2], bytes(16), 1),
    "array of structs of subarrays of subarrays": _array(
        ["struct", 8, False, "a", 0, None, ["sub", ["sub", "|i1", 2], 4]], bytes(8), 1
    ),
    "object array whose axes are no int": msgpack.packb([msgpack.ExtType(8, b""), "1", 1, None]),
    "object array with too many axes": msgpack.packb([msgpack.ExtType(8, b""), 65, *[1] * 65, None]),
    "set of one element, 300 times": msgpack.packb([msgpack.ExtType(2, b""), *[7] * 300]),
    "int of too many bytes": msgpack.packb(msgpack.ExtType(16, bytes(65_537))),
    "array of huge subarrays": _array(["sub", "<f8", 2**40], bytes(8), 1),
    "array of subarrays of negative size": _array(["sub", "<f8", -1], bytes(8), 1),
    "object array with too few elements": msgpack.packb([msgpack.ExtType(8, b""), 1, 2, None]),
    "object array with too few axes": msgpack.packb([msgpack.ExtType(8, b""), 3, 1]),
    "object array with huge axes": msgpack.packb([msgpack.ExtType(8, b""), 2, 2**62, 2**62]),
    "scalar of two": msgpack.packb([msgpack.ExtType(9, b""), "<q", bytes(16)]),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_data(data: bytes) -> None:
    with pytest.raises(CodecError) as caught:
        unpack(data, "info of env 3")
    assert caught.value.path == "info of env 3"
    with pytest.raises(CodecError):
        unpack(b"\x92\x01" + data)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x80" * 1_000_000,
        b"\xdd\x00\x0f\x42\x40" * 190_000,
        b"\xdc\xff\xff" * 1_300,
        b"\xdd\x01\x00\x00\x00" + b"\x80" * 2**24,
        b"\xdd\x03\xff\xff\xf0" + b"\x90" * (2**26 - 16),
        b"\xdf\x01\x00\x00\x00" + b"\xa0\x80" * 2**24,
        _array(["sub", ["sub", "<f8", 2**20], 0], b"", 2**40),
        b"\x91" * 4_000,
    ],
    ids=["extra", "headers", "small headers", "maps", "lists", "pairs", "dtypes", "levels"],
)
def test_bombs_are_refused_before_they_grow(bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(CodecError):
            unpack(bomb)
        assert tracemalloc.get_traced_memory()[1] < 140 * 2**20
    finally:
        tracemalloc.stop()


ANY_SEED = pack({"a": [np.zeros((2, 3)), (1, np.float32(2))], "b": {1: {"x"}}, "s": np.zeros(2, NESTED), "t": "text"})


def _only_codec_errors(data: bytes) -> None:
    try:
        value = unpack(data)
    except CodecError:
        return
    assert identical(value, unpack(pack(value)))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_random_bytes(data: bytes) -> None:
    _only_codec_errors(data)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_mutated_messages(data: st.DataObject) -> None:
    message = bytearray(ANY_SEED)
    for _ in range(data.draw(st.integers(1, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    _only_codec_errors(bytes(message))


def test_every_truncation_is_refused() -> None:
    for end in range(len(ANY_SEED)):
        with pytest.raises(CodecError):
            unpack(ANY_SEED[:end])


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_both_scans_agree_with_the_message(value: Any) -> None:
    data = pack(value)
    scan(memoryview(data))
    skip(data, len(data))
    for wrong in (data[:-1], data + b"\x01"):
        with pytest.raises((ValueError, IndexError)):
            scan(memoryview(wrong))


def test_the_scan_knows_every_header() -> None:
    items = [None, True, 1, -1, 1.5, *(2**n for n in range(64)), *(-(2**n) for n in range(64))]
    items += [kind * n for kind in ("x", b"x", [0]) for n in (0, 1, 31, 32, 255, 256, 65_535, 65_536)]
    items += [{str(i): i for i in range(n)} for n in (0, 1, 15, 16, 65_536)]
    items += [msgpack.ExtType(16, bytes(n)) for n in (0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 65_536)]
    items += [msgpack.packb(1.5, use_single_float=True)]
    for item in items:
        scan(memoryview(msgpack.packb(item)))
    scan(memoryview(msgpack.packb(1.5, use_single_float=True)))


MANY = {
    "empties": [{}] * 900_000,
    "levels": [[[[]] * 30] * 30] * 300,
    "numbers": list(range(900_000)),
    "names": {f"{number}": None for number in range(300_000)},
}


@pytest.mark.parametrize("what", MANY)
def test_of_many_items_few_are_looked_at_in_python(what: str) -> None:
    """The server's loop does so: everybody waits meanwhile."""
    data = msgpack.packb(MANY[what])
    assert cpu_seconds(survey, data) < slowness() * 0.030
    assert (survey(data).kind, len(survey(data))) == (
        ("map", 600_000) if what == "names" else ("list", len(MANY[what]))
    )
    for wrong in (data[:-1], data + b"\x01", b"\xdd\xff\xff\xff\xff", b"\xdd\x00\x01\x00\x00\x01"):
        with pytest.raises(ValueError):
            survey(wrong)


def test_threads_share_the_codec() -> None:
    failures: list[object] = []

    def work(seed: int) -> None:
        value = {"seed": seed, "xs": [np.float64(seed + i) for i in range(50)], "t": (seed,) * 20}
        for _ in range(100):
            if not identical(unpack(pack(value)), value):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- bytes that hurt --------------------------------------------------------------------------------------------------


UNITS = ["", "[Y]", "[M]", "[W]", "[D]", "[h]", "[m]", "[s]", "[ms]", "[us]", "[ns]", "[ps]", "[fs]", "[as]", "[25s]"]


@pytest.mark.parametrize("unit", [*UNITS, "[2147483647Y]"])
@pytest.mark.parametrize("kind", ["m8", "M8"])
def test_every_unit_travels(kind: str, unit: str) -> None:
    if kind == "m8" or unit:
        array = np.zeros(2, np.dtype(f"<{kind}{unit}"))
        assert identical(array, unpack(pack(array)))


HURTFUL_TEXTS = [
    *(
        f"<{kind}[{unit}]"
        for kind in ("m8", "M8")
        for unit in ("s/0", "s/1", "7s/3", "0D", "007s", "-1s", "2147483648s")
    ),
    *(f"<{kind}[{unit}]" for kind in ("m8", "M8") for unit in ("99999999999s", "B", "x", "μs", "generic", "S", "")),
    *("|V0", "|S0", "<U0", "|S", "<U", "|V", "<U16777217", "|S67108865", "|V999999999", "<U00000001"),
    *("f8", "=f8", "<f3", "<i16", "<u0", "<b1,", "f8,f8", "(9,)f8", "<f8,<f8", "<f٨", "", "<", "O", "|O", "object"),
    *("<f8\n", " <f8", "i4[", "a" * 100_000),
]


@pytest.mark.parametrize("text", HURTFUL_TEXTS, ids=lambda text: text[:20])
def test_texts_that_numpy_must_not_see(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    messages = [
        _array(text, bytes(8), 1),
        _array(text, b"", *[7] * 20),
        _array(text, b"", 0),
        _array(["struct", 8, False, "a", 0, None, text], bytes(8), 1),
        _array(["struct", 8, False, "a", 0, None, ["sub", text, 1]], bytes(8), 1),
        msgpack.packb([msgpack.ExtType(9, b""), text, bytes(8)]),
    ]
    monkeypatch.setattr(np, "dtype", lambda *_args, **_kwargs: pytest.fail("NumPy saw it"))
    for message in messages:
        with pytest.raises(CodecError):
            unpack(message)
    with pytest.raises(CodecError):
        simple_dtype(text)


def test_simple_dtypes() -> None:
    for dtype in DTYPES:
        if dtype.names is None and dtype.itemsize:
            assert simple_dtype(dtype.str) == dtype
    for wrong in (None, 3, ["<f8"], b"<f8", {}):
        with pytest.raises(CodecError, match="rewards_dtype"):
            simple_dtype(cast("Any", wrong), "rewards_dtype")


def _struct(*fields: Any, itemsize: Any = 64, aligned: Any = False) -> list[Any]:
    return ["struct", itemsize, aligned, *fields]


def _fields(count: int, first: int, step: int, dtype: str, itemsize: int) -> list[Any]:
    return _struct(*[part for i in range(count) for part in (str(i), first + i * step, None, dtype)], itemsize=itemsize)


def _nested(levels: int) -> list[Any]:
    described: Any = "|i1"
    for _ in range(levels):
        described = _struct("a", 0, None, described)
    return cast("list[Any]", described)


BEYOND: list[Any] = [-(2**63), -64, -1, 57, 63, 64, 65, 2**31 - 1, 2**31, 2**32 - 8, 2**63 - 1, 2**64 - 1, 2**64]
BEYOND += [True, 0.0, None, "0"]
SHAPELESS: list[Any] = [[], [0], [2, 0], [65], [-1], [2**63, 2], [True], [1.0], [1] * 65, [2**13] * 3]
HURTFUL_STRUCTS: dict[str, Any] = {
    **{f"offset {offset!r}": _struct("b", offset, None, "<f8") for offset in BEYOND},
    **{f"offset {offset!r} of a subarray": _struct("b", offset, None, ["sub", "|i1", 2, 4]) for offset in BEYOND},
    **{
        f"offset {offset!r} of a struct": _struct("b", offset, None, _struct("c", 0, None, "|i1", itemsize=8))
        for offset in BEYOND
    },
    **{
        f"size {size!r}": _struct("b", 0, None, "|i1", itemsize=size)
        for size in (0, -1, 2**26 + 1, 2**31, 2**63, True, 8.0, None)
    },
    **{f"aligned {aligned!r}": _struct("b", 0, None, "|i1", aligned=aligned) for aligned in (0, 1, 2, None, "x", [])},
    **{f"name {name!r}": _struct(name, 0, None, "|i1") for name in (b"a", 3, None, ["a"], {"a": 1})},
    **{f"title {title!r}": _struct("a", 0, title, "|i1") for title in (b"a", 3, ["a"], "a", True)},
    **{f"subarray {shape}": _struct("a", 0, None, ["sub", "|i1", *shape]) for shape in SHAPELESS},
    "two of one name": _struct("a", 0, None, "|i1", "a", 1, None, "|i1"),
    "a title that is a name": _struct("a", 0, "b", "|i1", "b", 1, None, "|i1"),
    "over each other": _struct(*[part for i in range(5) for part in (str(i), 0, None, "|S64")]),
    "over each other below": _struct(
        *[part for i in range(3) for part in (str(i), 0, None, _struct("x", 0, None, "|S64", "y", 0, None, "|S64"))]
    ),
    "1,001 fields": _fields(1001, 0, 1, "|i1", 4096),
    "nested": _nested(9),
    "nested without end": _nested(300),
    "no fields, no size": _struct(itemsize=0),
    "unfinished": _struct("a", 0, None),
    "empty": [],
    "unknown": ["union", "<f8"],
    "a list of kinds": [["struct"], 8, False],
}


@pytest.mark.parametrize("described", HURTFUL_STRUCTS.values(), ids=HURTFUL_STRUCTS.keys())
def test_structs_that_reach_outside_or_have_no_end(described: Any) -> None:
    # Python's int beyond 64 bits travels as an extension, here as everywhere
    described = msgpack.unpackb(msgpack.packb(described, default=_big), ext_hook=msgpack.ExtType)
    for shape in ([1], [0], [], [3]):
        with pytest.raises(CodecError):
            unpack(_array(described, bytes(64 * math.prod(shape)), *shape))
    with pytest.raises(CodecError):
        unpack(msgpack.packb([msgpack.ExtType(9, b""), described, bytes(64)]))


def _big(value: int) -> msgpack.ExtType:
    return msgpack.ExtType(16, value.to_bytes(16, "little", signed=True))


def test_structs_at_the_edge_travel() -> None:
    for dtype in (
        np.dtype({"names": ["a", "b"], "formats": ["u1", "<f8"], "offsets": [0, 56], "itemsize": 64}),
        np.dtype({"names": ["all", "r", "g"], "formats": ["<u4", "u1", "u1"], "offsets": [0, 0, 1]}),
        np.dtype({"names": [], "formats": [], "offsets": [], "itemsize": 3}),
        np.dtype([(f"f{i}", "u1") for i in range(1000)]),
        np.dtype([("a", "f4", (2, 1, 3)), ("b", [("c", "U2", 4)])]),
        np.dtype([("", "f4"), ("é", "m8[ns]"), ("\ud800", "?")]),
    ):
        for shape in ((), (3,), (0, 2), (2, 1, 2)):
            array = np.frombuffer(bytes(math.prod(shape) * dtype.itemsize), np.uint8).copy().view(dtype)
            array = array.reshape(shape) if array.size else np.zeros(shape, dtype)
            back = unpack(pack(array))
            assert identical(array, back)
            assert (back.tobytes(), back.flags.owndata, back.flags.writeable) == (array.tobytes(), True, True)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, "V0"),
        np.zeros(3, np.dtype([])),
        np.zeros((2, 2), np.dtype([("a", "i1", (0,))])),
        np.zeros(2, np.dtype([("a", "u1"), ("b", "S0")])),
        np.void(b""),
        np.zeros(1, [(f"f{i}", "u1") for i in range(1001)]),
        np.zeros(1, {"names": list("abcde"), "formats": ["S9"] * 5, "offsets": [0] * 5}),
        np.zeros((0, 2**29)),
        np.zeros((0, 2**15, 2**14), "u1"),
        np.empty((0, 2**29), object),
        2 ** (8 * 65_536),
    ],
    ids=lambda value: str(getattr(value, "dtype", "int"))[:20],
)
def test_what_no_reader_takes_is_not_sent(array: Any) -> None:
    with pytest.raises(CodecError, match="; send") as caught:
        pack({"ok": 1, "bad": [array]}, "info")
    assert caught.value.path == "info['bad'][0]"
    assert pack_lossy({"ok": 1, "bad": [array]}, "info")[1] == ["info['bad']"]


def test_large_ints() -> None:
    for value in (2 ** (8 * 65_536 - 1) - 1, -(2 ** (8 * 65_536 - 2)), 10**4300):
        assert unpack(pack(value)) == value
    with pytest.raises(CodecError, match="a huge int"):
        pack({10**5000: Custom()})
    big = msgpack.ExtType(16, b"\1" * 65_536)
    for shape in ([big], [big, big], [msgpack.ExtType(16, b"\1" * 9)] * 64):
        with pytest.raises(CodecError):
            unpack(_array("<f8", b"", *shape))


# --- hash tables ------------------------------------------------------------------------------------------------------


def _tagged(code: int, items: list[Any]) -> bytes:
    def encode(value: Any) -> Any:
        if isinstance(value, tuple):
            return [msgpack.ExtType(1, b""), *map(encode, value)]
        if isinstance(value, frozenset):
            return [msgpack.ExtType(3, b""), *map(encode, value)]
        return value

    packed: bytes = msgpack.packb([msgpack.ExtType(code, b""), *map(encode, items)], default=_big)
    return packed


def _signs(number: int, length: int) -> tuple[int, ...]:
    return tuple(-1 - (number >> bit & 1) for bit in range(length))


MODULUS = 2**61 - 1
COLLIDING: dict[str, list[Any]] = {
    "ints": [(i + 1) * MODULUS for i in range(2_000)],
    "fewer ints": [(i + 1) * MODULUS for i in range(300)],
    "tuples": [_signs(i, 10) for i in range(1_000)],
    "fewer tuples": [_signs(i, 8) for i in range(100)],
    "nested tuples": [((_signs(i, 7),),) for i in range(100)],
    "frozensets": [frozenset({_signs(i, 7)}) for i in range(100)],
    "too many": [*range(1_001)],
    "too many, mixed": [*map(str, range(1_000)), 1],
    "long": [(*range(2_000), *_signs(i, 3)) for i in range(8)],
    "nested frozensets": [
        frozenset(frozenset({_signs(j if j != i else 15 - j, 4), i}) for j in range(15)) for i in range(7)
    ],
}


@pytest.mark.parametrize("name", [name for name in COLLIDING if name != "nested frozensets"])
def test_keys_that_collide(name: str) -> None:
    items = COLLIDING[name]
    pairs = [part for item in items for part in (item, None)]
    for code, wire in ((2, items), (3, items), (4, pairs), (5, pairs)):
        with pytest.raises(CodecError):
            unpack(_tagged(code, wire))
    for value in (set(items), frozenset(items), dict.fromkeys(items), collections.OrderedDict.fromkeys(items)):
        with pytest.raises(CodecError, match="; send") as caught:
            pack({"a": [value]}, "info")
        assert caught.value.path == "info['a'][0]"


@pytest.mark.parametrize("name", list(COLLIDING))
def test_collisions_cost_little(name: str) -> None:
    for items in (COLLIDING[name], COLLIDING[name][:8], COLLIDING[name][:16]):
        message = _tagged(2, items)
        assert_cheap(unpack, message)
        assert_cheap(unpack, b"\x98" + message * 8)


GRID = [(x, y) for x in range(-16, 16) for y in range(-15, 16)]
LEGITIMATE: list[Any] = [
    set(range(-500, 500)),
    dict.fromkeys(GRID, 1.5),
    {(x, y, z) for x in range(-5, 5) for y in range(-5, 5) for z in range(-5, 5)},
    {_signs(i, 4) for i in range(16)},
    {frozenset({a, b}): 1 for a, b in itertools.pairwise(GRID)},
    {((x, y), (y, x)) for x, y in GRID},
    frozenset(np.int64(i) for i in range(1_000)),
    {-1, -2, -1.5, None, "a", b"a", True},
    {float("nan") for _ in range(50)},
    [{-1, -2} for _ in range(5_000)],
    [dict.fromkeys(GRID) for _ in range(64)],
    set(map(str, range(5_000))),
    collections.OrderedDict((str(i), {}) for i in range(5_000)),
    [{"": 1}] * 8_192,
    {"": {}, "a": {"": {}}},
]


@pytest.mark.parametrize("value", LEGITIMATE, ids=lambda value: f"{type(value).__name__} of {len(value)}")
def test_tables_of_real_programs_travel(value: Any) -> None:
    packed = pack(value)
    back = unpack(packed)
    assert type(back) is type(value) and len(back) == len(value)
    assert back == value or value != value or isinstance(next(iter(value)), float)
    assert_cheap(unpack, packed)


def test_the_budget_of_comparisons_is_one_for_the_whole_message() -> None:
    table = {_signs(i, 4) for i in range(16)}  # 16 * 15 comparisons of 5 things each
    fits = 65_536 // (16 * 15 * 5)
    assert unpack(pack([table] * fits)) == [table] * fits
    with pytest.raises(CodecError, match="comparisons") as caught:
        pack([table] * (fits + 1), "v")
    assert caught.value.path == f"v[{fits}]"
    with pytest.raises(CodecError, match="comparisons"):
        unpack(b"\xdc" + (fits + 1).to_bytes(2, "big") + pack(table) * (fits + 1))


def test_dicts_with_nothing_but_an_empty_key() -> None:
    with pytest.raises(CodecError, match="empty string") as caught:
        pack([{"": 1}] * 8_193, "v")
    assert caught.value.path == "v[8192]"
    for item, times in ((b"\x81\xa0\x80", 10_000), (b"\x81\xa0" * 29 + b"\x80", 1_000)):
        with pytest.raises(CodecError, match="empty string"):
            unpack(b"\xdd" + times.to_bytes(4, "big") + item * times)


# --- what reading costs -----------------------------------------------------------------------------------------------


def _many(item: bytes, nbytes: int = 60_000) -> bytes:
    count = nbytes // len(item)
    return b"\xdd" + count.to_bytes(4, "big") + item * count


def _tag(code: int) -> bytes:
    return bytes([0xC7, 0, code])


def _all_in_one(head: bytes, items: int, item: bytes) -> bytes:
    return b"\xdd" + items.to_bytes(4, "big") + head + item


DEARER = {
    **{f"empty {name}": _many(item) for name, item in (("dict", b"\x80"), ("list", b"\x90"), ("str", b"\xa0"))},
    **{f"empty extension {code}": _many(_tag(code)) for code in (16, 18, 19, 20, 99)},
    **{f"nothing but tag {code}": _many(b"\x91" + _tag(code)) for code in range(1, 10)},
    **{
        f"scalar {32 + i}": _many(msgpack.packb(msgpack.ExtType(32 + i, bytes(np.dtype(kind).itemsize))))
        for i, kind in enumerate(values.NUMBER_SCALARS)
    },
    **{
        f"{kind} of {n}": _many(bytes([0x91 + n]) + _tag(code) + bytes(range(n)))
        for n in (1, 5, 8, 14)
        for kind, code in (("tuple", 1), ("set", 2), ("frozenset", 3))
    },
    "small dicts": _many(b"\x81\xa1a\x80"),
    "small dicts with an int as key": _many(b"\x93" + _tag(4) + b"\x01\x80"),
    "small ordered dicts": _many(b"\x93" + _tag(5) + b"\xa0\x80"),
    "six keys": _many(b"\x86" + b"".join(b"\xa1" + bytes([97 + i, 0x80]) for i in range(6))),
    "empty arrays": _many(b"\x94" + _tag(7) + b"\xa2<l\xc4\x00\x00"),
    "arrays without axes": _many(b"\x93" + _tag(7) + b"\xa3|b1\xc4\x01\x00"),
    "arrays of text": _many(_array("<U1", bytes(4), 1)),
    "arrays of structs": _many(_array(["struct", 1, False, "a", 0, None, "|i1"], bytes(1), 1)),
    "arrays of nested structs": _many(_array(_nested(8), bytes(64), 1)),
    "arrays of 900 fields": _many(_array(_fields(900, 0, 1, "|i1", 1000), bytes(1000), 1)),
    "arrays of 900 fields outside": _many(_array(_fields(900, 101, 1, "|i1", 1000), bytes(1000), 1)),
    "dates": _many(msgpack.packb([msgpack.ExtType(9, b""), "<M8[s]", bytes(8)])),
    "object arrays of one": _many(b"\x93" + _tag(8) + b"\x00\xc0"),
    "an object array of dicts": _all_in_one(_tag(8) + b"\x01\xcd\xea\x60", 60_003, b"\x80" * 60_000),
    "a tuple of dicts": _all_in_one(_tag(1), 60_001, b"\x80" * 60_000),
    "an array of 60,000 axes": _all_in_one(_tag(7) + b"\xa2<l\xc4\x00", 60_003, b"\x00" * 60_000),
    **{
        f"{name}, {levels} levels": _many(item * levels + b"\xc0")
        for levels in (31, 1_000)
        for name, item in (
            ("lists", b"\x91"),
            ("dicts", b"\x81\xa1a"),
            ("hollow dicts", b"\x81\xa0"),
            ("tuples", b"\x92" + _tag(1)),
            ("frozensets", b"\x92" + _tag(3)),
            ("ordered dicts", b"\x93" + _tag(5) + b"\xc0"),
            ("object arrays", b"\x93" + _tag(8) + b"\x00"),
        )
    },
    "keys that share their low bits": _tagged(2, [i << 32 for i in range(1_000)]),
    "surrogates": _many(b"\xa3\xed\xa0\x80"),
    "overlapping fields": _array(_fields(900, 0, 0, "|S25000", 25_000), bytes(25_000), 1),
    "twenty axes of no bytes": _array("|V0", b"", *[7] * 20),
}


@pytest.mark.parametrize("message", DEARER.values(), ids=DEARER.keys())
def test_no_bytes_cost_more_than_their_number(message: bytes) -> None:
    assert_cheap(unpack, message)
    try:
        value = unpack(message)
    except CodecError:
        return
    packed = pack(value)  # what was read can be sent on
    assert identical(unpack(packed), value) if len(packed) < 2_000 else packed


@pytest.mark.parametrize("error", [RecursionError, MemoryError, OverflowError, SyntaxError, ZeroDivisionError, Warning])
def test_whatever_is_raised_ends_as_codec_error(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_message: Any, _size: int) -> Any:
        raise error("\ud800" + "x" * 1_000_000)

    monkeypatch.setattr(values, "load", fail)
    with pytest.raises(CodecError) as caught:
        unpack(b"\x01")
    assert len(str(caught.value).encode()) < 1_000


def test_a_tag_has_no_payload() -> None:
    assert unpack(b"\x92\xc7\x00\x01\x07") == (7,)
    with pytest.raises(CodecError, match="a tag with a payload"):
        unpack(b"\x92\xc7\x01\x01x\x07")
