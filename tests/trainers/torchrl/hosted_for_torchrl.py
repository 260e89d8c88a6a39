"""What the tests of TorchRL host."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

OBSERVATIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-1, 1, (3,), np.float64),
    "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "dict": spaces.Dict(
        camera=spaces.Box(0, 255, (4, 4, 1), np.uint8),
        gear=spaces.Discrete(4),
        inner=spaces.Dict(lamps=spaces.MultiBinary(3), x=spaces.Box(-1, 1, (2,), np.float64)),
    ),
}
ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-2, 2, (2,), np.float32),
    "discrete": spaces.Discrete(3),
    "multi": spaces.MultiDiscrete([3, 2]),
}


class Hosted(gym.Env[Any, Any]):
    """Observes samples of its space; its episodes have lengths of their own, and are truncated as often as terminated.

    None is shorter than the rollouts with which TorchRL looks at an environment: its transform for `SAME_STEP` would
    remember their ends.
    """

    def __init__(self, observations: str = "box", actions: str = "discrete", kill: str = "") -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observations], ACTIONS[actions]
        self.kill = kill  # a file: whoever finds it takes the worker along, once

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        self.length = int(self.np_random.integers(8, 15))
        return self._observe(), {"steps": 0, "contacts": np.zeros(3), "told": float((options or {}).get("told", 0))}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.steps += 1
        if self.kill:
            with contextlib.suppress(FileNotFoundError):  # another worker has taken it
                Path(self.kill).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        ended = self.steps == self.length
        reward = float(self.np_random.normal()) + float(np.sum(action))
        info = {"steps": self.steps, "contacts": np.full(3, self.steps / 2), "told": 0.0}
        return self._observe(), reward, ended and self.steps % 2 == 0, ended and self.steps % 2 == 1, info


def create_environment(observations: str = "box", actions: str = "discrete", kill: str = "") -> gym.Env[Any, Any]:
    return Hosted(observations, actions, kill)
