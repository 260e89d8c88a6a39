"""Environments that are easy to recognise, and some that would rather be something else on the page."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium as gym
import numpy as np

MARKUP = "<img src=x onerror='window.pwned=1'><script>window.pwned=1</script>"


class Counter(gym.Env[Any, Any]):
    """Its picture is of one colour, which is its number of steps: red tells it in tens, green the rest of it."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    observation_space = gym.spaces.Box(0, 1_000, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    render_mode = "rgb_array"

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        return np.full(1, self.steps, np.float32), 1.0, False, False, {}

    def render(self) -> Any:
        return np.full((60, 90, 3), (self.steps // 10 * 20, self.steps % 10 * 20, 0), np.uint8)


class Hostile(Counter):
    """Says what a browser must not obey, in whatever reaches it."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        print(MARKUP, "\x1b[31m\u202eafter", file=sys.stderr, flush=True)
        return super().reset(seed=seed)

    def render(self) -> Any:
        raise RuntimeError(MARKUP)


def counter(render_mode: str | None = None) -> gym.Env[Any, Any]:
    return Counter()


def hostile(render_mode: str | None = None) -> gym.Env[Any, Any]:
    return Hostile()
