"""No I/O: Gymnasium spaces <-> plain data: dicts, lists, bytes, with the fields of `space.proto`.

A worker imports no protobuf, so it describes its spaces as data; the server and the client turn that data into the
protobuf message and back by field name (`wire.spaces`). Rebuilt spaces are equal (``==``) to the originals, keep the
order of their keys, and sample the same sequence from the same seed.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable
from functools import singledispatch
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym.errors import MisuseError

SpaceData = dict[str, Any]

MAX_SPACE_NODES = 4_096
"""Spaces in one description, nested ones included; bounds what a description from the network can build."""

MAX_BOUND_BYTES = 256 * 1024 * 1024
"""Bytes of one bounds array. An environment's row is at most this; a few bytes can otherwise ask for terabytes."""

# Keyword arguments that Gymnasium added after 1.1; passed on only where the installed version takes them.
_DISCRETE_TAKES_DTYPE = "dtype" in inspect.signature(spaces.Discrete.__init__).parameters


@singledispatch
def describe(space: spaces.Space[Any]) -> SpaceData:
    """Return `space` as plain data: one key, the kind, whose value holds the fields.

    Raises:
        MisuseError: The space is of a type that Gymnasium does not define.
    """
    raise MisuseError(
        f"the space {type(space).__module__}.{type(space).__qualname__} is a custom one and cannot travel: "
        f"wrap the environment on the server so that its spaces are Gymnasium's own"
    )


def _exactly(kind: type[spaces.Space[Any]], space: spaces.Space[Any]) -> None:
    # A subclass may override `sample` or `contains`; rebuilding it as its base would silently differ.
    if type(space) is not kind:
        describe.dispatch(object)(space)


def _array(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> bytes:
    """Little-endian bytes of `values`; one element stands for all when they are equal."""
    flat = np.ascontiguousarray(values, dtype=dtype.newbyteorder("<")).reshape(-1)
    if flat.size > 1 and flat.tobytes() == flat[:1].tobytes() * flat.size:
        flat = flat[:1]
    return flat.tobytes()


def _to_array(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    flat = np.frombuffer(data, dtype=dtype) if data else np.empty(0, dtype)
    count = int(np.prod(shape, dtype=object)) if shape else 1
    if count * dtype.itemsize > MAX_BOUND_BYTES or min(shape, default=0) < 0:
        raise MisuseError(f"a space of shape {shape} and dtype {dtype} is too large or negative")
    if flat.size == 1 and count != 1:
        return np.full(shape, flat[0], dtype=dtype)
    if flat.size != count:
        raise MisuseError(f"a space of shape {shape} came with {flat.size} values")
    return flat.reshape(shape).copy()


@describe.register(spaces.Box)
def _(space: spaces.Box[Any]) -> SpaceData:
    _exactly(spaces.Box, space)
    dtype = np.dtype(space.dtype)
    low, high = _array(space.low, dtype), _array(space.high, dtype)
    return {"box": {"dtype": dtype.str, "shape": list(space.shape), "low": low, "high": high}}


@describe.register(spaces.Discrete)
def _(space: spaces.Discrete[Any]) -> SpaceData:
    _exactly(spaces.Discrete, space)
    # uint64 counts do not fit a signed field: both travel as the bytes of the space's own dtype.
    dtype = np.dtype(space.dtype)
    return {"discrete": {"dtype": dtype.str, "n": _scalar(space.n, dtype), "start": _scalar(space.start, dtype)}}


def _scalar(value: Any, dtype: np.dtype[Any]) -> bytes:
    return np.asarray(value, dtype=dtype.newbyteorder("<")).tobytes()


@describe.register(spaces.MultiDiscrete)
def _(space: spaces.MultiDiscrete[Any]) -> SpaceData:
    _exactly(spaces.MultiDiscrete, space)
    dtype = np.dtype(space.dtype)
    nvec, start = _array(space.nvec, dtype), _array(space.start, dtype)
    return {"multi_discrete": {"dtype": dtype.str, "shape": list(space.nvec.shape), "nvec": nvec, "start": start}}


@describe.register(spaces.MultiBinary)
def _(space: spaces.MultiBinary) -> SpaceData:
    _exactly(spaces.MultiBinary, space)
    return {"multi_binary": {"shape": list(space.shape), "flat": isinstance(space.n, int)}}


@describe.register(spaces.Text)
def _(space: spaces.Text) -> SpaceData:
    _exactly(spaces.Text, space)
    characters = "".join(space.character_list)
    return {"text": {"min_length": space.min_length, "max_length": space.max_length, "characters": characters}}


@describe.register(spaces.Sequence)
def _(space: spaces.Sequence) -> SpaceData:
    _exactly(spaces.Sequence, space)
    return {"sequence": {"feature": describe(space.feature_space), "stack": space.stack}}


@describe.register(spaces.Graph)
def _(space: spaces.Graph) -> SpaceData:
    _exactly(spaces.Graph, space)
    edge = {} if space.edge_space is None else {"edge": describe(space.edge_space)}
    return {"graph": {"node": describe(space.node_space), **edge}}


@describe.register(spaces.OneOf)
def _(space: spaces.OneOf[Any]) -> SpaceData:
    _exactly(spaces.OneOf, space)
    return {"one_of": {"spaces": [describe(child) for child in space.spaces]}}


@describe.register(spaces.Tuple)
def _(space: spaces.Tuple[Any]) -> SpaceData:
    _exactly(spaces.Tuple, space)
    return {"tuple": {"spaces": [describe(child) for child in space.spaces]}}


@describe.register(spaces.Dict)
def _(space: spaces.Dict) -> SpaceData:
    _exactly(spaces.Dict, space)
    for key in space.spaces:
        if type(key) is not str:
            raise MisuseError(f"the Dict space has the key {key!r}: only str keys can travel")
    return {
        "dict": {
            "keys": list(space.spaces),
            "spaces": [describe(child) for child in space.spaces.values()],
            "sort_keys": bool(getattr(space, "sort_keys", True)),
        }
    }


def build(data: SpaceData) -> spaces.Space[Any]:
    """Return the space that `data` describes; the inverse of `describe`.

    Raises:
        MisuseError: The description is malformed, of an unknown kind, or larger than `MAX_SPACE_NODES`.
    """
    budget = [MAX_SPACE_NODES]
    try:
        return _build(data, budget)
    except MisuseError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AssertionError, OverflowError, MemoryError) as error:
        raise MisuseError(f"malformed space description: {error!r}") from error


def _build(data: SpaceData, budget: list[int]) -> spaces.Space[Any]:
    budget[0] -= 1
    if budget[0] < 0:
        raise MisuseError(f"a space description holds more than {MAX_SPACE_NODES} spaces")
    ((kind, fields),) = data.items()
    if kind not in _BUILDERS:
        raise MisuseError(f"unknown kind of space {kind!r}: the peer is newer, upgrade this side")
    return _BUILDERS[kind](fields, budget)


def _dtype(name: str, kinds: str) -> np.dtype[Any]:
    dtype = np.dtype(name)
    if dtype.kind not in kinds:
        raise MisuseError(f"the dtype {name!r} is not allowed in this space")
    return dtype


def _shape(sizes: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


def _build_box(fields: SpaceData, _: list[int]) -> spaces.Space[Any]:
    dtype, shape = _dtype(fields["dtype"], "iufb"), _shape(fields["shape"])
    low, high = _to_array(fields["low"], dtype, shape), _to_array(fields["high"], dtype, shape)
    return spaces.Box(low, high, shape=shape, dtype=dtype.type)


def _build_discrete(fields: SpaceData, _: list[int]) -> spaces.Space[Any]:
    dtype = _dtype(fields["dtype"], "iu")
    n, start = np.frombuffer(fields["n"], dtype)[0], np.frombuffer(fields["start"], dtype)[0]
    if not _DISCRETE_TAKES_DTYPE:
        return spaces.Discrete(int(n), start=int(start))
    return spaces.Discrete(n, start=start, dtype=dtype.type)


def _build_multi_discrete(fields: SpaceData, _: list[int]) -> spaces.Space[Any]:
    dtype, shape = _dtype(fields["dtype"], "iu"), _shape(fields["shape"])
    nvec, start = _to_array(fields["nvec"], dtype, shape), _to_array(fields["start"], dtype, shape)
    return spaces.MultiDiscrete(nvec, dtype=dtype.type, start=start)


def _build_multi_binary(fields: SpaceData, _: list[int]) -> spaces.Space[Any]:
    shape = _shape(fields["shape"])
    return spaces.MultiBinary(shape[0] if fields.get("flat") else shape)


def _build_text(fields: SpaceData, _: list[int]) -> spaces.Space[Any]:
    return spaces.Text(fields["max_length"], min_length=fields["min_length"], charset=fields["characters"])


def _build_sequence(fields: SpaceData, budget: list[int]) -> spaces.Space[Any]:
    return spaces.Sequence(_build(fields["feature"], budget), stack=bool(fields.get("stack")))


def _build_graph(fields: SpaceData, budget: list[int]) -> spaces.Space[Any]:
    edge = fields.get("edge")
    return spaces.Graph(_build(fields["node"], budget), None if edge is None else _build(edge, budget))


def _build_one_of(fields: SpaceData, budget: list[int]) -> spaces.Space[Any]:
    return spaces.OneOf([_build(child, budget) for child in fields.get("spaces", ())])


def _build_tuple(fields: SpaceData, budget: list[int]) -> spaces.Space[Any]:
    return spaces.Tuple([_build(child, budget) for child in fields.get("spaces", ())])


def _build_dict(fields: SpaceData, budget: list[int]) -> spaces.Space[Any]:
    children = [_build(child, budget) for child in fields.get("spaces", ())]
    # An OrderedDict keeps the order of the original, whatever its `sort_keys` said.
    space = spaces.Dict(OrderedDict(zip(fields.get("keys", ()), children, strict=True)))
    if hasattr(space, "sort_keys"):
        space.sort_keys = bool(fields.get("sort_keys"))
    return space


_BUILDERS: dict[str, Callable[[SpaceData, list[int]], spaces.Space[Any]]] = {
    "box": _build_box,
    "discrete": _build_discrete,
    "multi_discrete": _build_multi_discrete,
    "multi_binary": _build_multi_binary,
    "text": _build_text,
    "sequence": _build_sequence,
    "graph": _build_graph,
    "one_of": _build_one_of,
    "tuple": _build_tuple,
    "dict": _build_dict,
}
