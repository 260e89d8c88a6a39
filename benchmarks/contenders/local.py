"""Contender's process: Gymnasium's own vector environments, in this process and in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
from contenders.stepping import Run, action_batches, stepping
from environments import create_environment


@contextmanager
def _running(envs: Any) -> Iterator[Run]:
    envs.reset(seed=0)
    yield stepping(envs.step, action_batches(envs.action_space), envs.num_envs)
    envs.close()


def sync(config: dict[str, Any]) -> Any:
    """Gymnasium's `SyncVectorEnv`: one process, one environment after the other."""
    return _running(gym.vector.SyncVectorEnv([lambda: create_environment(config["env"])] * config["num_envs"]))


def asynchronous(config: dict[str, Any]) -> Any:
    """Gymnasium's `AsyncVectorEnv`: a process for each environment, observations in shared memory."""
    return _running(gym.vector.AsyncVectorEnv([lambda: create_environment(config["env"])] * config["num_envs"]))


def own_vector(config: dict[str, Any]) -> Any:
    """The id's own vector environment, in this process."""
    return _running(gym.make_vec(config["env"], config["num_envs"], vectorization_mode="vector_entry_point"))
