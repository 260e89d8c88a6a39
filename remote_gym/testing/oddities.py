"""No I/O: what of a result is odd, and which rule says how it must come all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym.testing.bases import holds_subclass
from remote_gym.testing.rules import Rule

LARGE_BYTES = 2**20
"""An array or string from here on is at a limit: far above what infos usually hold."""

_REWARDS = (int, float, np.integer, np.floating, np.bool_)
_FLAGS = (bool, np.bool_)


def is_declared(space: spaces.Space[Any], observation: Any) -> bool:
    """Return whether an observation has the structure, dtypes and shapes that its space says; not: the bounds."""
    if isinstance(space, spaces.Dict):
        same = isinstance(observation, dict) and set(observation) == set(space.spaces)
        return same and all(is_declared(child, observation[key]) for key, child in space.spaces.items())
    if isinstance(space, spaces.Tuple):
        same = isinstance(observation, tuple) and len(observation) == len(space.spaces)
        return same and all(map(is_declared, space.spaces, observation))
    if isinstance(space, spaces.Discrete):
        return isinstance(observation, (int, np.integer)) and not isinstance(observation, bool)
    if isinstance(space, (spaces.Box, spaces.MultiBinary, spaces.MultiDiscrete)):
        declared = space.dtype, space.shape
        return isinstance(observation, (np.ndarray, np.generic)) and (observation.dtype, observation.shape) == declared
    return True


def is_at_limit(value: Any) -> bool:
    """Return whether a value, or one in it, is a number beyond 64 bits or not finite, or takes a MiB or more."""
    if isinstance(value, dict):
        return any(map(is_at_limit, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(map(is_at_limit, value))
    if isinstance(value, np.ndarray) and value.dtype == object:
        return any(map(is_at_limit, value.flat))
    if isinstance(value, (np.ndarray, np.generic)):
        infinite = value.dtype.kind in "fc" and not np.isfinite(value).all()
        return bool(infinite or value.nbytes >= LARGE_BYTES)
    if isinstance(value, int):
        return not -(2**63) <= value < 2**63
    if isinstance(value, (float, complex)):
        return not np.isfinite(value)
    return isinstance(value, (str, bytes, bytearray)) and len(value) >= LARGE_BYTES


def is_odd_scalar(value: Any, is_reward: bool) -> bool:
    """Return whether a reward, or else a flag, is neither what Gymnasium says it is nor an array of these."""
    return not isinstance(value, _REWARDS if is_reward else _FLAGS)


def scalar_rule(local: Any, is_reward: bool, usual: Rule, batched: bool) -> Rule:
    """Return the rule that a reward or flag breaks which is not the local one."""
    if is_reward and is_at_limit(local):
        return Rule.LIMITS
    return Rule.ODD_RESULTS if not batched and is_odd_scalar(local, is_reward) else usual


def rules_of(space: spaces.Space[Any] | None, action: Any, result: Any) -> list[Rule]:
    """Return the rules besides the usual ones that a step, or a reset, falls under.

    Args:
        space: Of the observations of a single environment; None for those of a batch, which is as declared.
        action: What the step was given; None of a reset.
        result: What the local environment returned.
    """
    observation, *scalars, info = result
    found: dict[Rule, Callable[[], bool]] = {
        Rule.LIMITS: lambda: is_at_limit(scalars[:1]) or is_at_limit(info) or _is_empty(action),
        Rule.ODD_RESULTS: lambda: (
            space is not None
            and (
                not is_declared(space, observation)
                or any(is_odd_scalar(scalar, at == 0) for at, scalar in enumerate(scalars))
                or type(info) is not dict
            )
        ),
        Rule.SUBCLASSES: lambda: holds_subclass(info),
    }
    return [rule for rule, holds in found.items() if holds()]


def _is_empty(action: Any) -> bool:
    if isinstance(action, (dict, tuple)):
        items: Iterable[Any] = action.values() if isinstance(action, dict) else action
        return all(map(_is_empty, items))
    return isinstance(action, np.ndarray) and action.size == 0
