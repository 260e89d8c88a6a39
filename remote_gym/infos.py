"""No I/O: the infos of a batch, as `VectorEnv` aggregates them, taken apart again.

`split` is for who wants one dict per environment: loops over episodes, replay buffers, trainers made for lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from remote_gym.errors import MisuseError

Rows = Sequence[int]

_PYTHON = frozenset(map(np.dtype, (int, float, bool)))
"""Types of the arrays in which Python's own numbers are collected: `tolist` gives these back."""


def split(infos: dict[str, Any], num_envs: int) -> list[dict[str, Any]]:
    """Return the info of each environment, out of those of a batch.

    It undoes what `gymnasium.vector.VectorEnv` does to the infos of its environments, at every level of dicts: in each
    dict are the keys that this environment has returned, and no masks. What comes back:

    - numbers: those of Python as `int`, `float` and `bool`; those of NumPy as what they were, but `np.int64` and
      `np.float64`, of which an array says no more than of Python's: they are `int` and `float`.
    - arrays: a copy of the environment's row, of its own dtype and shape; one without axes is a number.
    - dicts: as such, ``final_info`` among them, also if they are empty.
    - ``final_obs`` and all else (str, None, lists, objects): what the environment has returned, the object itself.

    What a key without a mask holds was said of all: an item for each environment, as ``env_id`` of `recv` is, each gets
    its own; anything else they share. In the order of the environment's own keys this may differ where environments
    differ in theirs. Lost for good is what the aggregation has cast to the type of the first environment's value, and
    what it has written over: a key ``"_x"`` beside a key ``"x"``, which is that one's mask.

    Args:
        infos: As `reset`, `step` or `recv` return them.
        num_envs: How many rows they are of: the environments, or those that were received.

    Returns:
        infos: (num_envs,) dicts.

    Raises:
        MisuseError: `infos` is no dict, or not of so many rows; names the key.

    >>> split({"lives": np.array([3, 0]), "_lives": np.array([True, False])}, 2)
    [{'lives': 3}, {}]
    """
    if not isinstance(infos, dict):
        raise MisuseError(f"infos must be the dict that a vector environment returns, got {type(infos).__name__}")
    if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 0:
        raise MisuseError(f"num_envs must be the number of rows of infos, got {num_envs!r:.80}")
    each: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    if infos:
        _split(infos, each, range(num_envs), "infos")
    return each


def _split(infos: dict[Any, Any], each: Sequence[dict[str, Any]], everyone: Rows, where: str) -> None:
    """Put what `infos` says of the rows `everyone` into their dicts; `each` has one for every row."""
    for key, value in infos.items():
        name = f"_{key}"
        if name in infos:
            rows = _masked(infos[name], len(each), f"{where}[{name!r}]")
            if len(everyone) != len(each):
                rows = sorted(set(rows).intersection(everyone))
        elif _is_mask(key, infos):
            continue
        else:
            rows = everyone
        if isinstance(value, dict):
            below: list[dict[str, Any]] = [{} for _ in each]
            _split(value, below, rows, f"{where}[{key!r}]")
            for row in rows:
                each[row][key] = below[row]
        else:
            for row, element in _elements(value, rows, len(each), name in infos, f"{where}[{key!r}]"):
                each[row][key] = element


def _is_mask(key: Any, infos: dict[Any, Any]) -> bool:
    """Return whether a key, which has no mask, is the mask of another one."""
    return isinstance(key, str) and key[:1] == "_" and (key[1:] in infos or key in {f"_{other}" for other in infos})


def _masked(mask: Any, num_envs: int, where: str) -> Rows:
    mask = np.asarray(mask)
    if mask.shape != (num_envs,) or mask.dtype != np.bool_:
        raise MisuseError(f"{where} is no mask of {num_envs} environments: {mask.dtype} of shape {mask.shape}")
    if mask.all():
        return range(num_envs)
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows


def _elements(value: Any, rows: Rows, num_envs: int, masked: bool, where: str) -> Iterator[tuple[int, Any]]:
    """Return each row and what `value` holds for it."""
    count = _length(value)
    if count != num_envs:
        if masked:
            raise MisuseError(f"{where} has {count} items, not one for each of {num_envs} environments")
        return ((row, value) for row in rows)
    item: Callable[[int], Any]
    if not isinstance(value, np.ndarray):
        item = value.__getitem__
    elif value.ndim == 1:
        item = (value.tolist() if value.dtype in _PYTHON else value).__getitem__
    else:
        item = _copies(value)
    return ((row, item(row)) for row in rows)


def _copies(array: np.ndarray[Any, Any]) -> Callable[[int], Any]:
    return lambda row: array[row].copy()


def _length(value: Any) -> int | None:
    """Return how many items there are, if they may be one for each environment."""
    if isinstance(value, np.ndarray):
        return len(value) if value.ndim else None
    if isinstance(value, (str, bytes)):
        return None
    try:
        return len(value)
    except TypeError:
        return None
