"""Environments for the benchmarks; an entrypoint file, so that the server and all peers build the very same.

Needs Gymnasium and NumPy only: peers load it in virtual environments of their own.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np

HEAVY_TAIL_MS = (1.0, 50.0)
HEAVY_TAIL_ONE_IN = 50


class ImageEnv(gym.Env[Any, Any]):
    """Returns one of a few ready (84, 84, 4) uint8 images: what is measured is moving it, not making it."""

    def __init__(self) -> None:
        """Make the images."""
        self.observation_space = gym.spaces.Box(0, 255, (84, 84, 4), np.uint8)
        self.action_space = gym.spaces.Discrete(6)
        self._images = np.random.default_rng(0).integers(0, 256, (8, 84, 84, 4), np.uint8)
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin at the first image."""
        super().reset(seed=seed)
        self._steps = 0
        return self._images[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go to the next image; an episode has a thousand steps."""
        self._steps += 1
        return self._images[self._steps % 8], 1.0, False, self._steps >= 1_000, {}


class SleepingEnv(gym.Env[Any, Any]):
    """Waits, as for a simulator on another core or machine: a step takes time, but none of this machine's.

    The waiting times come from the environment's own generator, so equal seeds wait equally.
    """

    def __init__(self, usual_ms: float, rare_ms: float = 0.0, one_in: int = 0) -> None:
        """A step takes `usual_ms`; with `one_in`, each takes `rare_ms` instead with probability ``1 / one_in``."""
        self.observation_space = gym.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.action_space = gym.spaces.Discrete(2)
        self._usual_ms, self._rare_ms, self._one_in = usual_ms, rare_ms, one_in
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin, at once."""
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(4, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Wait; an episode has a thousand steps."""
        self._steps += 1
        is_rare = self._one_in and self.np_random.integers(self._one_in) == 0
        time.sleep((self._rare_ms if is_rare else self._usual_ms) / 1_000)
        return np.full(4, self._steps / 1_000, np.float32), 1.0, False, self._steps >= 1_000, {}


def create_environment(name: str) -> gym.Env[Any, Any]:
    """Return the environment called `name`.

    ``"image"``, ``"sleep-5"`` (milliseconds), ``"heavy-tail"`` (1 ms, one step in fifty 50 ms), or a Gymnasium id.
    """
    if name == "image":
        return ImageEnv()
    if name == "heavy-tail":
        return SleepingEnv(*HEAVY_TAIL_MS, HEAVY_TAIL_ONE_IN)
    if name.startswith("sleep-"):
        return SleepingEnv(float(name.removeprefix("sleep-")))
    return gym.make(name)
