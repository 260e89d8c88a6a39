"""Environments for the benchmarks; an entrypoint file, so the server and the local peers build the very same."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


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


def create_environment(name: str) -> gym.Env[Any, Any]:
    """Return the environment called `name`: ``"image"``, or a Gymnasium id."""
    return ImageEnv() if name == "image" else gym.make(name)
