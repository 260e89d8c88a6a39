"""No I/O: sameness without tolerance. Equal bits, types, dtypes, shapes and keys; where it is not so, where and how.

The order of keys does not count, but for an `OrderedDict`; `disorder` tells of it. Every NaN equals every other, 0.0
does not equal -0.0.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any, Literal, NamedTuple

import numpy as np

Kind = Literal["type", "keys", "length", "dtype", "shape", "value", "order"]
"""What differs. Only where everything before it in this list is equal can a later one differ."""

SHOWN = 160
"""Characters of a value in a message."""


class Key(NamedTuple):
    """A part of a path that is a key of a dict or the name of a field; other parts are positions."""

    name: Any


Path = tuple["Key | int", ...]


@dataclass(frozen=True)
class Difference:
    """The first difference of two values.

    Attributes:
        kind: What differs.
        path: Keys and positions from the values' root to where they differ.
        remote: What the remote value has there: for ``"keys"`` its keys, for ``"dtype"`` its dtype, and so on; for
            ``"type"`` and ``"value"`` the value itself.
        local: The same of the local one.
    """

    kind: Kind
    path: Path
    remote: Any
    local: Any

    @property
    def where(self) -> str:
        """The path as a user would write it, e.g. ``['camera'][2][0]``."""
        return "".join(f"[{part.name!r}]" if isinstance(part, Key) else f"[{part}]" for part in self.path)

    def below(self, *parts: Key | int) -> Difference:
        """Return the same difference, of values that hold the ones it was found in at `parts`."""
        return replace(self, path=(*parts, *self.path))

    def __str__(self) -> str:
        """Return all of it in one line."""
        return f"{self.where or 'value'}: {self.show_remote()} is not {self.show_local()}"

    def show_remote(self) -> str:
        """Return the remote side for a message."""
        return self._show(self.remote)

    def show_local(self) -> str:
        """Return the local side for a message."""
        return self._show(self.local)

    def _show(self, side: Any) -> str:
        return f"{show(side)} ({type(side).__name__ if self.kind in ('type', 'value') else self.kind})"


def show(value: Any) -> str:
    """Return `value` in one line for a message, shortened."""
    if isinstance(value, np.ndarray):
        text = f"{value.dtype}{value.shape} {np.array2string(value, threshold=8, edgeitems=2)}"
    else:
        text = repr(value)
    text = " ".join(text.split())
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def difference(remote: Any, local: Any) -> Difference | None:
    """Return the first difference of two values, None if there is none.

    Args:
        remote: Any value: Python and NumPy scalars, strings, arrays of any dtype, dicts, lists, tuples, sets.
        local: What it must be the same as.
    """
    if type(remote) is not type(local):
        return Difference("type", (), remote, local)
    return _compare(local, remote)


def disorder(remote: Any, local: Any) -> Difference | None:
    """Return the first dict whose keys come in another order, of two values in which nothing else differs."""
    if isinstance(local, dict):
        if list(remote) != list(local):
            return Difference("order", (), list(remote), list(local))
        parts: list[tuple[Key | int, Any, Any]] = [(Key(key), remote[key], local[key]) for key in local]
    elif isinstance(local, (list, tuple)):
        parts = [(at, *pair) for at, pair in enumerate(zip(remote, local, strict=True))]
    else:
        return None
    found = ((part, disorder(*pair)) for part, *pair in parts)
    return next((one.below(part) for part, one in found if one is not None), None)


@singledispatch
def _compare(local: Any, remote: Any) -> Difference | None:
    """Compare values of the same type."""
    return None if remote == local else Difference("value", (), remote, local)


def _first(pairs: Iterable[tuple[Key | int, Any, Any]]) -> Difference | None:
    for part, remote, local in pairs:
        found = difference(remote, local)
        if found is not None:
            return found.below(part)
    return None


@_compare.register(dict)
def _(local: dict[Any, Any], remote: dict[Any, Any]) -> Difference | None:
    # With their types: 1, True and 1.0 are one key to a dict.
    ours, theirs = ([(type(key), key) for key in each] for each in (remote, local))
    if (isinstance(local, OrderedDict) and ours != theirs) or set(ours) != set(theirs):
        return Difference("keys", (), list(remote), list(local))
    return _first((Key(key), remote[key], local[key]) for key in local)


@_compare.register(list)
@_compare.register(tuple)
def _(local: list[Any] | tuple[Any, ...], remote: list[Any] | tuple[Any, ...]) -> Difference | None:
    if len(remote) != len(local):
        return Difference("length", (), len(remote), len(local))
    names = getattr(local, "_fields", None)  # of a named tuple: a graph
    parts: Iterable[Key | int] = range(len(local)) if names is None else map(Key, names)
    return _first(zip(parts, remote, local, strict=True))


@_compare.register(set)
@_compare.register(frozenset)
def _(local: Any, remote: Any) -> Difference | None:
    same = Counter((type(item), item) for item in remote) == Counter((type(item), item) for item in local)
    return None if same else Difference("value", (), remote, local)


@_compare.register(float)
@_compare.register(complex)
def _(local: float | complex, remote: float | complex) -> Difference | None:
    # `float` has a subclass in NumPy, whose dtype is compared by its type already.
    return None if _same_numbers(np.asarray(remote), np.asarray(local)).all() else _value((), remote, local)


@_compare.register(np.generic)
def _(local: np.generic, remote: np.generic) -> Difference | None:
    found = _compare_arrays(np.asarray(local), np.asarray(remote))
    return found if found is None or found.kind != "value" else _value((), remote, local)


@_compare.register(np.ndarray)
def _compare_arrays(local: np.ndarray[Any, Any], remote: np.ndarray[Any, Any]) -> Difference | None:
    if remote.dtype != local.dtype:
        return Difference("dtype", (), remote.dtype, local.dtype)
    if remote.shape != local.shape:
        return Difference("shape", (), remote.shape, local.shape)
    if local.dtype == object:
        return _first_object(local, remote)
    same = _same_numbers(remote, local)
    if same.all():
        return None
    index = tuple(int(position) for position in np.argwhere(~same)[0])
    return _value(index, remote[index], local[index])


def _first_object(local: np.ndarray[Any, Any], remote: np.ndarray[Any, Any]) -> Difference | None:
    for index in np.ndindex(local.shape):
        found = difference(remote[index], local[index])
        if found is not None:
            return found.below(*index)
    return None


def _value(path: tuple[int, ...], remote: Any, local: Any) -> Difference:
    return Difference("value", path, remote, local)


def _same_numbers(remote: np.ndarray[Any, Any], local: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return element by element whether two arrays of the same dtype and shape are the same."""
    kind = local.dtype.kind
    if kind == "c":
        return np.asarray(_same_numbers(remote.real, local.real) & _same_numbers(remote.imag, local.imag))
    if kind == "f":  # not the bytes: of a long double, some are padding
        same = (remote == local) & (np.signbit(remote) == np.signbit(local))
        return np.asarray(same | (np.isnan(remote) & np.isnan(local)))
    if kind in "mM":
        return np.asarray((remote == local) | (np.isnat(remote) & np.isnat(local)))
    if local.dtype.names is not None:
        fields = [_same_numbers(remote[name], local[name]) for name in local.dtype.names]
        per_row = [field.reshape(*local.shape, -1).all(axis=-1) for field in fields]
        return np.asarray(np.logical_and.reduce(per_row) if per_row else np.ones(local.shape, np.bool_))
    return np.asarray(remote == local)
