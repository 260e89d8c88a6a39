"""Child side: what environments observe, written into the shared rows of their session."""

from __future__ import annotations

from typing import Any

import numpy as np

from remote_gym.gym import Space
from remote_gym.ipc.rows import Rows
from remote_gym.key_orders import KeyOrders
from remote_gym.leaves import Array, Leaf, VariableLeaf, leaves_of, variable_leaves_of
from remote_gym.worker.results import InvalidResult, Results, show


class Observations:
    """The observations of the environments of one session in this worker.

    Attributes:
        leaves: Of one of them.
        only: Dtype and shape where one leaf is all there is: what has exactly these is written into `row` without
            `write`. Otherwise, and before `attach`, a shape that no array has.
    """

    only: tuple[Any, Any] = (None, None)

    def __init__(self, space: Space[Any]) -> None:
        """Write observations of `space`."""
        self.leaves = leaves_of(space)
        self._variable_leaves = variable_leaves_of(space)
        self._key_orders = KeyOrders(space)
        self._arrays: list[Array] = []

    def attach(self, rows: Rows) -> None:
        """Write into `rows` from now on."""
        self._arrays = rows.observations
        if [leaf.path for leaf in self.leaves] == [()]:
            self.only = self.leaves[0].dtype, self.leaves[0].shape

    def row(self, index: int) -> Any:
        """Return the row, an array, of the environment at `index` where one leaf is all there is; else None."""
        return None if self.only == (None, None) else self._arrays[0][index, ...]

    def write(self, index: int, observation: Any, collected: Results) -> None:
        """Write the observation of the environment at `index`; what is not in the rows goes into `collected`.

        Raises:
            InvalidResult: It is none of the space, and the session wants no exact types: a batch has no place for it.
            Exception: Whatever an object of the environment raises.
        """
        if collected.options.exact_types:
            self._write_exact(index, observation, collected)
        else:
            self._write_rows(index, observation, collected)

    def _write_exact(self, index: int, observation: Any, collected: Results) -> None:
        """Write what fits; whatever the rows do not say travels as the environment has returned it."""
        orders = self._key_orders.read(observation)
        try:
            usual = self._write_rows(index, observation, collected) and orders is not None
        except Exception:  # locally whoever called `step` gets it all the same
            usual = False
            if self._variable_leaves:
                collected.variable[index] = [None] * len(self._variable_leaves)
        if not usual:
            collected.exact.setdefault(index, {})["observation"] = observation
        elif orders and any(order is not None for order in orders):
            collected.exact.setdefault(index, {})["order"] = orders

    def _write_rows(self, index: int, observation: Any, collected: Results) -> bool:
        """Write as `gymnasium.vector.utils.concatenate` does.

        Returns:
            Whether the rows say all, but for the order of keys.
        """
        usual = True
        for leaf, array in zip(self.leaves, self._arrays):
            value = _part(index, observation, leaf)
            if type(value) is np.ndarray and value.dtype == leaf.dtype and value.shape == leaf.shape:
                array[index] = value
            else:
                _write_converted(index, array, str(leaf), value)
                usual = False
        if self._variable_leaves:
            collected.variable[index] = [_part(index, observation, leaf) for leaf in self._variable_leaves]
        return usual


def _part(index: int, observation: Any, leaf: Leaf | VariableLeaf) -> Any:
    """Return what the observation has at the path of `leaf`: whatever can be asked for it will do, as locally."""
    part = observation
    try:
        for key in leaf.path:
            part = part[key]
    except Exception as error:
        raise InvalidResult(
            f"environment {index} returned an observation that does not fit its space: {show(observation)} has "
            f"nothing at {leaf}: {type(error).__name__}",
            type(error),
        ) from None
    return part


def _write_converted(index: int, array: Array, field: str, value: Any) -> None:
    """Write a value that is no array of exactly the leaf's dtype and shape, as `numpy.stack(..., out=...)` would."""
    try:
        converted = np.asarray(value)
    except ValueError as error:
        raise InvalidResult(
            f"environment {index} returned an observation{field} that is no array: {error}", ValueError
        ) from None
    if converted.shape != array.shape[1:]:
        raise InvalidResult(
            f"environment {index} returned an observation{field} of shape {converted.shape}, "
            f"its space says {array.shape[1:]}",
            ValueError,
        )
    if not np.can_cast(converted.dtype, array.dtype, "same_kind"):
        raise InvalidResult(
            f"environment {index} returned an observation{field} of dtype {converted.dtype}, "
            f"its space says {array.dtype}",
            TypeError,
        )
    array[index] = converted
