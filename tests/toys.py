"""Toy environments for the tests, served as ``tests/toys.py`` or ``toys:function``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class FunctionEnv(gym.Env[Any, Any]):
    """An environment of two functions, so that a test states its environment in a few lines."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        step: Callable[[FunctionEnv, Any], Any] | None = None,
        reset: Callable[[FunctionEnv, Any, Any], Any] | None = None,
        observation_space: spaces.Space[Any] | None = None,
        action_space: spaces.Space[Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        self.observation_space = observation_space or spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = action_space or spaces.Discrete(3)
        self.render_mode = render_mode
        self.steps = 0
        self._step, self._reset = step, reset

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        if self._reset is not None:
            return self._reset(self, seed, options)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self._step is not None:
            return self._step(self, action)
        return self.observation_space.sample(), 1.0, self.steps >= 5, False, {}

    def render(self) -> Any:
        return np.full((4, 4, 3), self.steps, np.uint8)
