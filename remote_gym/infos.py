"""No I/O: the infos of a batch, as `VectorEnv` aggregates them, taken apart again.

`split` is for who wants one dict per environment: loops over episodes, replay buffers, trainers made for lists.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        mask = _bools(infos.get(f"_{key}"))
        if mask is not None:
            rows = _masked(mask, len(each), f"{where}[{f'_{key}'!r}]")
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
            elements = _elements(value, rows, len(each), mask is not None, f"{where}[{key!r}]")
            for info, element in zip(map(each.__getitem__, rows), elements, strict=True):
                info[key] = element


def _bools(mask: Any) -> np.ndarray[Any, Any] | None:
    """Return what may be a mask as an array; None: it is none, whatever its key."""
    if mask is None or isinstance(mask, (dict, str)):
        return None
    array = np.asarray(mask)
    return array if array.dtype == np.bool_ and array.ndim == 1 else None


def _is_mask(key: Any, infos: dict[Any, Any]) -> bool:
    """Return whether a key, which has no mask, is the mask of another one."""
    if not isinstance(key, str) or key[:1] != "_" or _bools(infos[key]) is None:
        return False
    return key[1:] in infos or key in {f"_{other}" for other in infos if not isinstance(other, str)}


def _masked(mask: np.ndarray[Any, Any], num_envs: int, where: str) -> Rows:
    if len(mask) != num_envs:
        raise MisuseError(f"{where} is a mask of {len(mask)} environments, not of {num_envs}")
    if mask.all():
        return range(num_envs)
    rows: list[int] = np.flatnonzero(mask).tolist()
    return rows


def _elements(value: Any, rows: Rows, num_envs: int, masked: bool, where: str) -> Sequence[Any]:
    """Return what `value` holds for each of `rows`."""
    count = _length(value)
    if count != num_envs:
        if masked:
            raise MisuseError(f"{where} has {count} items, not one for each of {num_envs} environments")
        return [value] * len(rows)
    if not isinstance(value, np.ndarray):
        return [value[row] for row in rows]
    if value.ndim > 1:
        return [value[row].copy() for row in rows]
    some = value if len(rows) == num_envs else value[list(rows)]
    return some.tolist() if value.dtype in _PYTHON else list(some)  # an array of objects is the objects themselves


def _length(value: Any) -> int | None:
    """Return how many items there are, if they may be one for each environment: of a list, a tuple or an array."""
    if isinstance(value, (list, tuple)):
        return len(value)
    shape = getattr(value, "shape", None)  # a tensor has one, too
    return shape[0] if isinstance(shape, tuple) and shape else None
