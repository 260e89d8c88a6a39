"""No I/O: infos with a value of every type that can travel, by name."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.spaces import GraphInstance

Draw = Callable[[np.random.Generator, int], dict[Any, Any]]
"""Returns an info from a generator and the number of steps in the episode."""

Value = Callable[[np.random.Generator], Any]

_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
_FLOATS = ("float16", "float32", "float64", "longdouble")
_COMPLEX = ("complex64", "complex128", "clongdouble")


def _integer(random: np.random.Generator) -> int:
    return int(random.integers(100))


def _structured(random: np.random.Generator) -> np.ndarray[Any, Any]:
    array = np.zeros(2, np.dtype([("id", np.int16), ("at", np.float64, (2,)), ("name", "U3")], align=True))
    array["id"], array["at"], array["name"] = _integer(random), random.random((2, 2)), ["ab", "ñ"]
    return array


def _objects(random: np.random.Generator) -> np.ndarray[Any, Any]:
    array = np.empty((2, 2), object)
    array[0, 0], array[0, 1], array[1, 0] = _integer(random), "text", (1, [2.0])
    return array


def _number(name: str) -> Value:
    return lambda random: np.dtype(name).type(10 * random.random())


def _array(name: str) -> Value:
    return lambda random: (100 * random.random((2, 2))).astype(name)


_VALUES: dict[str, Value] = {
    # Python's own
    "bool": lambda random: bool(random.integers(2)),
    "int": _integer,
    "int of 63 bits": lambda random: 2**62 + _integer(random),
    "float": lambda random: float(random.normal()),
    "float special": lambda random: [-0.0, 0.0, float("nan"), float("inf"), -float("inf"), 5e-324][random.integers(6)],
    "complex": lambda random: complex(random.normal(), -0.0),
    "str": lambda random: "ñ€😀\0 " + "x" * _integer(random),
    "str empty": lambda _: "",
    "bytes": lambda random: random.bytes(5),
    "bytearray": lambda random: bytearray(random.bytes(3)),
    "none": lambda _: None,
    "list": lambda random: [_integer(random), "a", None, [True, 1.0]],
    "list empty": lambda _: [],
    "tuple": lambda random: (_integer(random), (b"a", [()])),
    "int beyond 64 bits": lambda random: [2**70 + _integer(random), -(2**100), 2**64 - 1, -(2**63)],
    "set": lambda random: {_integer(random), "a", (1, 2)},
    "frozenset": lambda random: frozenset({_integer(random), 1.5}),
    "dict": lambda random: {"a": _integer(random), "b": {"c": float(random.random()), "d": "e"}},
    "dict empty": lambda _: {},
    "dict in a list": lambda random: [{"a": _integer(random), 2: {None: (1,)}}],
    "dict with odd keys": lambda random: {1: _integer(random), (2, "b"): "two", None: 0.5},
    "ordered dict in a list": lambda random: [OrderedDict([("z", _integer(random)), ("a", 1)])],
    # NumPy scalars
    "np.bool": lambda random: np.bool_(random.integers(2)),
    **{f"np.{name}": _number(name) for name in (*_INTEGERS, *_FLOATS, *_COMPLEX)},
    "np.str": lambda random: np.str_(f"ñ{_integer(random)}"),
    "np.bytes": lambda random: np.bytes_(random.bytes(3) + b"1"),
    "np.datetime64": lambda random: np.datetime64("2020-01-01") + _integer(random),
    # In a list: Gymnasium takes it for a number without a unit, and NumPy refuses to put it there.
    "np.timedelta64": lambda random: [np.timedelta64(_integer(random), "ms")],
    "np.void": lambda random: _structured(random)[0],
    # Arrays
    "array bool": lambda random: random.random(3) < 0.5,
    **{f"array {name}": _array(name) for name in (*_INTEGERS, *_FLOATS, *_COMPLEX)},
    "array special floats": lambda random: random.permutation(np.array([-0.0, 0.0, np.nan, np.inf, -np.inf])),
    "array 0-d": lambda random: np.array(random.normal()),
    "array empty": lambda _: np.zeros((2, 0, 3), np.int16),
    "array of str": lambda random: np.array(["a", f"ñ{_integer(random)}"], "U4"),
    "array of bytes": lambda random: np.array([b"a", b"bc"], "S3"),
    "array of datetime64": lambda random: np.array(["2020-01-01", "NaT"], "datetime64[D]") + _integer(random),
    "array of objects": _objects,
    "array structured": _structured,
    "array big-endian": lambda random: random.normal(size=3).astype(">f8"),
    "array in Fortran order": lambda random: np.asfortranarray(random.normal(size=(2, 3))),
    "array strided": lambda random: random.normal(size=(4, 6))[::2, ::-3],
    "array read-only": lambda random: np.broadcast_to(random.normal(), (3,)),
    # Of Gymnasium
    "graph": lambda random: [GraphInstance(random.normal(size=(2, 1)), None, np.array([[0, 1]]))],
}


def _as_info(value: Value) -> Draw:
    return lambda random, _steps: {"value": value(random)}


def _now_and_then(random: np.random.Generator, steps: int) -> dict[Any, Any]:
    """Keys that come and go, so that masks and the order of keys differ from environment to environment."""
    return {key: _integer(random) for key in "abc" if random.random() < 0.4} if steps else {"began": 1}


def _numbers_of_changing_type(random: np.random.Generator, _steps: int) -> dict[Any, Any]:
    kinds = (int, float, bool, np.float32, np.int64)
    return {"value": kinds[random.integers(len(kinds))](_integer(random))}


def _nested_now_and_then(random: np.random.Generator, steps: int) -> dict[Any, Any]:
    return {"outer": {"inner": _now_and_then(random, steps + 1), "always": steps}, "empty": {}}


INFOS: dict[str, Draw] = {
    **{name: _as_info(value) for name, value in _VALUES.items()},
    "keys that come and go": _now_and_then,
    "nested keys that come and go": _nested_now_and_then,
    "numbers of changing type": _numbers_of_changing_type,
    "ten floats": lambda random, _steps: {f"reward_{i}": np.float64(random.normal()) for i in range(10)},
    "all at once": lambda random, _steps: {name: value(random) for name, value in _VALUES.items()},
    "all in a list": lambda random, _steps: {name: [value(random)] for name, value in _VALUES.items()},
}
"""Infos by name. Any number of environments can say them at once; Gymnasium's vector env collects them."""
