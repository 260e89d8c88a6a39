"""No I/O: values and spaces that travel as their base, which is documented: what of them is the same, and what is not.

An instance of a subclass in an info (an ``IntEnum``, a named tuple) arrives as its base, equal to it; a space that is
none of Gymnasium's own arrives as one of them, which contains what it contains. See `docs/reference/gymnasium-api.md`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces import GraphInstance

_PLAIN: dict[type, Callable[[Any], Any]] = {
    int: int.__int__,
    float: float.__float__,
    complex: lambda value: complex(value.real, value.imag),
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, slice(None)),
    bytearray: lambda value: bytearray(memoryview(value)),
    GraphInstance: lambda value: GraphInstance(*value),
    tuple: tuple,
    list: list,
    OrderedDict: lambda value: OrderedDict(value.items()),
    dict: dict,
    set: set,
    frozenset: frozenset,
    np.ndarray: np.asarray,
}
"""Base -> a plain instance of it; the more special ones first."""


def _base_of(value: Any) -> type | None:
    """Return what an instance of a subclass travels as; None if its type is no subclass of what travels."""
    kind = type(value)
    if kind in _PLAIN or kind is bool or isinstance(value, (np.generic, np.ma.MaskedArray)):
        return None
    return next((base for base in _PLAIN if isinstance(value, base)), None)


def holds_subclass(value: Any) -> bool:
    """Return whether a value, or one in it, travels as its base."""
    if _base_of(value) is not None:
        return True
    if isinstance(value, dict):
        return any(map(holds_subclass, value)) or any(map(holds_subclass, value.values()))
    if isinstance(value, np.ndarray):
        return value.dtype == object and any(map(holds_subclass, value.flat))
    return isinstance(value, (list, tuple, set, frozenset)) and any(map(holds_subclass, value))


def as_carried(value: Any) -> Any:
    """Return `value`, an info or that of a batch, with every instance of a subclass as its base."""
    if not holds_subclass(value):
        return value
    base = _base_of(value)
    if base is not None:
        value = _PLAIN[base](value)
    if isinstance(value, dict):
        return type(value)((as_carried(key), _column(value, key, item)) for key, item in value.items())
    if isinstance(value, GraphInstance):
        return GraphInstance(*map(as_carried, value))
    if isinstance(value, np.ndarray) and value.dtype == object:
        array = np.empty(value.shape, object)
        for index in np.ndindex(value.shape):
            array[index] = as_carried(value[index])
        return array
    if isinstance(value, (list, tuple, set, frozenset)):
        return type(value)(map(as_carried, value))
    return value


def _column(info: dict[Any, Any], key: Any, item: Any) -> Any:
    """Return the values of one key; in a batch plain numbers make an array of numbers, subclasses one of objects."""
    carried, mask = as_carried(item), info.get(f"_{key}")
    if isinstance(item, np.ndarray) and item.dtype == object and isinstance(mask, np.ndarray) and mask.any():
        given = np.flatnonzero(mask)
        kind = type(carried[given[0]])
        if kind in (int, float) and holds_subclass(item[given[0]]):
            numbers = np.zeros(len(carried), kind)
            numbers[given] = carried[given]
            return numbers
    return carried


def carries(remote: Any, local: Any) -> bool:
    """Return whether `remote` is what `local`, a space that is none of Gymnasium's own or holds such, travels as."""
    if type(remote) is type(local) and remote == local:
        return True
    if isinstance(local, spaces.Dict) and type(local) is type(remote):
        pairs = [(remote.spaces.get(key), child) for key, child in local.spaces.items()]
        return list(remote.spaces) == list(local.spaces) and all(carries(*pair) for pair in pairs)
    if isinstance(local, spaces.Tuple) and type(local) is type(remote):
        pairs = list(zip(remote.spaces, local.spaces))  # noqa: B905 - of the same length, or not the same
        return len(remote.spaces) == len(local.spaces) and all(carries(*pair) for pair in pairs)
    if _is_gymnasiums(type(local)):
        return False
    base = next((kind for kind in type(local).__mro__ if _is_gymnasiums(kind)), spaces.Space)
    if base is not spaces.Space:
        equal: Any = base.__eq__  # not that of the subclass, which may say no
        return type(remote) is base and bool(equal(remote, local))
    own = deepcopy(local)
    return all(remote.contains(own.sample()) for _ in range(5))


def _is_gymnasiums(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "gymnasium"
