"""What Ray's processes run for `test_rllib.py`."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from remote_gym import RemoteVectorEnv


def log_samples(metrics_logger: Any, samples: Any, **_: Any) -> None:
    """Log a digest of each episode, or part of one: observations, actions and rewards, to the last bit."""
    for episode in samples:
        digest = hashlib.sha256()
        for array in (episode.get_observations(), episode.get_actions(), episode.get_rewards()):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(bytes([int(episode.is_terminated), int(episode.is_truncated)]))
        metrics_logger.log_value("digests", digest.hexdigest(), reduce="item_series")


class Runner:
    """Someone who was given environments."""

    def __init__(self, envs: RemoteVectorEnv) -> None:
        self.envs = envs

    def returns(self, seed: int, steps: int) -> Any:
        total = np.zeros(self.envs.num_envs)
        self.envs.reset(seed=seed)
        for _ in range(steps):
            total += self.envs.step(np.zeros(self.envs.num_envs, np.int64))[1]
        return total

    def close(self) -> None:
        self.envs.close()
