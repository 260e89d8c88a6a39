"""No I/O: what an instance of a subclass travels as: the nearest base that the format knows.

An ``IntEnum`` equals its int, a named tuple its tuple, a ``defaultdict`` its dict: the base says the same, and only
names and methods are lost. A plain ``Enum`` equals nothing but itself, and a masked array without its mask says
something else: neither has a base here. Only methods of the bases are called, so that no override changes the value.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

from remote_gym.gym import GraphInstance
from remote_gym.values.scalars import NUMBER_SCALARS, OTHER_SCALARS

_ALL = slice(None)


def _numpy_scalar(value: np.generic) -> Any:
    return np.asarray(value)[()]


def _void(value: np.void) -> Any:
    """An ``np.record`` as an ``np.void``: its dtype names the type as well."""
    return np.asarray(value).view(np.dtype((np.void, value.dtype)))[()]


_BASES: dict[type, Callable[[Any], Any]] = {
    int: int.__pos__,
    float: float.__pos__,
    complex: complex.__pos__,
    str: str.__str__,
    bytes: lambda value: bytes.__getitem__(value, _ALL),
    bytearray: lambda value: bytearray(memoryview(value)),
    tuple: lambda value: tuple.__getitem__(value, _ALL),
    list: lambda value: list.__getitem__(value, _ALL),
    dict: dict.copy,
    OrderedDict: lambda value: OrderedDict(OrderedDict.items(value)),
    set: lambda value: set().union(value),
    frozenset: lambda value: frozenset().union(value),
    GraphInstance: lambda value: GraphInstance(*tuple.__getitem__(value, _ALL)),
    **dict.fromkeys((*NUMBER_SCALARS, *OTHER_SCALARS, np.str_, np.bytes_), _numpy_scalar),
    np.void: _void,
    np.ndarray: np.asarray,
}
"""Base -> the base's own instance out of one of a subclass."""

_MORE_THAN_THEIR_BASE = (np.ma.MaskedArray,)


@functools.lru_cache(maxsize=256)
def base_of(kind: type) -> type | None:
    """Return the nearest base of `kind` that travels; None if there is none, or it would not say the same."""
    if issubclass(kind, _MORE_THAN_THEIR_BASE):
        return None
    return next((base for base in kind.__mro__ if base in _BASES), None)


def as_base(value: Any, base: type) -> Any:
    """Return what `value` says, as an instance of `base` itself."""
    return _BASES[base](value)


def told(kind: type) -> str:
    """Return how to tell users of an instance of the subclass `kind`."""
    base = base_of(kind)
    return f"{kind.__module__}.{kind.__qualname__} travels as {'nothing' if base is None else base.__name__}"
