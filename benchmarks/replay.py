"""Environments that show recorded frames again, so that a benchmark measures moving them, not making them.

An entrypoint file, and the recordings: what remote observations look like, from the hardest to compress to the easiest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

Frames = np.ndarray[Any, Any]
SMALL = (84, 84, 4)


class ReplayEnv(gym.Env[Any, Any]):
    """Shows the frames of a file one after the other, over and over."""

    def __init__(self, path: str, first: int) -> None:
        """Begin each episode at frame `first`."""
        self._frames = np.load(path, mmap_mode="r")
        low, high = (0, 255) if self._frames.dtype == np.uint8 else (-np.inf, np.inf)
        self.observation_space = gym.spaces.Box(low, high, self._frames.shape[1:], self._frames.dtype.type)
        self.action_space = gym.spaces.Discrete(2)
        self._first = self._at = first

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Return to the first frame."""
        super().reset(seed=seed)
        self._at = self._first
        return np.asarray(self._frames[self._at % len(self._frames)]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Go to the next frame; episodes do not end."""
        self._at += 1
        return np.asarray(self._frames[self._at % len(self._frames)]), 1.0, False, False, {}


def create_environment(path: str, env_id: int) -> gym.Env[Any, Any]:
    """Return a replay of the file `path`; environments are 37 frames apart."""
    return ReplayEnv(path, 37 * env_id)


def noise() -> Frames:
    """Random bytes: nothing can compress them."""
    return np.random.default_rng(0).integers(0, 256, (64, *SMALL), np.uint8)


def camera() -> Frames:
    """A synthetic camera: smooth shapes that move, with a sensor's noise of two grey levels on every pixel."""
    random = np.random.default_rng(0)
    y, x, _ = np.mgrid[0:84, 0:84, 0:4]
    frames = [
        127 + 80 * np.sin((x + 3 * t) / 17) * np.cos((y - t) / 23) + random.normal(0, 2, SMALL) for t in range(64)
    ]
    return np.clip(frames, 0, 255).astype(np.uint8)


def humanoid() -> Frames:
    """No image: the 348 float64 of MuJoCo's Humanoid under a random policy."""
    return _played(gym.make("Humanoid-v5"), 512)


def breakout() -> Frames:
    """Atari as agents see it: `AtariPreprocessing` and four stacked frames of Breakout under a random policy."""
    import ale_py

    gym.register_envs(ale_py)
    game = gym.wrappers.AtariPreprocessing(gym.make("ALE/Breakout-v5", frameskip=1), frame_skip=4)
    return np.ascontiguousarray(_played(gym.wrappers.FrameStackObservation(game, 4), 512).transpose(0, 2, 3, 1))


def rendered() -> Frames:
    """CartPole's frames, (400, 600, 3), under a random policy."""
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    return _played(gym.wrappers.AddRenderObservation(env, render_only=True), 48)


def _played(env: gym.Env[Any, Any], steps: int) -> Frames:
    """Return what `env` shows under a random policy."""
    observation, _ = env.reset(seed=0)
    env.action_space.seed(0)
    frames = []
    for _ in range(steps):
        frames.append(np.asarray(observation))
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        if terminated or truncated:
            observation, _ = env.reset()
    env.close()
    return np.stack(frames)


RECORDINGS: dict[str, tuple[Callable[[], Frames], int]] = {
    "noise": (noise, 64),
    "camera": (camera, 64),
    "humanoid": (humanoid, 64),
    "breakout": (breakout, 64),
    "rendered": (rendered, 8),
}
"""How to record, and how many environments make a batch of a usual size."""


def record(names: list[str], folder: Path) -> dict[str, Path]:
    """Write the recordings called `names` into `folder`; return the file of each."""
    paths = {name: folder / f"{name}.npy" for name in names}
    for name, path in paths.items():
        np.save(path, RECORDINGS[name][0]())
    return paths
