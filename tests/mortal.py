"""An environment that dies when told to, served as ``tests/mortal.py``; deterministic in seed and actions."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

LENGTH = 6
DIE, RAISE = 2, 3


class MortalEnv(gym.Env[Any, Any]):
    observation_space = gym.spaces.Dict(
        {"draw": gym.spaces.Box(0, 1, (2,), np.float64), "count": gym.spaces.Discrete(100), "said": gym.spaces.Text(9)}
    )
    action_space = gym.spaces.Discrete(4)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        death = Path((options or {}).get("death", "/nonexistent"))
        if death.exists():  # one letter is one life
            lives = death.read_text()
            if lives:
                death.write_text(lives[1:])
                os.kill(os.getpid(), signal.SIGKILL)
        self.count = 0
        return self._observe(), {"count": 0}

    def _observe(self) -> Any:
        return {"draw": self.np_random.random(2), "count": self.count, "said": "n" + str(self.count)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action == DIE:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == RAISE:
            raise RuntimeError("told to")
        self.count += 1
        return self._observe(), float(self.count), self.count >= LENGTH, False, {"count": self.count}


def create_environment(**_kwargs: Any) -> MortalEnv:
    return MortalEnv()
