"""No I/O: what the caller of a `VectorEnv` passes, checked."""

from __future__ import annotations

from operator import index
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from remote_gym.errors import MisuseError, also

OURS = {
    "autoreset_mode": "Tianshou resets environments itself, which is autoreset_mode='Disabled'",
    "batch_size": "how many environments a step waits for is called wait_num in Tianshou",
    "info_format": "Tianshou takes one dict for each environment",
    "array": "Tianshou takes arrays of NumPy",
}
"""Arguments of `RemoteVectorEnv` that are not the caller's to choose here, and why."""


def chosen(num_envs: int, wait_num: int | None, timeout: float | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments for `RemoteVectorEnv`."""
    for name, why in OURS.items():
        if name in options:
            raise MisuseError(f"{name} is not yours to choose here: {why}")
    one_by_one = is_async(num_envs, wait_num, timeout)
    return {"autoreset_mode": AutoresetMode.DISABLED, "batch_size": 1 if one_by_one else None, **options}


def is_async(num_envs: Any, wait_num: int | None, timeout: float | None) -> bool:
    """Return whether `step` returns whoever is ready.

    Raises:
        MisuseError: These are no such arguments; also an `AssertionError`.
    """
    if wait_num is not None and not (isinstance(wait_num, (int, np.integer)) and 1 <= wait_num <= num_envs):
        raise also(MisuseError, AssertionError)(f"wait_num should be in [1, {num_envs}], but got {wait_num!r}")
    if timeout is not None and not (isinstance(timeout, (int, float)) and timeout > 0):
        raise also(MisuseError, AssertionError)(f"timeout is {timeout!r}, it should be positive if provided!")
    return timeout is not None or wait_num not in (None, num_envs)


def env_indices(given: Any, num_envs: int) -> list[int]:
    """Return what a caller passes as `id` as a list; indices below zero count from the end, as with any list.

    Args:
        given: None for all, an integer, or a list or array of integers.
        num_envs: How many environments there are.

    Raises:
        MisuseError: It is none of these; also an `IndexError` if there is no such environment.
    """
    if given is None:
        return list(range(num_envs))
    each: Any = [given] if np.isscalar(given) else given
    try:
        ids = [index(one) for one in each if not isinstance(one, (bool, np.bool_))]
    except TypeError:
        ids = []
    if not ids or len(ids) != len(each):
        raise MisuseError(f"id must be None, an env index or a list or array of these, got {given!r:.80}")
    if not -num_envs <= min(ids) <= max(ids) < num_envs:
        raise also(MisuseError, IndexError)(f"id must be from 0 to {num_envs - 1}, got {given!r:.80}")
    return [one % num_envs for one in ids]


def distinct(given: Any, num_envs: int) -> list[int]:
    """Return the same, none of them twice.

    Raises:
        MisuseError: One is there twice, or it is no list of indices.
    """
    ids = env_indices(given, num_envs)
    if len(set(ids)) != len(ids):
        raise MisuseError(f"an environment does one thing at a time: id must be distinct, got {given!r:.80}")
    return ids


def each_seed(seed: Any, num_envs: int) -> list[Any]:
    """Return one seed per environment: an int s gives the i-th s + i.

    Raises:
        MisuseError: It is another number of seeds; also a `TypeError` if it is no seed and no sequence of these.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return [int(seed) + one for one in range(num_envs)]
    if isinstance(seed, (str, bytes)) or not hasattr(seed, "__len__"):
        raise also(MisuseError, TypeError)(f"seed must be None, an int, or {num_envs} of these, got {seed!r:.80}")
    if len(seed) != num_envs:
        raise MisuseError(f"seed must be None, an int, or {num_envs} of these, got {len(seed)}")
    return [int(one) if isinstance(one, np.integer) else one for one in seed]
