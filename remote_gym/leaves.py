"""No I/O: the one definition of memory layout, a Gymnasium space as ordered leaves.

A *leaf* is one array of fixed dtype and shape inside a (possibly nested) space. `Dict` and `Tuple` are nodes,
`Box`, `Discrete`, `MultiDiscrete` and `MultiBinary` are leaves. The order is that of the space: `Dict` in the order
of its keys, depth first. Shared rows (`ipc.rows`) and the wire (`wire.frames`) both store leaves in this order,
little-endian and C-contiguous; a batch of n environments prefixes each leaf's shape with n.

`Text`, `Sequence`, `Graph` and `OneOf` have elements of no fixed size: they are *variable leaves*, which travel as
values, one per environment. A batch of one is a tuple of n elements, as in Gymnasium's vector environments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Callable, Tuple

import numpy as np
import numpy.typing as npt

from remote_gym.errors import MisuseError

if TYPE_CHECKING:
    from remote_gym.gym import Space

Array = npt.NDArray[Any]

MAX_SPACE_DEPTH = 16
"""Nested levels of any kind. Real spaces use two or three; bounds recursion on spaces from the network."""


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


@dataclass(frozen=True)
class VariableLeaf:
    """A subspace whose elements have no fixed size.

    Attributes:
        path: As in `Leaf`.
        space: The subspace.
    """

    path: tuple[str | int, ...]
    space: Space[Any]

    def __str__(self) -> str:
        """The path as a user would write it; empty at the root."""
        return "".join(f"[{part!r}]" for part in self.path)


def leaves_of(space: Space[Any]) -> tuple[Leaf, ...]:
    """Return the fixed-size leaves of `space` in layout order.

    Raises:
        MisuseError: The space, or one nested in it, is a custom one, or it is nested too deeply.
    """
    return tuple(leaf for leaf in _every_leaf(space, ()) if isinstance(leaf, Leaf))


def variable_leaves_of(space: Space[Any]) -> tuple[VariableLeaf, ...]:
    """Return the variable leaves of `space` in layout order; raises like `leaves_of`."""
    return tuple(leaf for leaf in _every_leaf(space, ()) if isinstance(leaf, VariableLeaf))


KINDS = frozenset(
    {"Box", "Discrete", "MultiDiscrete", "MultiBinary", "Text", "Sequence", "Graph", "OneOf", "Dict", "Tuple"}
)
"""The kinds of spaces that are known: Gymnasium's classes, by name."""

_FIXED = frozenset({"Box", "Discrete", "MultiDiscrete", "MultiBinary"})
_PACKAGES = frozenset({"gymnasium", "gym"})


@lru_cache(maxsize=None)
def _kind_of_class(space_class: type) -> str:
    for base in space_class.__mro__:
        if base.__name__ in KINDS and base.__module__.partition(".")[0] in _PACKAGES:
            return base.__name__
    return ""


def kind_of(space: Any) -> str:
    """Return the name of the class of Gymnasium's that `space` is, or inherits from; empty for a custom space.

    By name, so that a worker's Gymnasium may be another one than the server's.
    """
    space_class: Any = type(space)
    return _kind_of_class(space_class)


def _every_leaf(space: Any, path: tuple[str | int, ...]) -> tuple[Leaf | VariableLeaf, ...]:
    kind = kind_of(space)
    if kind in _FIXED:
        dtype = np.dtype(space.dtype)
        # The very dtype object where it is little-endian already: comparing with it then is an identity check.
        return (Leaf(path, dtype if dtype.newbyteorder("<") == dtype else dtype.newbyteorder("<"), tuple(space.shape)),)
    if kind == "Dict":
        _check_depth(path)
        return tuple(leaf for key, child in space.spaces.items() for leaf in _every_leaf(child, (*path, key)))
    if kind == "Tuple":
        _check_depth(path)
        return tuple(leaf for at, child in enumerate(space.spaces) for leaf in _every_leaf(child, (*path, at)))
    if kind:
        return (VariableLeaf(path, space),)
    raise MisuseError(refusal_of(space, "".join(f"[{part!r}]" for part in path)))


def refusal_of(space: Any, where: str) -> str:
    """Return that a custom space, at the path `where`, cannot travel, and what to do."""
    name = type(space).__qualname__
    return (
        f"the space {type(space).__module__}.{name}{where and ' at ' + where} is a custom one and cannot travel: say "
        f"what it travels as by remote_gym.register_space({name}, to_portable) where the environment is made, or wrap "
        f"the environment there so that its spaces are Gymnasium's own"
    )


def _check_depth(path: tuple[str | int, ...]) -> None:
    if len(path) >= MAX_SPACE_DEPTH:
        raise MisuseError(f"the space is nested deeper than {MAX_SPACE_DEPTH} levels")


def space_at(space: Space[Any], leaf: Leaf) -> Space[Any]:
    """Return the subspace that `leaf` lays out."""
    for part in leaf.path:
        space = space.spaces[part]  # type: ignore[attr-defined]
    return space


Parts = Tuple["Sequence[Any]", "Sequence[Any]"]
"""The fixed-size parts of a value (or batch) in layout order, and the variable ones."""

Flatten = Callable[[Any], Parts]
Unflatten = Callable[["Sequence[Any]", "Sequence[Any]"], Any]


def is_one_array(space: Space[Any]) -> bool:
    """Return whether an element of `space` is the array of its only leaf, with nothing around it."""
    return kind_of(space) not in ("Dict", "Tuple") and isinstance(_every_leaf(space, ())[0], Leaf)


def flattener(space: Space[Any]) -> Flatten:
    """Return the function that takes a value of `space` (or a batch of it) apart.

    The function raises `MisuseError` naming the field when the value lacks a key or has the wrong length.
    """
    if kind_of(space) not in ("Dict", "Tuple"):
        fixed = isinstance(_every_leaf(space, ())[0], Leaf)
        return (lambda value: ((value,), ())) if fixed else (lambda value: ((), (value,)))
    is_fixed = [isinstance(leaf, Leaf) for leaf in _every_leaf(space, ())]
    if all(is_fixed):
        return lambda value: (_flatten(space, value, ""), ())

    def flatten(value: Any) -> Parts:
        parts = _flatten(space, value, "")
        return (
            [part for part, fixed in zip(parts, is_fixed) if fixed],
            [part for part, fixed in zip(parts, is_fixed) if not fixed],
        )

    return flatten


def _flatten(space: Any, value: Any, where: str) -> list[Any]:
    kind = kind_of(space)
    if kind == "Dict":
        try:
            children = [(child, value[key], f"{where}[{key!r}]") for key, child in space.spaces.items()]
        except (KeyError, TypeError, IndexError) as error:
            raise MisuseError(
                f"expected a dict with the keys {list(space.spaces)}{where and ' at ' + where}, got "
                + (f"the keys {list(value)}" if isinstance(value, dict) else type(value).__name__)
            ) from error
    elif kind == "Tuple":
        if not isinstance(value, (tuple, list)) or len(value) != len(space.spaces):
            got = f"{type(value).__name__}" + (f" of length {len(value)}" if isinstance(value, (tuple, list)) else "")
            raise MisuseError(f"expected a tuple of length {len(space.spaces)}{where and ' at ' + where}, got {got}")
        children = [(child, item, f"{where}[{i}]") for i, (child, item) in enumerate(zip(space.spaces, value))]
    else:
        return [value]
    return [leaf for child, item, at in children for leaf in _flatten(child, item, at)]


def unflattener(space: Space[Any]) -> Unflatten:
    """Return the function that puts fixed and variable parts together: dicts for `Dict`, tuples for `Tuple`."""
    if kind_of(space) not in ("Dict", "Tuple"):
        return lambda fixed, variable: fixed[0] if fixed else variable[0]
    is_fixed = [isinstance(leaf, Leaf) for leaf in _every_leaf(space, ())]
    if all(is_fixed):
        return lambda fixed, _variable: _unflatten(space, iter(fixed))

    def unflatten(fixed: Sequence[Any], variable: Sequence[Any]) -> Any:
        rest = iter(fixed), iter(variable)
        return _unflatten(space, iter([next(rest[0] if one else rest[1]) for one in is_fixed]))

    return unflatten


def _unflatten(space: Any, parts: Iterator[Any]) -> Any:
    kind = kind_of(space)
    if kind == "Dict":
        return {key: _unflatten(child, parts) for key, child in space.spaces.items()}
    if kind == "Tuple":
        return tuple(_unflatten(child, parts) for child in space.spaces)
    return next(parts)


DTYPES: dict[int, np.dtype[Any]] = dict(
    enumerate(map(np.dtype, ("?", "<i1", "<i2", "<i4", "<i8", "<u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8")), 1)
)
"""By its code: the dtype of an action leaf, where it is not the space's; for that the code is 0."""

DTYPE_CODES = {dtype.str: code for code, dtype in DTYPES.items()}
"""The code of a dtype, by NumPy's name for it."""


def of_dtypes(leaves: Sequence[Leaf], codes: bytes) -> list[Leaf]:
    """Return the leaves with the dtypes that `codes`, one each, stand for; raises KeyError if one stands for none."""
    return [Leaf(leaf.path, DTYPES[code], leaf.shape) if code else leaf for leaf, code in zip(leaves, codes)]


def rows_at(indices: Sequence[int]) -> Any:
    """Return env indices as an index into arrays of rows: a slice, which copies nothing, where they are consecutive."""
    if isinstance(indices, range):
        return slice(indices.start, indices.stop)
    consecutive = range(indices[0], indices[0] + len(indices))
    return slice(consecutive.start, consecutive.stop) if indices == list(consecutive) else list(indices)
