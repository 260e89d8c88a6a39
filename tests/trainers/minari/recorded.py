"""An environment with spaces of every kind that Minari stores, hosted by the tests beside and made in them too."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

SPACES: dict[str, Callable[[], spaces.Space[Any]]] = {
    "box": lambda: spaces.Box(-1, 1, (3,), np.float32),
    "box scalar": lambda: spaces.Box(-1, 1, (), np.float64),
    "discrete": lambda: spaces.Discrete(5, start=-2),
    "multi discrete": lambda: spaces.MultiDiscrete([3, 2], dtype=np.int32),
    "multi binary": lambda: spaces.MultiBinary(4),
    "text": lambda: spaces.Text(9, charset="añ€😀 "),
    "image": lambda: spaces.Box(0, 255, (40, 32, 3), np.uint8),
    "dict": lambda: spaces.Dict({"b": spaces.Box(-1, 1, (2,), np.float64), "a": spaces.Discrete(3)}),
    "tuple": lambda: spaces.Tuple((spaces.MultiBinary(2), spaces.Discrete(4, start=1))),
    "nested": lambda: spaces.Dict(
        {
            "z": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"k": spaces.Box(0, 255, (2, 2), np.uint8)}))),
            "c": spaces.Dict({"x": spaces.Box(-1, 1, (1,), np.float32), "said": spaces.Text(4)}),
        }
    ),
}


class Recorded(gym.Env[Any, Any]):
    """Observes samples of its space; its episodes terminate or are truncated at random; its infos are nested."""

    def __init__(self, kind: str = "box", uneven: bool = False, length: int = 0) -> None:
        """Observe and act in `SPACES[kind]`; with `uneven` its infos are not alike, with `length` its episodes are."""
        self.observation_space, self.action_space = SPACES[kind](), SPACES[kind]()
        self.uneven, self.length = uneven, length
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = (options or {}).get("from", 0)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample(), self._info()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        ended = int(self.np_random.integers(9)) if not self.length else 2 - 2 * (self.steps == self.length)
        reward = float(self.np_random.normal())
        return self.observation_space.sample(), reward, ended == 0, ended == 1, self._info()

    def die(self) -> None:
        """End this worker, from outside of any step."""
        os.kill(os.getpid(), signal.SIGKILL)

    def _info(self) -> dict[str, Any]:
        told = {"at": np.array([self.steps, 7], np.int16), "nested": {"half": self.steps / 2, "steps": self.steps}}
        return {**told, "odd": True} if self.uneven and self.steps % 2 else told


class Mortal(Recorded):
    """Kills its worker in the step whose action has a first element above 0.5."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if np.ravel(action)[0] > 0.5:
            self.die()
        return super().step(action)


def create_environment(kind: str = "box", mortal: bool = False, **kwargs: Any) -> gym.Env[Any, Any]:
    """What the server hosts."""
    own = {name: value for name, value in kwargs.items() if name in ("uneven", "length")}
    return (Mortal if mortal else Recorded)(kind, **own)
