"""What the tests of rl_games host."""

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
    "whole": spaces.Box(-5, 5, (3,), np.int32),
    "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "dict": spaces.Dict(camera=spaces.Box(0, 255, (4, 4, 1), np.uint8), obs=spaces.Box(-1, 1, (2,), np.float64)),
    "asymmetric": spaces.Dict(obs=spaces.Box(-1, 1, (3,)), states=spaces.Box(-1, 1, (5,), np.float64)),
    "asymmetric, as workers have it": spaces.Dict(obs=spaces.Box(-1, 1, (3,)), state=spaces.Box(-1, 1, (5,))),
    "discrete": spaces.Discrete(4),
    "nested": spaces.Dict(inner=spaces.Dict(x=spaces.Box(-1, 1, (2,)))),
}  # fmt: skip
ACTIONS: dict[str, spaces.Space[Any]] = {
    "box": spaces.Box(-2, 2, (2,), np.float32),
    "discrete": spaces.Discrete(3),
    "shifted": spaces.Discrete(3, start=5),
    "multi": spaces.MultiDiscrete([3, 2]),
    "tuple": spaces.Tuple([spaces.Discrete(3), spaces.Discrete(2, start=-1)]),
    "binary": spaces.MultiBinary(3),
}


class Hosted(gym.Env[Any, Any]):
    """Observes samples of its space; says in its info what it was given, and a score at the end."""

    def __init__(self, observations: str = "box", actions: str = "discrete", masks: str = "", kill: str = "") -> None:
        self.observation_space, self.action_space = OBSERVATIONS[observations], ACTIONS[actions]
        self.masks = masks
        self.kill = kill  # a file: whoever finds it takes the worker along, once
        self.frames = 0
        self.steps = 0

    def _observe(self) -> Any:
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        return self.observation_space.sample()

    def _mask(self) -> Any:
        return np.array([True, self.steps % 2 == 0, False])

    def _info(self) -> dict[str, Any]:
        info = {"lives": self.lives - self.steps}
        return {**info, "action_mask": self._mask()} if self.masks == "info" else info

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        self.lives = int(self.np_random.integers(3, 9))
        return self._observe(), self._info()

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.kill:
            with contextlib.suppress(FileNotFoundError):  # another worker has taken it
                Path(self.kill).unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        assert self.action_space.contains(action), action
        if self.masks:
            assert action != 2
        info = {**self._info(), "given": float(np.sum(action))}
        ended = self.steps == self.lives
        if ended:
            info |= {"scores": float(self.steps), "episode": {"r": float(self.steps)}}
        terminated = ended and self.lives % 3 != 0
        truncated = ended and self.lives % 3 != 1
        return self._observe(), float(self.np_random.normal()), terminated, truncated, info

    def set_train_info(self, frames: int) -> None:
        self.frames = frames


class Masked(Hosted):
    """Answers which actions it allows, as rl_games' own environments do."""

    def get_action_mask(self) -> Any:
        return self._mask()[None]


class Stateful(Hosted):
    """Has a state for checkpoints."""

    def get_env_state(self) -> int:
        return self.frames

    def set_env_state(self, state: int) -> None:
        self.frames = state


def create_environment(
    kind: str = "Hosted", observations: str = "box", actions: str = "discrete", masks: str = "", kill: str = ""
) -> gym.Env[Any, Any]:
    kinds: dict[str, type[Hosted]] = {"Hosted": Hosted, "Masked": Masked, "Stateful": Stateful}
    return kinds[kind](observations, actions, masks, kill)
