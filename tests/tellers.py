"""An environment whose infos differ in keys and types from one to the next, as ``tellers:Teller``."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np


class Teller(gym.Env[Any, Any]):
    """Deterministic in seed and actions; odd ones say floats where even ones say ints, and episodes are short."""

    def __init__(self, env_id: int = 0) -> None:
        self.env_id, self.label, self.options = env_id, 0, None
        self.observation_space = gym.spaces.Dict(
            box=gym.spaces.Box(-9, 99, (2,), np.float32), count=gym.spaces.Discrete(99), said=gym.spaces.Text(9)
        )
        self.action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def _seen(self) -> Any:
        return {"box": self.box.copy(), "count": self.count, "said": f"n{self.count}"}

    def _said(self) -> dict[str, Any]:
        said: dict[str, Any] = {"number": [self.count, self.count + 0.5][self.env_id % 2], "deep": {"id": self.env_id}}
        if self.count % 3 == self.env_id % 3:
            said = {"now": {"row": self.box.copy(), f"of {self.env_id % 2}": True}, "name": f"{self.env_id}", **said}
        return said if (self.count + self.env_id) % 4 else {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.options, self.count = options, 0
        self.length = 2 + int(self.np_random.integers(4))
        self.box = self.np_random.random(2, np.float32) + np.float32((options or {}).get("shift", 0))
        return self._seen(), {"began": self.length, **({} if options is None else {"options": dict(options)})}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        self.box = self.box + np.asarray(action, np.float32)
        over = self.count >= self.length
        return (
            self._seen(),
            float(self.box[0]),
            over and self.length % 2 == 0,
            over and self.length % 2 == 1,
            self._said(),
        )

    def told(self, text: str, times: int = 1) -> str:
        return f"{self.env_id}: {text * times}"

    def fail(self) -> None:
        raise KeyError(f"{self.env_id} was asked to")
