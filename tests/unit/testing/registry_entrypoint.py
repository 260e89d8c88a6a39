"""Served by `test_registry.py`: a registered environment, and what two packages need before they can be compared."""

from __future__ import annotations

import string
from typing import Any

import gymnasium as gym


class WithoutSampledAction(gym.Wrapper[Any, Any, Any, Any]):
    """highway-env's reset samples an action from a space that nothing seeds, and tells of it in the info."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, {key: value for key, value in info.items() if key not in ("action", "rewards")}


class TextMission(gym.ObservationWrapper[Any, Any, Any]):
    """minigrid's own MissionSpace cannot travel; its missions are texts."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        mission = gym.spaces.Text(1_000, charset=string.printable)
        self.observation_space = gym.spaces.Dict({**env.observation_space.spaces, "mission": mission})  # type: ignore[attr-defined]

    def observation(self, observation: Any) -> Any:
        return observation


def create_environment(id: str, render_mode: str | None = None) -> gym.Env[Any, Any]:
    env = gym.make(id, render_mode=render_mode)
    if id.startswith("highway_env:"):
        return WithoutSampledAction(env)
    if id.startswith("minigrid:"):
        return TextMission(env)
    return env
