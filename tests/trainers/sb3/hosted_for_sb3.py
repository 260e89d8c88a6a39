"""Environments for Stable-Baselines3: an entrypoint file, so that a server and `DummyVecEnv` build the very same.

Needs Gymnasium and NumPy only: workers do not wait for PyTorch.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

FILE = Path(__file__)
SIDE = 36
"""Pixels of an image; the least that the network for images takes."""


class Counting(gym.Env[Any, Any]):
    """An episode of a seeded number of steps; a subclass says what is seen.

    Returns infos of all kinds and, if it may, the same buffer each time, as many environments do. (`DummyVecEnv` does
    not copy the last observation of an episode before it resets, and so gives the first one of the next in its place.)
    """

    def __init__(self, render_mode: str | None = None, reuse: bool = True) -> None:
        self.render_mode, self._reuse = render_mode, reuse
        self.action_space = spaces.Discrete(3)
        self.metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 7}
        self.steps, self.length, self.options = 0, 0, None
        self.level, self.pid = 1, os.getpid()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.options = 0, options
        self.length = int(self.np_random.integers(4, 12))
        return self.seen(), {"begins": self.length, "options": options}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps >= self.length
        # Half of the episodes are cut short, and a few of those are over as well.
        terminated, truncated = over and self.length % 2 == 0, (over and self.length % 3 == 0) or over
        info: dict[str, Any] = {"steps": self.steps, "share": np.float32(self.steps / 10), "word": "w" * self.steps}
        if self.steps % 2:
            info["contacts"] = np.arange(3) * self.steps
            info["nested"] = {"flag": True, "count": np.int64(self.steps)}
        reward = float(self.np_random.normal() + (int(np.sum(action)) == self.steps % 3))
        return self.seen(), reward, terminated, truncated, info

    def seen(self) -> Any:
        raise NotImplementedError

    def filled(self, buffer: Any) -> Any:
        return buffer if self._reuse else buffer.copy()

    def render(self) -> Any:
        return np.full((4, 6, 3), self.steps, np.uint8)


class Numbers(Counting):
    """Four numbers; the action space is chosen."""

    def __init__(self, actions: str = "discrete", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.action_space = {
            "discrete": spaces.Discrete(3),
            "multi-discrete": spaces.MultiDiscrete([2, 3]),
            "multi-binary": spaces.MultiBinary(3),
            "box": spaces.Box(-1, 1, (2,), np.float32),
            "double": spaces.Box(-1, 1, (2,), np.float64),
        }[actions]
        self.observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float32)
        self._buffer = np.zeros(4, np.float32)
        self.actions: list[Any] = []

    def seen(self) -> Any:
        self._buffer[:] = self.np_random.normal(size=4)
        self._buffer[0] = self.steps
        return self.filled(self._buffer)

    def step(self, action: Any) -> Any:
        self.last_action = [str(getattr(action, "dtype", type(action).__name__)), np.array(action).tolist()]
        return super().step(action)

    def action_masks(self) -> Any:
        return np.array([True, self.steps % 2 == 0, self.steps % 3 == 0])

    def scaled(self, by: int, *, plus: int = 0) -> int:
        return self.steps * by + plus


class Images(Counting):
    """One channel, last."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)
        self._buffer = np.zeros((SIDE, SIDE, 1), np.uint8)

    def seen(self) -> Any:
        self._buffer[:] = self.np_random.integers(0, 256, self._buffer.shape)
        return self.filled(self._buffer)


class Both(Counting):
    """A dict of an image, numbers, and a choice; its keys come in another order than the space's."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Dict(
            {
                "image": spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8),
                "choice": spaces.Discrete(5),
                "numbers": spaces.Box(-np.inf, np.inf, (3,), np.float32),
            }
        )
        self._image = np.zeros((SIDE, SIDE, 1), np.uint8)

    def seen(self) -> Any:
        self._image[:] = self.np_random.integers(0, 256, self._image.shape)
        numbers = self.np_random.normal(size=3).astype(np.float32)
        return {"numbers": numbers, "image": self.filled(self._image), "choice": int(self.np_random.integers(5))}


class Pair(Counting):
    """A tuple, which Stable-Baselines3 passes on and its policies do not take."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Tuple((spaces.Discrete(50), spaces.Box(-9, 9, (2,), np.float32)))

    def seen(self) -> Any:
        return self.steps, self.np_random.uniform(-9, 9, 2).astype(np.float32)


class Nested(Counting):
    """A dict within a dict, which Stable-Baselines3 does not take."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Dict({"a": spaces.Dict({"b": spaces.Discrete(50)})})

    def seen(self) -> Any:
        return {"a": {"b": self.steps}}


class Flipping(gym.Env[Any, Any]):
    """Flip bits until they are as the goal says: for hindsight experience replay."""

    BITS = 5

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.action_space = spaces.Box(-1, 1, (self.BITS,), np.float32)
        bits = spaces.Box(0, 1, (self.BITS,), np.float32)
        self.observation_space = spaces.Dict({"observation": bits, "achieved_goal": bits, "desired_goal": bits})
        self.bits, self.goal = np.zeros(self.BITS, np.float32), np.ones(self.BITS, np.float32)
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        self.bits = self.np_random.integers(0, 2, self.BITS).astype(np.float32)
        return self.seen(), {}

    def seen(self) -> Any:
        return {"observation": self.bits.copy(), "achieved_goal": self.bits.copy(), "desired_goal": self.goal.copy()}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.bits = np.where(action > 0, 1 - self.bits, self.bits).astype(np.float32)
        reward = float(self.compute_reward(self.bits, self.goal, {}))
        return self.seen(), reward, reward == 0.0, self.steps >= 6, {"is_success": reward == 0.0}

    def compute_reward(self, achieved: Any, desired: Any, info: Any) -> Any:
        return -(np.abs(achieved - desired).sum(axis=-1) > 0).astype(np.float32)


class Loose(Counting):
    """Infos whose arrays differ in shape and whose values differ in type, from environment to environment."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.observation_space = spaces.Discrete(50)

    def seen(self) -> Any:
        return self.steps

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = super().step(action)
        info["contacts"] = np.zeros(self.length)
        info["odd"] = "text" if self.length % 2 else {"of": self.length}
        return observation, reward, terminated, truncated, info


KINDS = {
    "numbers": Numbers, "images": Images, "both": Both, "pair": Pair, "nested": Nested, "flipping": Flipping,
    "loose": Loose,
}  # fmt: skip


class Outer(gym.Wrapper[Any, Any, Any, Any]):
    """A wrapper that is known by its name."""


def create_environment(
    kind: str = "numbers",
    env_id: int = 0,
    render_mode: str | None = None,
    enable_rendering: bool = False,
    wrapped: str = "",
    **kwargs: Any,
) -> gym.Env[Any, Any]:
    """Return an environment of a kind, or of a Gymnasium id; `wrapped`: ``"outer"``, ``"monitor"`` (odd ones only)."""
    if kind not in KINDS:
        env: gym.Env[Any, Any] = gym.make(kind, render_mode=render_mode, **kwargs)
    else:
        env = KINDS[kind](render_mode=render_mode, **kwargs)
    if wrapped == "outer":
        return Outer(env)
    if wrapped == "outer-monitor" or (wrapped == "monitor" and env_id % 2):
        from stable_baselines3.common.monitor import Monitor

        return Monitor(env)
    return env
