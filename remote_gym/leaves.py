"""No I/O: the one definition of memory layout, a Gymnasium space as ordered fixed-size leaves.

A *leaf* is one array of fixed dtype and shape inside a (possibly nested) space. `Dict` and `Tuple` are nodes,
`Box`, `Discrete`, `MultiDiscrete` and `MultiBinary` are leaves. The order is that of the space: `Dict` in the order
of its keys, depth first. Shared rows (`workers.rows`) and the wire (`wire.frames`) both store leaves in this order,
little-endian and C-contiguous; a batch of n environments prefixes each leaf's shape with n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from remote_gym.errors import MisuseError

Array = npt.NDArray[Any]

MAX_SPACE_DEPTH = 16
"""Nested `Dict`/`Tuple` levels. Real spaces use two or three; bounds recursion on spaces from the network."""


@dataclass(frozen=True)
class Leaf:
    """One fixed-size array inside a space.

    Attributes:
        path: Keys and positions from the root of the space to this leaf; empty for a space that is itself a leaf.
        dtype: Little-endian dtype.
        shape: Shape of one environment's array; ``()`` for `Discrete`.
    """

    path: tuple[str | int, ...]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one environment's array."""
        count = 1
        for size in self.shape:
            count *= size
        return count * self.dtype.itemsize

    def __str__(self) -> str:
        """The path as a user would write it, e.g. ``['camera'][0]``; empty at the root."""
        return "".join(f"[{part!r}]" for part in self.path)


@singledispatch
def leaves_of(space: spaces.Space[Any], path: tuple[str | int, ...] = ()) -> tuple[Leaf, ...]:
    """Return the leaves of `space` in layout order.

    Args:
        space: The space of one environment.
        path: Where `space` sits in its parent; callers leave it out.

    Raises:
        MisuseError: The space, or one nested in it, is of a type that has no fixed-size layout.
    """
    where = "".join(f"[{part!r}]" for part in path)
    raise MisuseError(
        f"the space {type(space).__name__}{f' at {where}' if where else ''} is not supported yet: use Box, Discrete, "
        f"MultiDiscrete, MultiBinary, or Dict and Tuple of these (a wrapper on the server can convert it)"
    )


@leaves_of.register(spaces.Box)
@leaves_of.register(spaces.Discrete)
@leaves_of.register(spaces.MultiDiscrete)
@leaves_of.register(spaces.MultiBinary)
def _(space: spaces.Space[Any], path: tuple[str | int, ...] = ()) -> tuple[Leaf, ...]:
    assert space.dtype is not None and space.shape is not None
    dtype = np.dtype(space.dtype)
    # The very dtype object where it is little-endian already: comparing with it then is an identity check.
    return (Leaf(path, dtype if dtype.newbyteorder("<") == dtype else dtype.newbyteorder("<"), tuple(space.shape)),)


@leaves_of.register(spaces.Dict)
def _(space: spaces.Dict, path: tuple[str | int, ...] = ()) -> tuple[Leaf, ...]:
    _check_depth(path)
    return tuple(leaf for key, child in space.spaces.items() for leaf in leaves_of(child, (*path, key)))


@leaves_of.register(spaces.Tuple)
def _(space: spaces.Tuple[Any], path: tuple[str | int, ...] = ()) -> tuple[Leaf, ...]:
    _check_depth(path)
    return tuple(leaf for position, child in enumerate(space.spaces) for leaf in leaves_of(child, (*path, position)))


def _check_depth(path: tuple[str | int, ...]) -> None:
    if len(path) >= MAX_SPACE_DEPTH:
        raise MisuseError(f"the space is nested deeper than {MAX_SPACE_DEPTH} levels")


Flatten = Callable[[Any], Sequence[Any]]
Unflatten = Callable[[Sequence[Any]], Any]


def flattener(space: spaces.Space[Any]) -> Flatten:
    """Return the function that takes a value of `space` (or a batch of it) apart into leaf order.

    The function raises `MisuseError` naming the field when the value lacks a key or has the wrong length.
    """
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        return lambda value: (value,)
    return lambda value: _flatten(space, value, "")


def _flatten(space: spaces.Space[Any], value: Any, where: str) -> list[Any]:
    if isinstance(space, spaces.Dict):
        try:
            children = [(child, value[key], f"{where}[{key!r}]") for key, child in space.spaces.items()]
        except (KeyError, TypeError, IndexError) as error:
            raise MisuseError(
                f"expected a dict with the keys {list(space.spaces)}{where and ' at ' + where}, got "
                + (f"the keys {list(value)}" if isinstance(value, dict) else type(value).__name__)
            ) from error
    elif isinstance(space, spaces.Tuple):
        if not isinstance(value, (tuple, list)) or len(value) != len(space.spaces):
            got = f"{type(value).__name__}" + (f" of length {len(value)}" if isinstance(value, (tuple, list)) else "")
            raise MisuseError(f"expected a tuple of length {len(space.spaces)}{where and ' at ' + where}, got {got}")
        children = [
            (child, item, f"{where}[{i}]") for i, (child, item) in enumerate(zip(space.spaces, value, strict=True))
        ]
    else:
        return [value]
    return [leaf for child, item, at in children for leaf in _flatten(child, item, at)]


def unflattener(space: spaces.Space[Any]) -> Unflatten:
    """Return the function that puts leaf-ordered values back together: dicts for `Dict`, tuples for `Tuple`."""
    if isinstance(space, (spaces.Dict, spaces.Tuple)):
        return lambda leaves: _unflatten(space, iter(leaves))
    return lambda leaves: leaves[0]


def _unflatten(space: spaces.Space[Any], leaves: Any) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _unflatten(child, leaves) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_unflatten(child, leaves) for child in space.spaces)
    return next(leaves)
