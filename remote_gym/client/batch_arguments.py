"""Trainer process: what the caller passes for a whole batch, one by one; checked before anything is sent. No I/O."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import Space

from remote_gym.errors import MisuseError, also
from remote_gym.observation_modes import DIFFERENT, SAME


def own_options(options: Any) -> Any:
    """Return a copy of a mapping of options, as the environments are to get it; anything else as it is."""
    if isinstance(options, Mapping):
        return OrderedDict(options) if isinstance(options, OrderedDict) else dict(options)
    return options


def each_options(options: Any, num_envs: int) -> list[Any] | None:
    """Return the options of each environment, as copies; None if `options` are those of all, whatever they may be.

    A sequence with a dict in it, or of None alone, is meant for each; any other goes to all as it is, as locally.

    Raises:
        MisuseError: Their number is wrong, or one is neither None nor a dict, or holds ``"reset_mask"``.
    """
    is_array = isinstance(options, np.ndarray) and options.dtype == object and options.ndim == 1
    if not is_array and (not isinstance(options, Sequence) or isinstance(options, (str, bytes, bytearray, memoryview))):
        return None
    is_none = len(options) > 0 and all(one is None for one in options)
    if not is_none and not any(isinstance(one, Mapping) for one in options):
        return None
    if len(options) != num_envs:
        raise MisuseError(
            f"options for each environment must be num_envs={num_envs} dicts, or None for none, got {len(options)}"
        )
    for index, one in enumerate(options):
        if one is not None and not isinstance(one, Mapping):
            raise MisuseError(f"options[{index}] must be a dict, or None for no options, got {one!r:.80}")
        if one is not None and "reset_mask" in one:
            raise MisuseError(
                f"options[{index}] holds 'reset_mask', which is not one environment's: options for each environment "
                f"reset them all. To reset some, pass one dict: options={{'reset_mask': mask, ...}}"
            )
    return [own_options(one) for one in options]


def masked(mask: Any, num_envs: int) -> list[int]:
    """Return the env indices where ``options["reset_mask"]`` is True.

    Raises:
        TypeError, ValueError: It is no such mask; the same as `SyncVectorEnv` raises.
    """
    if not isinstance(mask, np.ndarray):
        raise TypeError(f"`options['reset_mask']` must be a numpy array, got {type(mask)}")
    if mask.shape != (num_envs,):
        raise ValueError(f"`options['reset_mask']` must have shape `({num_envs},)`, got {mask.shape}")
    if mask.dtype != np.bool_:
        raise TypeError(f"`options['reset_mask']` must have `dtype=np.bool_`, got {mask.dtype}")
    if not mask.any():
        raise ValueError(
            f"`options['reset_mask']` must contain a boolean array with at least one True value, got reset_mask={mask}"
        )
    indices: list[int] = np.flatnonzero(mask).tolist()
    return indices


def env_indices(given: Any, num_envs: int, name: str = "env_id") -> list[int]:
    """Return the env indices that were `given` as the argument `name`, as a list.

    Raises:
        MisuseError: They are no distinct integers from 0 to num_envs - 1, at least one.
    """
    array = _array(given)
    if array is None or array.ndim != 1 or array.dtype.kind not in "iu" or not array.size:
        raise MisuseError(f"{name} must be a one-dimensional array of env indices, got {given!r:.80}")
    indices: list[int] = array.tolist()
    if len(set(indices)) != len(indices) or not 0 <= min(indices) <= max(indices) < num_envs:
        raise MisuseError(f"{name} must hold distinct env indices from 0 to {num_envs - 1}, got {indices!r:.80}")
    return indices


def _array(given: Any) -> np.ndarray[Any, Any] | None:
    try:
        return np.asarray(given)
    except ValueError:  # ragged
        return None


def whose(indices: Any, num_envs: int) -> list[int] | None:
    """Return the argument `indices` of a call as a list, None for all environments; it may be empty.

    Raises:
        MisuseError: They are no distinct integers from 0 to num_envs - 1.
    """
    if indices is None:
        return None
    if isinstance(indices, (Sequence, np.ndarray)) and not isinstance(indices, (str, bytes)) and not len(indices):
        return []
    return env_indices(indices, num_envs, "indices")


def no_seed(seed: Any, whose: str = "") -> MisuseError:
    """Return the error for what is no seed; it is also the one of Gymnasium's seeding, whose text it has."""
    text = f"{whose}Seed must be a python integer, actual type: {type(seed)}, got {seed!r:.80}"
    return also(MisuseError, gymnasium.error.Error)(text)


def verbatim(seed: Any) -> Any:
    """Return the seed for a hosted vector environment: as it is, but a sequence as a list."""
    return seed if isinstance(seed, (int, np.integer)) else list(seed)


def each_seed(seed: Any, num_envs: int) -> list[int | None]:
    """Return one seed per environment.

    Raises:
        MisuseError: It is neither None, an int, nor a sequence of `num_envs` of these.
    """
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)) and not isinstance(seed, bool):
        return [int(seed) + index for index in range(num_envs)]
    if isinstance(seed, (str, bytes)) or not hasattr(seed, "__len__"):
        raise also(MisuseError, TypeError)(
            f"seed must be None, an int, or a sequence of {num_envs} of these, got {seed!r:.80}"
        )
    if len(seed) != num_envs:
        raise MisuseError(
            f"If seeds are passed as a list the length must match num_envs={num_envs} but got length={len(seed)}."
        )
    for index, one in enumerate(seed):
        if one is not None and (not isinstance(one, (int, np.integer)) or isinstance(one, bool)):
            raise no_seed(one, f"environment {index}: ")
    return [None if one is None else int(one) for one in seed]


def each_value(given: Any, num_envs: int) -> list[Any]:
    """Return one value for each of `num_envs` environments: a list or tuple holds them, else it is the value of all.

    Raises:
        MisuseError: Their number is wrong.
    """
    if not isinstance(given, (list, tuple)):
        return [given] * num_envs
    if len(given) != num_envs:
        raise MisuseError(
            "Values must be a list or tuple with length equal to the number of environments. "
            f"Got `{len(given)}` values for {num_envs} environments."
        )
    return list(given)


def check_observation_mode(mode: object) -> None:
    """Check what a user has given as `observation_mode`: a name, or a pair of spaces.

    Raises:
        MisuseError: It is neither; what is no space is a `TypeError` as well.
    """
    if not isinstance(mode, tuple) or len(mode) != 2:
        if mode not in (SAME, DIFFERENT):
            raise MisuseError(
                f"Invalid `observation_mode`, expected: 'same' or 'different' or tuple of single and batch "
                f"observation space, actual got {mode}"
            )
    elif not all(isinstance(space, Space) for space in mode):
        raise also(MisuseError, TypeError)(
            f"Expected both elements of observation_mode to be Spaces, got {type(mode[0])} and {type(mode[1])}"
        )
