"""An environment of which every step takes a while: the entrypoint of servers that are slow, or not."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np


class PausingEnv(gym.Env[Any, Any]):
    """Counts its steps."""

    observation_space = gym.spaces.Box(0.0, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        time.sleep(self._seconds)
        self._steps += 1
        return np.full(1, self._steps, np.float32), 1.0, False, False, {}


def create_environment(seconds: float) -> gym.Env[Any, Any]:
    return PausingEnv(seconds)
