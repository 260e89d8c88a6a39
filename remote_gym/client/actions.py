"""Trainer process: what the caller passes as actions -> what travels, or an error that names the environment and field.

Everything is checked before anything is sent: wrong counts and shapes of batches, and what is no number where the space
has numbers, are refused; values are only looked at with `validate`. All else arrives as given: an environment of a
batch gets what `gymnasium.vector.utils.iterate` would give it, a single one the caller's own action, in type, dtype and
shape.

Three ways lead there: packed rows of the space's dtypes, the usual one; for arrays of other dtypes packed rows with a
code for each leaf; for all else packed values. A server that does not know the last two gets what casts to the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate

from remote_gym import values
from remote_gym.client.agent_actions import is_by_agent, pack_by_agent
from remote_gym.errors import CodecError, MisuseError, also
from remote_gym.leaves import (
    DTYPE_CODES,
    Array,
    Leaf,
    flattener,
    is_one_array,
    kind_of,
    leaves_of,
    space_at,
    variable_leaves_of,
)

MAX_INTS = 256
"""Different ones of a single environment whose encoding is remembered: who passes `int` passes few, again and again."""


class Actions(NamedTuple):
    """Actions as they travel; the last fields of `messages.Step`."""

    rows: list[Array]
    variable: bytes = b""
    dtypes: bytes = b""
    given: bytes = b""


class ActionEncoder:
    """Encodes batches of actions of one space."""

    def __init__(
        self, space: spaces.Space[Any], validate: bool, as_given: bool = True, is_vector: bool = False
    ) -> None:
        """Prepare for actions of `space`, the space of a single environment.

        Args:
            space: It.
            validate: Whether to refuse what is outside of it.
            as_given: Whether the servers take actions of other types than the space's; without, they are cast.
            is_vector: Whether they go, as they are, to a hosted vector environment.
        """
        self._space = space
        self._leaves = leaves_of(space)
        self._is_array = [bool(leaf.shape) or kind_of(space_at(space, leaf)) == "Box" for leaf in self._leaves]
        self._variable = variable_leaves_of(space)
        self._flatten = None if is_one_array(space) else flattener(space)
        self._validate = validate
        self._ints: dict[int, Actions] = {}  # those of plain ints that a single environment was given
        self._as_given = as_given
        self._is_vector = is_vector
        self._checks: list[tuple[Leaf, Callable[[Array], Array]]] = (
            [(leaf, _in_bounds(space_at(space, leaf))) for leaf in self._leaves] if validate else []
        )

    @cached_property
    def _batched(self) -> spaces.Space[Any]:
        return batch_space(self._space, 1)  # only its structure is used

    def encode(self, actions: Any, indices: Sequence[int]) -> Actions:
        """Return a batch of actions as it travels.

        Args:
            actions: A batch in the structure of the space: arrays, or lists, whose first axis runs over environments;
                for `Text`, `Sequence`, `Graph` and `OneOf` a tuple or list of one element per environment.
            indices: The env indices the rows belong to, for messages.

        Raises:
            MisuseError: Names the environment and field. Also a `TypeError` or `KeyError` where that is what taking
                the batch apart raises locally.
        """
        fixed, variable = self._parts(actions, "actions")
        if not self._as_given:
            return self._encode_cast(fixed, variable, indices)
        count = len(indices)
        for part, leaf in zip(fixed, self._leaves, strict=True):
            if (
                type(part) is not np.ndarray
                or part.dtype != leaf.dtype
                or part.shape != (count, *leaf.shape)
                or not part.flags.c_contiguous
            ):
                return self._encode_given(actions, fixed, variable, indices)
        if self._is_vector and not self._is_plain(actions, variable):
            return self._encode_given(actions, fixed, variable, indices)
        if variable or self._validate:
            return self._encode_cast(fixed, variable, indices)
        return Actions(list(fixed))

    def encode_single(self, action: Any) -> Actions:
        """Return the same for the action of a single environment, of any shape; see `encode`."""
        if type(action) is int and action in self._ints:
            return self._ints[action]
        encoded = self._encode_one(action)
        if type(action) is int and len(self._ints) < MAX_INTS:
            self._ints[action] = encoded
        return encoded

    def _encode_one(self, action: Any) -> Actions:
        if is_by_agent(action):
            return Actions([], given=pack_by_agent(action))
        fixed, variable = self._parts(action, "action")
        columns, one = [(element,) for element in variable], range(1)
        if not self._as_given:
            return self._encode_cast([_numbers(part, leaf)[None] for part, leaf in self._each(fixed)], columns, one)
        rows, usual = [], True
        for part, leaf, is_array in zip(fixed, self._leaves, self._is_array, strict=True):
            is_same = type(part) is np.ndarray if is_array else isinstance(part, np.generic)
            if not is_same or part.shape != leaf.shape:
                break
            rows.append(np.asarray(part)[None])
            usual = usual and part.dtype == leaf.dtype
        same = len(rows) == len(self._leaves) and (self._flatten is None or _is_plain(self._space, action))
        if same and usual:
            return self._encode_cast(rows, columns, one)
        if same and (typed := self._encode_typed(rows, columns, one)) is not None:
            return typed
        arrays = [_numbers(part, leaf)[None] for part, leaf in self._each(fixed)]
        return self._encode_values([action], arrays, columns, one)

    def _each(self, fixed: Sequence[Any]) -> list[tuple[Any, Leaf]]:
        return list(zip(fixed, self._leaves, strict=True))

    def _parts(self, value: Any, what: str) -> tuple[Sequence[Any], Sequence[Any]]:
        """Return an action, or a batch of them, taken apart: fixed-size leaves and variable ones."""
        if self._flatten is None:
            return (value,), ()
        try:
            return self._flatten(value)
        except MisuseError as error:
            also_type = KeyError if isinstance(error.__cause__, KeyError) else TypeError
            raise also(MisuseError, also_type)(f"{what}: {error}") from None

    # Packed rows of the space's dtypes

    def _encode_cast(self, fixed: Sequence[Any], variable: Sequence[Any], indices: Sequence[int]) -> Actions:
        rows = [_cast(part, leaf, indices) for part, leaf in zip(fixed, self._leaves, strict=True)]
        for array, (leaf, inside) in zip(rows, self._checks):  # noqa: B905 - empty unless validating
            good = inside(array).reshape(len(indices), -1).all(axis=1)
            if not good.all():
                row = int(np.argmin(good))
                raise MisuseError(
                    f"the action{leaf} of environment {indices[row]} is outside of its space: {array[row]!r}"
                )
        return Actions(rows, self._encode_variable(variable, indices) if variable else b"")

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

    # As given

    def _is_plain(self, actions: Any, variable: Sequence[Any]) -> bool:
        """Return whether a batch that is taken apart and put together again is what it was."""
        return _is_plain(self._space, actions) and all(type(column) is tuple for column in variable)

    def _encode_given(
        self, actions: Any, fixed: Sequence[Any], variable: Sequence[Any], indices: Sequence[int]
    ) -> Actions:
        arrays = [_batch(part, leaf, indices) for part, leaf in zip(fixed, self._leaves, strict=True)]
        if all(type(part) is np.ndarray for part in fixed) and not (
            self._is_vector and not self._is_plain(actions, variable)
        ):
            typed = self._encode_typed(arrays, variable, indices)
            if typed is not None:
                return typed
        whole = [actions] if self._is_vector else list(iterate(self._batched, actions))
        return self._encode_values(whole, arrays, variable, indices)

    def _encode_typed(self, arrays: Sequence[Array], variable: Sequence[Any], indices: Sequence[int]) -> Actions | None:
        """Return packed rows with the dtypes of `arrays`; None where these have no code, or stand beside others."""
        codes = bytearray()
        for array, leaf in zip(arrays, self._leaves, strict=True):
            code = 0 if array.dtype == leaf.dtype else DTYPE_CODES.get(array.dtype.str)
            if code is None or (code and self._variable) or array.shape != (len(indices), *leaf.shape):
                return None
            codes.append(code)
        if not any(codes):
            return self._encode_cast(arrays, variable, indices)
        if self._validate:
            self._encode_cast(arrays, variable, indices)
        return Actions([np.ascontiguousarray(array) for array in arrays], dtypes=bytes(codes))

    def _encode_values(
        self, whole: list[Any], arrays: Sequence[Array], variable: Sequence[Any], indices: Sequence[int]
    ) -> Actions:
        """Return whole actions as packed values."""
        if self._validate:
            self._encode_cast(arrays, variable, indices)
        elif variable:
            self._encode_variable(variable, indices)  # refuses what is no batch
        try:
            return Actions([], given=values.pack(whole, "actions"))
        except CodecError:
            # What NumPy takes for numbers, a tensor say, arrives as an array.
            if (typed := self._encode_typed(arrays, variable, indices)) is None:
                raise
            return typed


def _is_plain(space: Any, value: Any) -> bool:
    """Return whether a value of `space` is made of exactly the dicts and tuples that `unflattener` makes."""
    kind = kind_of(space)
    if kind == "Dict":
        children = space.spaces
        return (
            type(value) is dict
            and list(value) == list(children)
            and all(_is_plain(child, value[key]) for key, child in children.items())
        )
    if kind == "Tuple":
        return type(value) is tuple and all(map(_is_plain, space.spaces, value))
    return True


_NUMBERS = (int, float, np.number, np.bool_)


def _are_numbers(array: Array) -> bool:
    # An int beyond 64 bits makes an array of objects.
    return array.dtype.kind in "biuf" or (
        array.dtype.kind == "O" and all(isinstance(one, _NUMBERS) for one in array.flat)
    )


def _numbers(part: Any, leaf: Leaf) -> Array:
    """Return a single environment's action, of any shape, as an array."""
    try:
        array = np.asarray(part)
    except ValueError:
        raise MisuseError(f"the action{leaf} of environment 0 is ragged: {part!r:.80}") from None
    if not _are_numbers(array):
        raise MisuseError(f"the action{leaf} of environment 0 is no number or array of numbers: {part!r:.80}")
    return array


def _batch(part: Any, leaf: Leaf, indices: Sequence[int]) -> Array:
    """Return a batch of actions as an array."""
    try:
        array = np.asarray(part)
    except ValueError:  # ragged
        array = None
    if array is None or not _are_numbers(array) or array.shape != (len(indices), *leaf.shape):
        raise _mismatch(part)(_describe_mismatch(part, array, leaf, indices))
    return array


def _cast(part: Any, leaf: Leaf, indices: Sequence[int]) -> Array:
    expected = (len(indices), *leaf.shape)
    if type(part) is np.ndarray and part.dtype == leaf.dtype and part.shape == expected and part.flags.c_contiguous:
        return part
    array = _batch(part, leaf, indices)
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
    if array is None or not _are_numbers(array) or array.shape[1:] != leaf.shape:
        for index, item in zip(indices, part, strict=True):
            try:
                single = np.asarray(item)
            except ValueError:
                return f"the action{leaf} of environment {index} is ragged: {item!r:.80}"
            if not _are_numbers(single):
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
