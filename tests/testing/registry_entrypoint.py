"""Served by `test_registry.py`: a registered environment, and what two packages need before they can be compared."""

from __future__ import annotations

from typing import Any

import gymnasium as gym


class WithoutSampledAction(gym.Wrapper[Any, Any, Any, Any]):
    """highway-env's reset puts ``action_space.sample()`` of a space that nothing seeds into its info."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(seed=seed, options=options)
        info.pop("action", None)
        return observation, info


def create_environment(id: str, render_mode: str | None = None) -> gym.Env[Any, Any]:
    env = gym.make(id, render_mode=render_mode)
    if id.startswith("highway_env:"):
        return WithoutSampledAction(env)
    if id.startswith("minigrid:"):
        from minigrid.wrappers import DictObservationSpaceWrapper

        return DictObservationSpaceWrapper(env)  # its own MissionSpace cannot travel; this makes it a MultiDiscrete
    return env
