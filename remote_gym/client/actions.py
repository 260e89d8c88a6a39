"""Trainer process: what the caller passes as actions -> packed rows, or an error that names the environment and field.

Everything is checked before anything is sent. Numbers that cast `same_kind` to the space's dtype are cast; wrong
counts, shapes and kinds are refused; values are only looked at with `validate`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.errors import MisuseError, also
from remote_gym.leaves import Array, Leaf, flattener, is_one_array, leaves_of, space_at, variable_leaves_of


class ActionEncoder:
    """Encodes batches of actions of one space: packed rows, and the packed elements of variable leaves."""

    def __init__(self, space: spaces.Space[Any], validate: bool) -> None:
        """Prepare for actions of `space`, the space of a single environment."""
        self._leaves = leaves_of(space)
        self._variable = variable_leaves_of(space)
        self._flatten = None if is_one_array(space) else flattener(space)
        self._validate = validate
        self._checks: list[tuple[Leaf, Callable[[Array], Array]]] = (
            [(leaf, _in_bounds(space_at(space, leaf))) for leaf in self._leaves] if validate else []
        )

    def encode(self, actions: Any, indices: Sequence[int]) -> tuple[list[Array], bytes]:
        """Return one array per fixed-size leaf, and the packed variable elements (empty where there are none).

        Args:
            actions: A batch in the structure of the space: arrays, or lists, whose first axis runs over environments;
                for `Text`, `Sequence`, `Graph` and `OneOf` a tuple or list of one element per environment.
            indices: The env indices the rows belong to, for messages.

        Raises:
            MisuseError: Names the environment and field. Also a `TypeError` or `KeyError` where that is what taking
                the batch apart raises locally.
        """
        return self._encode(*self._parts(actions, "actions"), indices)

    def _parts(self, value: Any, what: str) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return an action, or a batch of them, taken apart: fixed-size leaves and variable ones."""
        if self._flatten is None:
            return (value,), ()
        try:
            return self._flatten(value)
        except MisuseError as error:
            also_type = KeyError if isinstance(error.__cause__, KeyError) else TypeError
            raise also(MisuseError, also_type)(f"{what}: {error}") from None

    def encode_single(self, action: Any) -> tuple[list[Array], bytes]:
        """Return the same for one environment's action; see `encode`."""
        fixed, variable = self._parts(action, "action")
        batch = []
        for part, leaf in zip(fixed, self._leaves, strict=True):
            try:
                batch.append(np.asarray(part)[None])
            except ValueError:
                raise MisuseError(f"the action{leaf} of environment 0 is ragged: {part!r:.80}") from None
        return self._encode(batch, [(element,) for element in variable], range(1))

    def _encode(
        self, fixed: Sequence[Any], variable: Sequence[Any], indices: Sequence[int]
    ) -> tuple[list[Array], bytes]:
        rows = [_rows(part, leaf, indices) for part, leaf in zip(fixed, self._leaves, strict=True)]
        for array, (leaf, inside) in zip(rows, self._checks):  # noqa: B905 - empty unless validating
            good = inside(array).reshape(len(indices), -1).all(axis=1)
            if not good.all():
                row = int(np.argmin(good))
                raise MisuseError(
                    f"the action{leaf} of environment {indices[row]} is outside of its space: {array[row]!r}"
                )
        return rows, self._encode_variable(variable, indices) if variable else b""

    def _encode_variable(self, columns: Sequence[Any], indices: Sequence[int]) -> bytes:
        for column, leaf in zip(columns, self._variable, strict=True):
            if not isinstance(column, (tuple, list)) or len(column) != len(indices):
                got = f"{type(column).__name__}" + (f" of {len(column)}" if isinstance(column, (tuple, list)) else "")
                raise _mismatch(column)(f"actions{leaf} must be a tuple of {len(indices)} elements, got a {got}")
            for index, element in zip(indices, column, strict=True):
                if self._validate and not leaf.space.contains(element):
                    raise MisuseError(
                        f"the action{leaf} of environment {index} is outside of its space: {element!r:.80}"
                    )
        return values.pack([list(row) for row in zip(*columns, strict=True)], "actions")


def _rows(part: Any, leaf: Leaf, indices: Sequence[int]) -> Array:
    expected = (len(indices), *leaf.shape)
    if type(part) is np.ndarray and part.dtype == leaf.dtype and part.shape == expected and part.flags.c_contiguous:
        return part
    try:
        array = np.asarray(part)
    except ValueError:  # ragged
        array = None
    if array is None or array.dtype.kind not in "biuf" or array.shape != expected:
        raise _mismatch(part)(_describe_mismatch(part, array, leaf, indices))
    # Integers are cast to any integer dtype that holds their values: a plain list of ints is int64.
    integers = array.dtype.kind in "biu" and leaf.dtype.kind in "iu"
    if not integers and not np.can_cast(array.dtype, leaf.dtype, "same_kind"):
        raise MisuseError(
            f"actions{leaf} have dtype {array.dtype}, which does not cast to the space's {leaf.dtype} "
            f"without changing its kind"
        )
    cast = np.ascontiguousarray(array, dtype=leaf.dtype)
    if leaf.dtype.kind in "iu" and not np.can_cast(array.dtype, leaf.dtype, "safe") and not (cast == array).all():
        changed = (cast != array).reshape(len(indices), -1).any(axis=1)
        row = int(np.argmax(changed))
        raise MisuseError(
            f"the action{leaf} of environment {indices[row]} does not fit its dtype {leaf.dtype}: {array[row]!r}"
        )
    return cast


def _mismatch(part: Any) -> type[MisuseError]:
    """Return the type of error for what is no batch: also a `TypeError`, as locally, if it has no elements."""
    is_scalar = not hasattr(part, "__len__") or getattr(part, "ndim", 1) == 0
    return also(MisuseError, TypeError) if is_scalar else MisuseError


def _describe_mismatch(part: Any, array: Array | None, leaf: Leaf, indices: Sequence[int]) -> str:
    if part is None or isinstance(part, (str, bytes)):
        return f"actions{leaf} are {part!r:.80}, expected an array of shape {(len(indices), *leaf.shape)}"
    try:
        count = len(part)
    except TypeError:
        return f"actions{leaf} are a {type(part).__name__}, expected an array of shape {(len(indices), *leaf.shape)}"
    if count != len(indices):
        return f"actions{leaf} are for {count} environments, expected {len(indices)}"
    if array is None or array.dtype.kind not in "biuf" or array.shape[1:] != leaf.shape:
        for index, item in zip(indices, part, strict=True):
            try:
                single = np.asarray(item)
            except ValueError:
                return f"the action{leaf} of environment {index} is ragged: {item!r:.80}"
            if single.dtype.kind not in "biuf":
                return f"the action{leaf} of environment {index} is no number or array of numbers: {item!r:.80}"
            if single.shape != leaf.shape:
                return f"the action{leaf} of environment {index} has shape {single.shape}, expected {leaf.shape}"
    return f"actions{leaf} have shape {np.shape(part)}, expected {(len(indices), *leaf.shape)}"


def _in_bounds(space: spaces.Space[Any]) -> Callable[[Array], Array]:
    """Return the function that tells, element by element, what is inside of `space`; NaN never is."""
    if isinstance(space, spaces.Box):
        return lambda array: (array >= space.low) & (array <= space.high)
    if isinstance(space, spaces.Discrete):
        return lambda array: (array >= space.start) & (array <= space.start + (space.n - 1))
    if isinstance(space, spaces.MultiDiscrete):
        # The last element fits the dtype; a difference might not.
        return lambda array: (array >= space.start) & (array <= space.start + (space.nvec - 1))
    return lambda array: (array == 0) | (array == 1)
