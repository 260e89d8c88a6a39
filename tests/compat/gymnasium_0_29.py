"""What the vector environments of Gymnasium 0.29 say in their infos, recorded: ``gymnasium_0_29.json`` is by 0.29.1.

To record it anew: ``python -m venv old && old/bin/pip install gymnasium==0.29.1 'numpy<2' && old/bin/python
tests/compat/gymnasium_0_29.py``. The environment here runs under that version and under the one of today.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

RECORDING = Path(__file__).with_suffix(".json")
NUM_ENVS, STEPS, SEED = 3, 14, 4


class Telling(gym.Env):  # type: ignore[type-arg] # 0.29 has no parameters at run time
    """Short episodes of different lengths, and infos of every kind; in some steps of none."""

    observation_space = gym.spaces.Box(0, 99, (2,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.length, self.steps = int(self.np_random.integers(1, 6)), 0
        return np.zeros(2, np.float32), {"began": self.length, "length": np.full(2, self.length)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        info: dict[str, Any] = {}
        if self.steps % 3:
            info = {"steps": self.steps, "rate": self.steps / 2, "odd": bool(self.steps % 2), "name": str(self.steps)}
            info.update(parts={"f": np.float32(self.steps), "deep": {"x": 1}}, row=np.full(2, self.steps), none=None)
            info.update(small=np.int8(self.steps), items=[self.steps], flag=np.bool_(self.steps % 2))
        over = self.steps >= self.length
        return np.full(2, self.steps, np.float32), 1.0, over and self.steps % 2 == 0, over and self.steps % 2 == 1, info


def told(value: Any) -> Any:
    """Return a value with its types, as JSON can hold it."""
    if isinstance(value, dict):
        return {"dict": [[key, told(below)] for key, below in value.items()]}
    if isinstance(value, np.ndarray):
        return {"array": [value.dtype.name, list(value.shape), [told(one) for one in value.ravel().tolist()]]}
    if isinstance(value, np.generic):
        return {"scalar": [value.dtype.name, value.item()]}
    return {type(value).__name__: [told(one) for one in value] if isinstance(value, list) else value}


def record(envs: Any) -> list[Any]:
    """Return what a reset and some steps give: observations and infos."""
    results = [envs.reset(seed=SEED)]
    for _ in range(STEPS):
        observations, *_, infos = envs.step(np.zeros(NUM_ENVS, np.int64))
        results.append((observations, infos))
    return [[told(observations), told(infos)] for observations, infos in results]


if __name__ == "__main__":
    assert gym.__version__ == "0.29.1", gym.__version__
    lines = ",\n".join(map(json.dumps, record(gym.vector.SyncVectorEnv([Telling] * NUM_ENVS))))
    RECORDING.write_text(f"[\n{lines}\n]\n")
