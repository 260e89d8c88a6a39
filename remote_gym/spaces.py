"""No I/O: Gymnasium spaces <-> plain data: dicts, lists, bytes, with the fields of `space.proto`.

A worker imports no protobuf, so it describes its spaces as data; the server and the client turn that data into the
protobuf message and back by field name (`wire.spaces`). Rebuilt spaces are equal (``==``) to the originals, keep the
order of their keys, and sample the same sequence from the same seed.

A few bytes can describe a space of terabytes, so a description is examined as a whole, in Python's ints, before NumPy
or Gymnasium see any of it (`space_checks`). The same examination ends `describe`: what is described can be built.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from typing import Any, Callable, Dict

import numpy as np

from remote_gym import gym as spaces
from remote_gym.errors import MisuseError
from remote_gym.leaves import MAX_SPACE_DEPTH, kind_of
from remote_gym.space_checks import examine, said_by
from remote_gym.texts import shortened
from remote_gym.values import simple_dtype

SpaceData = Dict[str, Any]

# Keyword arguments that Gymnasium added after 1.1; passed on only where the installed version takes them.
_DISCRETE_TAKES_DTYPE = "dtype" in inspect.signature(spaces.Discrete.__init__).parameters


def describe(space: spaces.Space[Any]) -> SpaceData:
    """Return `space` as plain data: one key, the kind, whose value holds the fields.

    Raises:
        MisuseError: The space is of a type that Gymnasium does not define, too large, nested too deeply, or has text
            that UTF-8 cannot carry.
    """
    try:
        data = _describe(space)
    except RecursionError:
        raise MisuseError(f"the space is nested deeper than {MAX_SPACE_DEPTH} levels") from None
    try:
        examine(data)
    except MisuseError as error:
        raise MisuseError(f"the {type(space).__qualname__} space cannot travel: {error}") from error
    return data


def _describe(space: Any) -> SpaceData:
    kind = kind_of(space)
    # A subclass may override `sample` or `contains`; rebuilding it as its base would silently differ.
    if not kind or type(space) is not getattr(spaces, kind):
        raise MisuseError(
            f"the space {type(space).__module__}.{type(space).__qualname__} is a custom one and cannot travel: "
            f"wrap the environment on the server so that its spaces are Gymnasium's own"
        )
    return _DESCRIBERS[kind](space)


def _array(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> bytes:
    """Little-endian bytes of `values`; one element stands for all when they are equal."""
    flat = np.ascontiguousarray(values, dtype=dtype.newbyteorder("<")).reshape(-1)
    if flat.size > 1 and flat.tobytes() == flat[:1].tobytes() * flat.size:
        flat = flat[:1]
    return flat.tobytes()


def _describe_box(space: spaces.Box[Any]) -> SpaceData:
    dtype = np.dtype(space.dtype).newbyteorder("<")
    low, high = _array(space.low, dtype), _array(space.high, dtype)
    return {"box": {"dtype": dtype.str, "shape": list(space.shape), "low": low, "high": high}}


def _describe_discrete(space: spaces.Discrete[Any]) -> SpaceData:
    # uint64 counts do not fit a signed field: both travel as the bytes of the space's own dtype.
    dtype = np.dtype(space.dtype).newbyteorder("<")
    return {"discrete": {"dtype": dtype.str, "n": _scalar(space.n, dtype), "start": _scalar(space.start, dtype)}}


def _scalar(value: Any, dtype: np.dtype[Any]) -> bytes:
    return np.asarray(value, dtype=dtype.newbyteorder("<")).tobytes()


def _describe_multi_discrete(space: spaces.MultiDiscrete[Any]) -> SpaceData:
    dtype = np.dtype(space.dtype).newbyteorder("<")
    nvec, start = _array(space.nvec, dtype), _array(space.start, dtype)
    return {"multi_discrete": {"dtype": dtype.str, "shape": list(space.nvec.shape), "nvec": nvec, "start": start}}


def _describe_multi_binary(space: spaces.MultiBinary) -> SpaceData:
    return {"multi_binary": {"shape": list(space.shape), "flat": isinstance(space.n, int)}}


def _describe_text(space: spaces.Text) -> SpaceData:
    characters = "".join(space.character_list)
    return {"text": {"min_length": space.min_length, "max_length": space.max_length, "characters": characters}}


def _describe_sequence(space: spaces.Sequence) -> SpaceData:
    return {"sequence": {"feature": _describe(space.feature_space), "stack": space.stack}}


def _describe_graph(space: spaces.Graph) -> SpaceData:
    edge = {} if space.edge_space is None else {"edge": _describe(space.edge_space)}
    return {"graph": {"node": _describe(space.node_space), **edge}}


def _describe_one_of(space: spaces.OneOf[Any]) -> SpaceData:
    return {"one_of": {"spaces": [_describe(child) for child in space.spaces]}}


def _describe_tuple(space: spaces.Tuple[Any]) -> SpaceData:
    return {"tuple": {"spaces": [_describe(child) for child in space.spaces]}}


def _describe_dict(space: spaces.Dict) -> SpaceData:
    for key in space.spaces:
        if type(key) is not str:
            raise MisuseError(f"the Dict space has the key {shortened(repr(key), 120)}: only str keys can travel")
    return {
        "dict": {
            "keys": list(space.spaces),
            "spaces": [_describe(child) for child in space.spaces.values()],
            "sort_keys": bool(getattr(space, "sort_keys", True)),
        }
    }


_DESCRIBERS: dict[str, Callable[[Any], SpaceData]] = {
    "Box": _describe_box,
    "Discrete": _describe_discrete,
    "MultiDiscrete": _describe_multi_discrete,
    "MultiBinary": _describe_multi_binary,
    "Text": _describe_text,
    "Sequence": _describe_sequence,
    "Graph": _describe_graph,
    "OneOf": _describe_one_of,
    "Tuple": _describe_tuple,
    "Dict": _describe_dict,
}


def build(data: SpaceData) -> spaces.Space[Any]:
    """Return the space that `data` describes; the inverse of `describe`.

    Raises:
        MisuseError: The description is malformed, of an unknown kind, or beyond a limit of `space_checks`.
    """
    examine(data)
    try:
        return _build(data)
    except Exception as error:  # what Gymnasium and NumPy refuse, and warnings that the user made errors
        raise MisuseError(f"malformed space description: {said_by(error)}") from error


def _build(data: SpaceData) -> spaces.Space[Any]:
    ((kind, fields),) = data.items()
    return _BUILDERS[kind](fields)


def _array_of(fields: SpaceData, field: str) -> np.ndarray[Any, Any]:
    dtype, shape = simple_dtype(fields["dtype"]), tuple(fields["shape"])
    flat = np.frombuffer(fields[field], dtype) if fields[field] else np.empty(0, dtype)
    if dtype.kind == "b" and flat.view(np.uint8).max(initial=0) > 1:
        raise ValueError("a bool that is neither 0 nor 1")
    if flat.size == 1:  # it stands for all, however many
        return np.full(shape, flat[0], dtype)
    return flat.reshape(shape).copy()


def _build_box(fields: SpaceData) -> spaces.Space[Any]:
    low, high = _array_of(fields, "low"), _array_of(fields, "high")
    # Checked here because Gymnasium's own errors print both arrays, of which NumPy shortens none with short axes.
    if not (low <= high).all() or (low.dtype.kind == "f" and not ((low < np.inf).all() and (high > -np.inf).all())):
        raise ValueError("a Box whose bounds are no numbers, or low ones above high ones")
    return spaces.Box(low, high, shape=low.shape, dtype=low.dtype.type)


def _build_discrete(fields: SpaceData) -> spaces.Space[Any]:
    dtype = simple_dtype(fields["dtype"])
    n, start = np.frombuffer(fields["n"], dtype)[0], np.frombuffer(fields["start"], dtype)[0]
    if n < 1:
        raise ValueError("a Discrete of no elements")
    if not _DISCRETE_TAKES_DTYPE:
        return spaces.Discrete(int(n), start=int(start))
    return spaces.Discrete(n, start=start, dtype=dtype.type)


def _build_multi_discrete(fields: SpaceData) -> spaces.Space[Any]:
    nvec, start = _array_of(fields, "nvec"), _array_of(fields, "start")
    if not (nvec > 0).all():
        raise ValueError("a MultiDiscrete of no elements")
    return spaces.MultiDiscrete(nvec, dtype=nvec.dtype.type, start=start)


def _build_multi_binary(fields: SpaceData) -> spaces.Space[Any]:
    shape = tuple(fields["shape"])
    return spaces.MultiBinary(shape[0] if fields.get("flat") else shape)


def _build_text(fields: SpaceData) -> spaces.Space[Any]:
    return spaces.Text(fields["max_length"], min_length=fields["min_length"], charset=fields["characters"])


def _build_sequence(fields: SpaceData) -> spaces.Space[Any]:
    return spaces.Sequence(_build(fields["feature"]), stack=bool(fields.get("stack")))


def _build_graph(fields: SpaceData) -> spaces.Space[Any]:
    edge = fields.get("edge")
    return spaces.Graph(_build(fields["node"]), None if edge is None else _build(edge))


def _build_one_of(fields: SpaceData) -> spaces.Space[Any]:
    return spaces.OneOf([_build(child) for child in fields.get("spaces", ())])


def _build_tuple(fields: SpaceData) -> spaces.Space[Any]:
    return spaces.Tuple([_build(child) for child in fields.get("spaces", ())])


def _build_dict(fields: SpaceData) -> spaces.Space[Any]:
    children = [_build(child) for child in fields.get("spaces", ())]
    # An OrderedDict keeps the order of the original, whatever its `sort_keys` said.
    space = spaces.Dict(OrderedDict(zip(fields.get("keys", ()), children)))
    if hasattr(space, "sort_keys"):
        space.sort_keys = bool(fields.get("sort_keys"))
    return space


_BUILDERS: dict[str, Callable[[SpaceData], spaces.Space[Any]]] = {
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
