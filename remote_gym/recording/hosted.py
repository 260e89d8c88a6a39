"""Trainer process: what a dataset says of the environment it is of: one that can be made, not where it was hosted."""

from __future__ import annotations

import copy
from typing import Any

from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from remote_gym import RemoteVectorEnv

REMOTE = "remote_gym/Remote-v0"
"""The id that `gymnasium.make_vec` leaves as the spec of environments it has dialled, with the address."""

OF_MAKE_VEC = ("num_envs", "vectorization_mode", "vector_kwargs", "wrappers")
"""What `gymnasium.make_vec` puts among the keyword arguments of a spec: how many, and not which."""


def hosted_spec(envs: VectorEnv[Any, Any, Any]) -> EnvSpec | None:
    """Return the spec of one of the environments, as they are hosted; None if there is none."""
    base = envs.unwrapped
    spec = base.spec
    if spec is not None and spec.id == REMOTE and isinstance(base, RemoteVectorEnv):
        spec = _told(base)
    if spec is None and (made := getattr(base, "envs", None)):
        spec = made[0].spec
    if spec is not None:
        spec = copy.deepcopy(spec)
        for name in OF_MAKE_VEC:
            spec.kwargs.pop(name, None)
    return spec


def seeds_each(envs: VectorEnv[Any, Any, Any]) -> bool:
    """Whether environment i of these gets ``seed + i`` of an int, and item i of a list; others seed as they like."""
    base = envs.unwrapped
    if isinstance(base, RemoteVectorEnv):
        return not base.hosts_vector_env
    return isinstance(base, SyncVectorEnv | AsyncVectorEnv)


def _told(envs: RemoteVectorEnv) -> EnvSpec | None:
    """Ask the server anew, for a session of one environment: the user has set another spec."""
    one = copy.copy(envs)  # as by pickling: it has not dialled yet
    try:
        return one.spec
    finally:
        one.close()
