"""Trainer process: the episode that one environment is in, as lists that grow. No I/O.

Minari stores an episode as one list per leaf of a space: a Dict of two Boxes is a dict of two lists. Infos likewise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from remote_gym.errors import MisuseError

_NUMERIC = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def leaves(space: Space[Any], value: Any) -> list[Any]:
    """Return what `value`, of `space` or of a batch of it, has at each leaf of `space`.

    Numbers come as arrays, or as the scalars they are: lists and tensors become arrays.
    """
    if isinstance(space, spaces.Dict):
        return [leaf for key, below in space.spaces.items() for leaf in leaves(below, value[key])]
    if isinstance(space, spaces.Tuple):
        return [leaf for below, part in zip(space.spaces, value, strict=True) for leaf in leaves(below, part)]
    return [array(value) if isinstance(space, _NUMERIC) else value]


def array(value: Any) -> Any:
    """Return a list or a tensor as an array; an array or a scalar as it is."""
    if isinstance(value, np.ndarray | np.generic | int | float):
        return value
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def rebuilt(space: Space[Any], parts: Iterator[Any]) -> Any:
    """Return the value of `space` whose leaves are the next of `parts`: what `leaves` has taken apart."""
    if isinstance(space, spaces.Dict):
        return {key: rebuilt(below, parts) for key, below in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(rebuilt(below, parts) for below in space.spaces)
    return next(parts)


def row(batch: list[Any], at: int) -> list[Any]:
    """Return row `at` of each leaf of a batch, as memory of its own: a view would keep the whole batch alive."""
    return [part.copy() if isinstance(part := leaf[at], np.ndarray) else part for leaf in batch]


class Column(list[Any]):
    """The values of one entry of an info: a list of ours, not one that the environment has put there."""


def planted(info: Any) -> Any:
    """Return the tree of columns that begins with `info`; dicts, tuples and lists are its branches, as for Minari."""
    if isinstance(info, dict):
        return {key: planted(value) for key, value in info.items()}
    if isinstance(info, tuple):
        return tuple(map(planted, info))
    if isinstance(info, list):
        return list(map(planted, info))
    return None if info is None else Column([own(info)])


def own(value: Any) -> Any:
    """Return `value` as memory of our own, if it is an array."""
    return value.copy() if isinstance(value, np.ndarray) else value


def mismatch(tree: Any, info: Any, path: str = "info") -> str | None:
    """Return where, and how, `info` has not the shape of `tree`; None: `grow` may add it."""
    if isinstance(tree, Column):
        return f"{path} is no single value" if info is None or isinstance(info, dict | tuple | list) else None
    if tree is None:
        return None if info is None else f"{path} was None"
    if isinstance(tree, dict):
        if not isinstance(info, dict):
            return f"{path} is no dict"
        if differing := sorted(map(str, tree.keys() ^ info.keys())):
            return f"{path} does not always have {', '.join(differing)}"
        found = (mismatch(below, info[key], f"{path}[{key!r}]") for key, below in tree.items())
    else:
        if not isinstance(info, tuple | list) or len(info) != len(tree):
            return f"{path} is not always a sequence of {len(tree)}"
        found = (mismatch(below, info[at], f"{path}[{at}]") for at, below in enumerate(tree))
    return next((one for one in found if one), None)


def grow(tree: Any, info: Any) -> None:
    """Add an info to a tree of its shape."""
    if isinstance(tree, Column):
        tree.append(own(info))
    elif isinstance(tree, dict):
        for key, below in tree.items():
            grow(below, info[key])
    elif tree is not None:
        for below, part in zip(tree, info, strict=True):
            grow(below, part)


class Episode:
    """What one environment has done since it was reset.

    Attributes:
        seed: With which it was reset; None if it was not given one.
        options: With which it was reset, or None.
        observations: One list per leaf, of one more value than there are steps.
        actions: One list per leaf.
        rewards: One float per step.
        terminations: One bool per step.
        truncations: One bool per step.
        infos: A tree of columns, of one more value than there are steps; without any if they are not recorded.
    """

    def __init__(self, first: list[Any], info: dict[str, Any], seed: int | None, options: Any) -> None:
        """Begin with the leaves of the first observation, and with the info that came with it."""
        self.seed, self.options = seed, options
        self.observations = [[leaf] for leaf in first]
        self.actions: list[list[Any]] = []
        self.rewards: list[Any] = []
        self.terminations: list[bool] = []
        self.truncations: list[bool] = []
        self.infos: dict[str, Any] = planted(info)

    def add(
        self, observation: list[Any], action: list[Any], reward: Any, ended: tuple[bool, bool], info: dict[str, Any]
    ) -> None:
        """Add a step: leaves of the observation it led to and of the action, reward, (terminated, truncated) and info.

        Raises:
            MisuseError: The info has not the shape of those before; nothing was added.
        """
        if wrong := mismatch(self.infos, info):
            raise MisuseError(f"infos of one episode must be alike, from the reset on, as Minari stores them: {wrong}")
        grow(self.infos, info)
        for column, leaf in zip(self.observations, observation, strict=True):
            column.append(leaf)
        if not self.actions:
            self.actions = [[] for _ in action]
        for column, leaf in zip(self.actions, action, strict=True):
            column.append(leaf)
        self.rewards.append(reward)
        self.terminations.append(ended[0])
        self.truncations.append(ended[1])

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.rewards)

    def nbytes(self) -> int:
        """Return about how many bytes it holds: those of its first step, and as many for each."""
        values = [column[0] for column in (*self.observations, *self.actions)]
        return len(self) * (100 + sum(getattr(value, "nbytes", 100) for value in values))
