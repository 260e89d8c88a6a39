"""No I/O: whose arrays are they? Whether what was handed out stays as it is, and may be written to or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym.testing.comparison import difference
from remote_gym.testing.rules import Record, Rule

KEPT_RESULTS = 24
"""Results of which the arrays are remembered; enough for any reuse of buffers to show."""


def arrays_in(value: Any) -> list[np.ndarray[Any, Any]]:
    """Return every array inside of an observation."""
    if isinstance(value, np.ndarray):
        return [value]
    if isinstance(value, dict):
        return [array for item in value.values() for array in arrays_in(item)]
    return [array for item in value for array in arrays_in(item)] if isinstance(value, (list, tuple)) else []


def fixed_arrays(space: spaces.Space[Any], value: Any) -> list[np.ndarray[Any, Any]]:
    """Return the arrays of an observation, or of a batch, that stand for subspaces of fixed size.

    Args:
        space: Of a single environment.
        value: An observation of it, or a batch.
    """
    if isinstance(space, spaces.Dict):
        return [array for key, child in space.spaces.items() for array in fixed_arrays(child, value[key])]
    if isinstance(space, spaces.Tuple):
        return [array for child, item in zip(space.spaces, value, strict=True) for array in fixed_arrays(child, item)]
    return [value] if isinstance(value, np.ndarray) else []


class Ownership:
    """Looks at the arrays of one remote environment's observations as they come."""

    def __init__(self, record: Record, space: spaces.Space[Any], copy: bool) -> None:
        """Prepare.

        Args:
            record: Takes the outcome.
            space: The observation space of a single environment.
            copy: Whether the caller asked for writable copies; if not, for read-only views.
        """
        self._record = record
        self._space = space
        self._copy = copy
        self._kept: list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        self._taken = 0

    def take(self, observations: Any) -> None:
        """Look at an observation that was just handed out, and compared: it may be scribbled over."""
        self._taken += 1
        fixed = fixed_arrays(self._space, observations)
        rule = Rule.COPIES if self._copy else Rule.VIEWS
        for array in fixed:
            held = array.flags.writeable is self._copy or array.size == 0
            self._record.expect(rule, held, "observations.flags.writeable", str(array.flags.writeable), str(self._copy))
        if self._copy and self._taken % 2:
            # Half of the copies are scribbled over, which must show nowhere; the others are remembered.
            for array in fixed:
                if array.flags.writeable and array.dtype != object:
                    array[...] = np.zeros((), array.dtype)
        elif len(self._kept) < KEPT_RESULTS:
            self._kept += [(self._record.moment, array, array.copy()) for array in arrays_in(observations)]

    def check_kept(self) -> None:
        """Look whether what was remembered is still the same."""
        for moment, array, before in self._kept:
            if self._record.differ(Rule.KEPT, f"observations of {moment}", difference(array, before)):
                return
