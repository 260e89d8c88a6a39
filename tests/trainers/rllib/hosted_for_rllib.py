"""Hosted by `test_rllib.py`: CartPoles that fail in one way or another."""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium as gym


class Failing(gym.Wrapper[Any, Any, Any, Any]):
    """Raises, or kills its worker, in one of its steps; once, counted over all its episodes."""

    def __init__(self, env: gym.Env[Any, Any], at: int, kills: bool) -> None:
        super().__init__(env)
        self.left, self.kills = at, kills

    def step(self, action: Any) -> Any:
        self.left -= 1
        if self.left == 0 and self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.left == 0:
            raise ZeroDivisionError("a simulator's mistake")
        return self.env.step(action)


def create_environment(env_id: int, at: int = 40, kills: bool = False) -> gym.Env[Any, Any]:
    """What the server hosts: only the first environment fails."""
    env = gym.make("CartPole-v1")
    return Failing(env, at, kills) if env_id == 0 else env
