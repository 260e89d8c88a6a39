"""Child side: what environments observe, written into the shared rows of their session."""

from __future__ import annotations

from typing import Any

import numpy as np

from remote_gym.errors import MisuseError
from remote_gym.gym import Space
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import Array, flattener, leaves_of
from remote_gym.worker.results import InvalidResult, Results


class Observations:
    """The observations of the environments of one session in this worker.

    Attributes:
        leaves: Of one of them.
        only: The array, dtype and shape where one leaf is all there is: what has exactly these is written without
            `write`. Otherwise, and before `attach`, a shape that no array has.
    """

    only: tuple[Any, Any, Any] = (None, None, None)

    def __init__(self, space: Space[Any]) -> None:
        """Write observations of `space`."""
        self.leaves = leaves_of(space)
        self._flatten = flattener(space)
        self._arrays: list[Array] = []

    def attach(self, rows: Rows) -> None:
        """Write into `rows` from now on."""
        self._arrays = rows.observations
        if [leaf.path for leaf in self.leaves] == [()]:
            self.only = (self._arrays[0], self.leaves[0].dtype, self.leaves[0].shape)

    def write(self, index: int, observation: Any, collected: Results) -> None:
        """Write the observation of the environment at `index`; what is not in the rows goes into `collected`.

        Raises:
            InvalidResult: It is none of the space.
        """
        try:
            leaf_values, variable = self._flatten(observation)
        except MisuseError as error:
            raise InvalidResult(
                f"environment {index} returned an observation that does not fit its space: {error}"
            ) from None
        if variable:
            collected.variable[index] = list(variable)
        usual = len(leaf_values) + len(variable) == 1 or type(observation) in (dict, tuple)
        for leaf, array, value in zip(self.leaves, self._arrays, leaf_values):
            if type(value) is np.ndarray and value.dtype == leaf.dtype and value.shape == leaf.shape:
                array[index] = value
            else:
                _write_converted(index, array, str(leaf), value)
                usual = False
        if collected.options.exact_types and not usual:
            collected.exact.setdefault(index, {})["observation"] = observation


def _write_converted(index: int, array: Array, field: str, value: Any) -> None:
    """Write a value that is no array of exactly the leaf's dtype and shape, as `numpy.stack(..., out=...)` would."""
    try:
        converted = np.asarray(value)
    except ValueError as error:
        raise InvalidResult(f"environment {index} returned an observation{field} that is no array: {error}") from None
    if converted.shape != array.shape[1:]:
        raise InvalidResult(
            f"environment {index} returned an observation{field} of shape {converted.shape}, "
            f"its space says {array.shape[1:]}"
        )
    if not np.can_cast(converted.dtype, array.dtype, "same_kind"):
        raise InvalidResult(
            f"environment {index} returned an observation{field} of dtype {converted.dtype}, "
            f"its space says {array.dtype}"
        )
    array[index] = converted
