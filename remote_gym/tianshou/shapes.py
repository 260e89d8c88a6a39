"""No I/O: batches as Gymnasium makes them <-> what Tianshou's vector environments take and give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym.errors import MisuseError, also

Array = np.ndarray[Any, Any]
Space = spaces.Space[Any]

ARRAYS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
"""Spaces whose batch is one array."""


def batched(space: Space, action: Any, count: int) -> Any:
    """Return actions, one for each of `count` environments, as a batch of `space`.

    Args:
        space: The action space of one environment.
        action: An array, or a list of actions of one environment, or a `tianshou.data.Batch` of them.
        count: How many there must be.

    Raises:
        MisuseError: It is another number of actions; also an `AssertionError`.
    """
    try:
        given = len(action)
    except TypeError:
        given = None
    if given != count:
        got = f"a {type(action).__name__}" if given is None else given
        raise also(MisuseError, AssertionError)(f"there must be one action for each of {count} ids, got {got}")
    if isinstance(space, ARRAYS) and isinstance(action, np.ndarray) and action.dtype != object:
        return action
    return batch(space, [action[row] for row in range(count)])


def batch(space: Space, elements: list[Any]) -> Any:
    """Put elements of `space` together: what `rows` takes apart. The dtypes are theirs."""
    if isinstance(space, spaces.Dict):
        return {key: batch(child, [element[key] for element in elements]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        columns = ([element[place] for element in elements] for place in range(len(space.spaces)))
        return tuple(map(batch, space.spaces, columns))
    return [np.asarray(element) for element in elements] if isinstance(space, ARRAYS) else tuple(elements)


def rows(space: Space, batch: Any) -> list[Any]:
    """Take a batch of `space` apart."""
    if isinstance(space, spaces.Dict):
        columns = [rows(child, batch[key]) for key, child in space.spaces.items()]
        return [dict(zip(space.spaces, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(space, spaces.Tuple):
        return list(zip(*map(rows, space.spaces, batch), strict=True))
    return list(batch)


def stacked(observations: Sequence[Any]) -> Array:
    """Return observations as local vector environments stack them: dicts, and what differs in shape, as objects.

    Raises:
        TypeError: They are tuples, which Tianshou does not take.
    """
    if isinstance(observations[0], tuple):
        raise TypeError("Tuple observation space is not supported. Please change it to array or dict space")
    try:
        return np.stack(observations)
    except ValueError:
        return np.array(observations, dtype=object)


def array_of(infos: Sequence[dict[str, Any]]) -> Array:
    """Return an array of dicts."""
    array = np.empty(len(infos), object)
    array[:] = infos
    return array
