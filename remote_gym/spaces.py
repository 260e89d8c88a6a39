"""No I/O: Gymnasium spaces <-> plain data: dicts, lists, bytes, with the fields of `space.proto`.

A worker imports no protobuf, so it describes its spaces as data; the server and the client turn that data into the
protobuf message and back by field name (`wire.spaces`). Rebuilt spaces are equal (``==``) to the originals, keep the
order of their keys, and sample the same sequence from the same seed; one that was seeded goes on sampling where the
original is, for the state of its generator travels along. Custom spaces travel as what is registered for them
(`custom_spaces`), instances of subclasses as the space of Gymnasium's that they inherit from.

A few bytes can describe a space of terabytes, so a description is examined as a whole, in Python's ints, before NumPy
or Gymnasium see any of it (`space_checks`). The same examination ends `describe`: what is described can be built.
"""

from __future__ import annotations

import inspect
import operator
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Callable, Dict, Tuple

import numpy as np

from remote_gym import gym as spaces
from remote_gym.custom_spaces import is_registered, name_of, portable, registered_as, restored
from remote_gym.errors import MisuseError
from remote_gym.leaves import MAX_SPACE_DEPTH, kind_of, refusal_of
from remote_gym.space_checks import GENERATOR_BYTES, examine, keys_in, kind_in, said_by
from remote_gym.texts import printable, shortened
from remote_gym.values import simple_dtype

SpaceData = Dict[str, Any]

# Keyword arguments that Gymnasium added after 1.1; passed on only where the installed version takes them.
_DISCRETE_TAKES_DTYPE = "dtype" in inspect.signature(spaces.Discrete.__init__).parameters


Seen = Dict[int, Tuple[int, np.random.Generator]]
"""By id, the number of each generator of a description, and itself: an id holds as long as its object lives."""


def describe(space: spaces.Space[Any], generators: bool = True) -> SpaceData:
    """Return `space` as plain data: the kind, whose value holds the fields, and what else the message `Space` has.

    Args:
        space: Any; it is not changed, and no generator is made for it.
        generators: Whether the states of its generators are wanted. Without them equal spaces have equal descriptions.

    Raises:
        MisuseError: The space is of a type that Gymnasium does not define and nobody has registered, too large, nested
            too deeply, has keys that are neither all str nor all int, or has text that UTF-8 cannot carry.
    """
    try:
        data = _describe(space, {} if generators else None)
    except RecursionError:
        raise MisuseError(f"the space is nested deeper than {MAX_SPACE_DEPTH} levels") from None
    try:
        examine(data)
    except MisuseError as error:
        raise MisuseError(f"the {type(space).__qualname__} space cannot travel: {error}") from error
    return data


def _describe(space: Any, seen: Seen | None) -> SpaceData:
    kind = kind_of(space)
    if kind and type(space) is getattr(spaces, kind):
        data = _DESCRIBERS[kind](space, seen)
    else:
        data = _describe_custom(space, kind, seen)
    generator = None if seen is None else _describe_generator(getattr(space, "_np_random", None), seen)
    return data if generator is None else {**data, "generator": generator}


def _describe_custom(space: Any, kind: str, seen: Seen | None) -> SpaceData:
    name = registered_as(type(space))
    if name:
        return {**_describe(portable(space, name), seen), "type": name, "by_base": False}
    if not kind:
        raise MisuseError(refusal_of(space, ""))
    # It may override `sample`, but its elements are laid out like those of its base: the client is told.
    return {**_DESCRIBERS[kind](space, seen), "type": name_of(type(space)), "by_base": True}


def _describe_generator(generator: Any, seen: Seen) -> SpaceData | None:
    if not isinstance(generator, np.random.Generator) or type(generator.bit_generator) is not np.random.PCG64:
        return None
    number, _ = seen.setdefault(id(generator), (len(seen) + 1, generator))
    state: Any = generator.bit_generator.state
    return {
        "state": state["state"]["state"].to_bytes(GENERATOR_BYTES, "little"),
        "increment": state["state"]["inc"].to_bytes(GENERATOR_BYTES, "little"),
        "has_uint32": bool(state["has_uint32"]),
        "uinteger": int(state["uinteger"]),
        "number": number,
    }


def _array(values: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> bytes:
    """Little-endian bytes of `values`; one element stands for all when they are equal."""
    flat = np.ascontiguousarray(values, dtype=dtype.newbyteorder("<")).reshape(-1)
    if flat.size > 1:
        # Every byte equals the one of the element before it: as bytes, since -0.0 equals 0.0 and a NaN not itself.
        each, step = flat.view(np.uint8), flat.itemsize
        if np.array_equal(each[:step], each[-step:]) and np.array_equal(each[step:], each[:-step]):
            flat = flat[:1]
    return flat.tobytes()


def _describe_box(space: spaces.Box[Any], _seen: Seen | None) -> SpaceData:
    dtype = np.dtype(space.dtype).newbyteorder("<")
    low, high = _array(space.low, dtype), _array(space.high, dtype)
    fields = {"dtype": dtype.str, "shape": list(space.shape), "low": low, "high": high}
    if dtype.kind in "iu":
        for field, bounded in (("unbounded_below", space.bounded_below), ("unbounded_above", space.bounded_above)):
            if not bounded.all():
                fields[field] = _array(~bounded, np.dtype(np.bool_))
    return {"box": fields}


def _describe_discrete(space: spaces.Discrete[Any], _seen: Seen | None) -> SpaceData:
    # uint64 counts do not fit a signed field: both travel as the bytes of the space's own dtype.
    dtype = np.dtype(space.dtype).newbyteorder("<")
    return {"discrete": {"dtype": dtype.str, "n": _scalar(space.n, dtype), "start": _scalar(space.start, dtype)}}


def _scalar(value: Any, dtype: np.dtype[Any]) -> bytes:
    return np.asarray(value, dtype=dtype.newbyteorder("<")).tobytes()


def _describe_multi_discrete(space: spaces.MultiDiscrete[Any], _seen: Seen | None) -> SpaceData:
    dtype = np.dtype(space.dtype).newbyteorder("<")
    nvec, start = _array(space.nvec, dtype), _array(space.start, dtype)
    return {"multi_discrete": {"dtype": dtype.str, "shape": list(space.nvec.shape), "nvec": nvec, "start": start}}


def _describe_multi_binary(space: spaces.MultiBinary, _seen: Seen | None) -> SpaceData:
    return {"multi_binary": {"shape": list(space.shape), "flat": isinstance(space.n, int)}}


def _describe_text(space: spaces.Text, _seen: Seen | None) -> SpaceData:
    characters = "".join(space.character_list)
    return {"text": {"min_length": space.min_length, "max_length": space.max_length, "characters": characters}}


def _describe_sequence(space: spaces.Sequence, seen: Seen | None) -> SpaceData:
    return {"sequence": {"feature": _describe(space.feature_space, seen), "stack": space.stack}}


def _describe_graph(space: spaces.Graph, seen: Seen | None) -> SpaceData:
    edge = {} if space.edge_space is None else {"edge": _describe(space.edge_space, seen)}
    return {"graph": {"node": _describe(space.node_space, seen), **edge}}


def _describe_one_of(space: spaces.OneOf[Any], seen: Seen | None) -> SpaceData:
    return {"one_of": {"spaces": [_describe(child, seen) for child in space.spaces]}}


def _describe_tuple(space: spaces.Tuple[Any], seen: Seen | None) -> SpaceData:
    return {"tuple": {"spaces": [_describe(child, seen) for child in space.spaces]}}


def _describe_dict(space: spaces.Dict, seen: Seen | None) -> SpaceData:
    return {
        "dict": {
            **_describe_keys(list(space.spaces)),
            "spaces": [_describe(child, seen) for child in space.spaces.values()],
            "sort_keys": bool(getattr(space, "sort_keys", True)),
        }
    }


def _describe_keys(keys: list[Any]) -> SpaceData:
    """Keys of one kind: Gymnasium sorts them, and cannot compare others. Instances of subclasses equal their base."""
    if all(isinstance(key, str) for key in keys):
        return {"keys": [str.__str__(key) for key in keys]}
    if all(isinstance(key, (int, np.integer)) for key in keys):
        numbers = [operator.index(key) for key in keys]
        wide = [number for number in numbers if not -(2**63) <= number < 2**63]
        if not wide:
            return {"numbers": numbers}
        raise MisuseError(f"the Dict space has the key {shortened(hex(wide[0]), 120)}: an int of more than 64 bits")
    said = ", ".join(shortened(repr(key), 120) for key in keys[:8])
    raise MisuseError(f"the Dict space has the keys {said}: only keys that are all str, or all int, can travel")


_DESCRIBERS: dict[str, Callable[[Any, Any], SpaceData]] = {
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


def build(data: SpaceData, custom: bool = False) -> spaces.Space[Any]:
    """Return the space that `data` describes; the inverse of `describe`.

    Args:
        data: A description, by anyone.
        custom: Build custom spaces back that this process has registered; otherwise all are Gymnasium's own.

    Raises:
        MisuseError: The description is malformed, of an unknown kind, or beyond a limit of `space_checks`; or a
            registered function raised.
    """
    examine(data)
    try:
        return _build(data, _Making(custom))
    except MisuseError:
        raise
    except Exception as error:  # what Gymnasium and NumPy refuse, and warnings that the user made errors
        raise MisuseError(f"malformed space description: {said_by(error)}") from error


class _Making:
    """What holds for all spaces of one description."""

    def __init__(self, custom: bool) -> None:
        self.custom = custom
        self._generators: dict[int, np.random.Generator] = {}

    def generator(self, fields: SpaceData) -> np.random.Generator:
        """The generator of this state; the same one where several spaces share it."""
        number = fields.get("number", 0)
        if number not in self._generators:
            bits = np.random.PCG64(0)
            state: Any = {
                "bit_generator": "PCG64",
                "state": {name: int.from_bytes(fields[field], "little") for name, field in _STATE},
                "has_uint32": int(fields.get("has_uint32", False)),
                "uinteger": fields.get("uinteger", 0),
            }
            bits.state = state
            generator = np.random.Generator(bits)
            if not number:
                return generator
            self._generators[number] = generator
        return self._generators[number]


_STATE = (("state", "state"), ("inc", "increment"))


def _build(data: SpaceData, making: _Making) -> spaces.Space[Any]:
    kind = kind_in(data)
    space = _BUILDERS[kind](data[kind], making)
    if making.custom and data.get("type"):
        space = restored(space, data["type"])
    if data.get("generator") is not None:
        space._np_random = making.generator(data["generator"])
    return space


def is_custom(data: SpaceData) -> bool:
    """Return whether a description holds a space that is none of Gymnasium's own."""
    return any(said.get("type") for said in _all(data))


def bases_assumed(data: SpaceData) -> list[str]:
    """Return what to tell the user of spaces that are here what their class inherits from, and nobody has said so."""
    return sorted(
        {
            f"{printable(said['type'])} is a {kind_in(said).title().replace('_', '')} here"
            for said in _all(data)
            if said.get("by_base") and said.get("type") and not is_registered(said["type"])
        }
    )


def _all(data: SpaceData) -> Iterator[SpaceData]:
    """Yield a description and those nested in it, which `examine` has bounded."""
    yield data
    fields = data[kind_in(data)]
    for child in [*fields.get("spaces", ()), *(fields.get(name) for name in ("feature", "node", "edge"))]:
        if child is not None:
            yield from _all(child)


def _array_of(fields: SpaceData, field: str) -> np.ndarray[Any, Any]:
    """An array of the space's shape, or without one: an element that stands for all, however many."""
    dtype = simple_dtype(fields["dtype"])
    flat = np.frombuffer(fields[field], dtype) if fields[field] else np.empty(0, dtype)
    if dtype.kind == "b" and flat.view(np.uint8).max(initial=0) > 1:
        raise ValueError("a bool that is neither 0 nor 1")
    return flat.reshape(()) if flat.size == 1 else flat.reshape(fields["shape"]).copy()


def _build_box(fields: SpaceData, _making: _Making) -> spaces.Space[Any]:
    low, high = _array_of(fields, "low"), _array_of(fields, "high")
    # Checked here because Gymnasium's own errors print both arrays, of which NumPy shortens none with short axes.
    if not (low <= high).all() or (low.dtype.kind == "f" and not ((low < np.inf).all() and (high > -np.inf).all())):
        raise ValueError("a Box whose bounds are no numbers, or low ones above high ones")
    # Gymnasium looks at arrays ten times, and at numbers once: seconds where the frames of many cameras are one Box.
    bounds: Any = [bound if bound.ndim else _number(bound) for bound in (low, high)]
    space: spaces.Box[Any]
    space = spaces.Box(bounds[0], bounds[1], shape=tuple(fields["shape"]), dtype=low.dtype.type)
    for field, bounded in (("unbounded_below", space.bounded_below), ("unbounded_above", space.bounded_above)):
        if fields.get(field):
            unbounded = np.frombuffer(fields[field], np.bool_)
            bounded[...] = ~unbounded if unbounded.size == 1 else ~unbounded.reshape(bounded.shape)
    return space


def _number(value: np.ndarray[Any, Any]) -> Any:
    return int(value) if value.dtype.kind == "b" else value[()]  # Gymnasium takes a bool for no number


def _build_discrete(fields: SpaceData, _making: _Making) -> spaces.Space[Any]:
    dtype = simple_dtype(fields["dtype"])
    n, start = np.frombuffer(fields["n"], dtype)[0], np.frombuffer(fields["start"], dtype)[0]
    if n < 1:
        raise ValueError("a Discrete of no elements")
    if not _DISCRETE_TAKES_DTYPE:
        return spaces.Discrete(int(n), start=int(start))
    return spaces.Discrete(n, start=start, dtype=dtype.type)


def _build_multi_discrete(fields: SpaceData, _making: _Making) -> spaces.Space[Any]:
    nvec, start = (np.broadcast_to(_array_of(fields, name), fields["shape"]) for name in ("nvec", "start"))
    if not (nvec > 0).all():
        raise ValueError("a MultiDiscrete of no elements")
    return spaces.MultiDiscrete(nvec, dtype=nvec.dtype.type, start=start)


def _build_multi_binary(fields: SpaceData, _making: _Making) -> spaces.Space[Any]:
    shape = tuple(fields["shape"])
    return spaces.MultiBinary(shape[0] if fields.get("flat") else shape)


def _build_text(fields: SpaceData, _making: _Making) -> spaces.Space[Any]:
    return spaces.Text(fields["max_length"], min_length=fields["min_length"], charset=fields["characters"])


def _build_sequence(fields: SpaceData, making: _Making) -> spaces.Space[Any]:
    return spaces.Sequence(_build(fields["feature"], making), stack=bool(fields.get("stack")))


def _build_graph(fields: SpaceData, making: _Making) -> spaces.Space[Any]:
    edge = fields.get("edge")
    return spaces.Graph(_build(fields["node"], making), None if edge is None else _build(edge, making))


def _build_one_of(fields: SpaceData, making: _Making) -> spaces.Space[Any]:
    return spaces.OneOf([_build(child, making) for child in fields.get("spaces", ())])


def _build_tuple(fields: SpaceData, making: _Making) -> spaces.Space[Any]:
    return spaces.Tuple([_build(child, making) for child in fields.get("spaces", ())])


def _build_dict(fields: SpaceData, making: _Making) -> spaces.Space[Any]:
    children = [_build(child, making) for child in fields.get("spaces", ())]
    # An OrderedDict keeps the order of the original, whatever its `sort_keys` said.
    space = spaces.Dict(OrderedDict(zip(keys_in(fields), children)))
    if hasattr(space, "sort_keys"):
        space.sort_keys = bool(fields.get("sort_keys"))
    return space


_BUILDERS: dict[str, Callable[[SpaceData, _Making], spaces.Space[Any]]] = {
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
