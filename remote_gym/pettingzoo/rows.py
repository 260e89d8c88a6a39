"""No I/O: rows of agents. Row ``e * agents + a`` of a batch is agent `a` of environment `e`."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from remote_gym import EnvironmentLost, EnvironmentRaised, MisuseError
from remote_gym.errors import also

Array = np.ndarray[Any, Any]

_FIXED = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def interleaved(space: Space[Any], parts: Sequence[Any]) -> Any:
    """Return the rows of all agents: one array for each leaf of `space`, nobody else's.

    Args:
        space: Of one agent.
        parts: For each agent a batch of its observations, of all environments.
    """
    if isinstance(space, spaces.Dict):
        return {key: interleaved(child, [part[key] for part in parts]) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(interleaved(child, [part[at] for part in parts]) for at, child in enumerate(space.spaces))
    if not isinstance(space, _FIXED):
        return tuple(itertools.chain.from_iterable(zip(*parts, strict=True)))
    stacked = np.stack(parts, axis=1)
    return stacked.reshape(-1, *stacked.shape[2:])


def by_agent(space: Space[Any], actions: Any, num_envs: int, agents: int) -> list[Any]:
    """Return for each agent a batch of its actions, of all environments, in the dtype of the space.

    Args:
        space: Of one agent.
        actions: Rows of all agents.
        num_envs: Environments.
        agents: Of one environment.

    Raises:
        MisuseError: They do not fit.
    """
    if isinstance(space, spaces.Dict):
        columns = {key: by_agent(child, _child(actions, key), num_envs, agents) for key, child in space.spaces.items()}
        return [{key: column[at] for key, column in columns.items()} for at in range(agents)]
    if isinstance(space, spaces.Tuple):
        children = enumerate(space.spaces)
        return list(
            zip(*[by_agent(child, _child(actions, at), num_envs, agents) for at, child in children], strict=True)
        )
    rows = num_envs * agents
    if not isinstance(space, _FIXED):
        if not isinstance(actions, (tuple, list)) or len(actions) != rows:
            raise MisuseError(f"actions must be a tuple of {rows} elements: {num_envs} environments of {agents} agents")
        return [tuple(actions[at::agents]) for at in range(agents)]
    array = _array(actions)
    if array.ndim == 0 or len(array) != rows:
        raise MisuseError(
            f"actions have the shape {array.shape}, expected {rows} rows: {num_envs} environments of {agents} agents"
        )
    dtype: Any = space.dtype
    if not np.can_cast(array.dtype, dtype, "same_kind"):
        raise also(MisuseError, TypeError)(
            f"actions have dtype {array.dtype}, which does not cast to the space's {dtype} without changing its kind"
        )
    grouped = array.reshape(num_envs, agents, *array.shape[1:]).swapaxes(0, 1)
    return list(np.ascontiguousarray(grouped, dtype))


def _array(actions: Any) -> Array:
    try:
        return np.asarray(actions)
    except ValueError as error:
        raise MisuseError(f"actions are no array: {error}") from None


def _child(actions: Any, key: Any) -> Any:
    try:
        return actions[key]
    except (KeyError, IndexError, TypeError):
        raise MisuseError(f"actions have nothing at {key!r}") from None


@contextlib.contextmanager
def naming_rows(agents: int) -> Iterator[None]:
    """Let errors of an environment say which rows are its."""
    try:
        yield
    except (EnvironmentRaised, EnvironmentLost) as error:
        if hasattr(error, "add_note"):
            first = error.env_index * agents
            error.add_note(f"environment {error.env_index} has the rows {first} to {first + agents - 1}")
        raise
