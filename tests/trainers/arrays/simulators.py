"""Simulators of many environments at once, in PyTorch on the CPU, each with the interface of one that needs a GPU.

They are entrypoints too: ``create_vector_environment(num_envs, kind=...)`` hosts one through `remote_gym.hosting`. What
the interfaces are like was read in Isaac Lab's `ManagerBasedRLEnv` and `DirectRLEnv`, ManiSkill's `BaseEnv` and
`ManiSkillVectorEnv`, and MuJoCo Playground's `RSLRLBraxWrapper`: whose buffers live on from step to step, who resets
what has ended before observing, what is in the extras. The physics, points that are pushed about, is these tests' own.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from remote_gym.hosting import batched

MAX_STEPS = 9
DEADLY = 90.0
"""A push that no process survives."""


class Points:
    """Points on a plane, one for each environment, all pushed at once."""

    def __init__(self, num_envs: int, device: str = "cpu") -> None:
        self.num_envs = num_envs
        self.device = torch.device(device)
        self.generator = torch.Generator(device=self.device)
        self.at = torch.zeros(num_envs, 2, device=self.device)
        self.steps = torch.zeros(num_envs, dtype=torch.long, device=self.device)

    def place(self, ids: torch.Tensor) -> None:
        self.at[ids] = torch.rand(len(ids), 2, generator=self.generator, device=self.device) - 0.5
        self.steps[ids] = 0

    def push(self, by: torch.Tensor) -> None:
        assert isinstance(by, torch.Tensor) and by.device == self.device
        if by.max() > DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        self.at += 0.3 * by.to(torch.float32)
        self.steps += 1

    @property
    def far(self) -> torch.Tensor:
        return self.at.norm(dim=1) > 1.0


class LabEnv(gym.Env[Any, Any]):
    """As `isaaclab.envs.ManagerBasedRLEnv`: resets what has ended by itself, and tells no final observation."""

    is_vector_env = True
    metadata = {"render_modes": [None, "human", "rgb_array"], "render_fps": 50}

    def __init__(self, num_envs: int, render_mode: str | None = None) -> None:
        self.points = Points(num_envs)
        self.render_mode = render_mode
        self.extras: dict[str, Any] = {}
        self.single_observation_space = spaces.Dict()
        self.single_observation_space["policy"] = spaces.Box(-np.inf, np.inf, (4,))
        self.single_observation_space["critic"] = spaces.Dict(
            {"at": spaces.Box(-np.inf, np.inf, (2,)), "steps": spaces.Box(0, 99, (1,), np.int64)}
        )
        self.single_action_space = spaces.Box(-np.inf, np.inf, (2,))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.reset_terminated = torch.zeros(num_envs, dtype=torch.bool)
        self.reset_time_outs = torch.zeros(num_envs, dtype=torch.bool)
        self.gains = torch.ones(num_envs)
        self.gravity = 9.81
        self._last = torch.zeros(num_envs, 2)

    @property
    def num_envs(self) -> int:
        return self.points.num_envs

    @property
    def device(self) -> torch.device:
        return self.points.device

    @property
    def max_episode_length(self) -> int:
        return MAX_STEPS

    @property
    def episode_length_buf(self) -> torch.Tensor:
        return self.points.steps

    def _observe(self) -> dict[str, Any]:
        at = self.points.at
        return {"policy": torch.cat([at, self._last], dim=1), "critic": {"at": at, "steps": self.points.steps[:, None]}}

    def _reset_idx(self, ids: torch.Tensor) -> None:
        self.extras["log"] = {
            "Episode_Reward/near": self.points.at[ids].norm(dim=1).mean(),
            "Episode_Termination/far": int(self.reset_terminated[ids].sum()),
            "Curriculum/gravity": self.gravity,
        }
        self.points.place(ids)
        self._last[ids] = 0

    def reset(self, *, seed: int | None = None, options: Any = None, env_ids: Any = None) -> Any:
        if seed is not None:
            assert isinstance(seed, int)
            self.points.generator.manual_seed(seed)
        self._reset_idx(torch.arange(self.num_envs) if env_ids is None else env_ids)
        return self._observe(), self.extras

    def step(self, action: torch.Tensor) -> Any:
        self.points.push(action.to(self.device) * self.gains[:, None])
        self._last[:] = action
        reward = -self.points.at.square().sum(dim=1)
        self.reset_terminated[:] = self.points.far
        self.reset_time_outs[:] = self.points.steps >= MAX_STEPS
        ids = (self.reset_terminated | self.reset_time_outs).nonzero().squeeze(-1)
        if len(ids):
            self._reset_idx(ids)
        self.extras["time_outs"] = self.reset_time_outs
        return self._observe(), reward, self.reset_terminated, self.reset_time_outs, self.extras

    def render(self) -> np.ndarray[Any, Any] | None:
        return None if self.render_mode is None else np.full((4, 6, 3), int(self.points.steps[0]), np.uint8)


class SkillEnv(gym.Env[Any, Any]):
    """As `mani_skill.envs.BaseEnv`: takes tensors or arrays, resets some by ``options["env_idx"]``, ends nothing."""

    metadata = {"render_modes": ("human", "rgb_array")}

    def __init__(self, num_envs: int = 1, render_mode: str | None = None) -> None:
        self.num_envs = num_envs
        self.points = Points(num_envs)
        self.device = self.points.device
        self.render_mode = render_mode
        self.single_observation_space = spaces.Dict(
            {
                "state": spaces.Box(-np.inf, np.inf, (2,), np.float32),
                "sensor_data": spaces.Dict({"rgb": spaces.Box(0, 255, (6, 8, 3), np.uint8)}),
                "extra": spaces.Dict({"near": spaces.Box(np.zeros(1), np.ones(1), dtype=np.bool_)}),
            }
        )
        self.single_action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    @property
    def elapsed_steps(self) -> torch.Tensor:
        return self.points.steps

    def _observe(self) -> dict[str, Any]:
        at = self.points.at
        rgb = (at.sum(dim=1).abs() * 40).to(torch.uint8)[:, None, None, None].expand(-1, 6, 8, 3)
        return {"state": at.clone(), "sensor_data": {"rgb": rgb}, "extra": {"near": at.norm(dim=1, keepdim=True) < 0.5}}

    def reset(self, *, seed: int | list[int] | None = None, options: Any = None) -> Any:
        options = options or {}
        if seed is not None:
            self.points.generator.manual_seed(seed if isinstance(seed, int) else sum(seed))
        self.points.place(torch.as_tensor(options.get("env_idx", torch.arange(self.num_envs))))
        return self._observe(), {"reconfigure": bool(options.get("reconfigure", False))}

    def step(self, action: Any) -> Any:
        self.points.push(torch.as_tensor(action, device=self.device))
        success = self.points.at.norm(dim=1) < 0.1
        info = {"success": success, "elapsed_steps": self.points.steps.clone(), "stage": "push"}
        return (
            self._observe(),
            -self.points.at.norm(dim=1),
            success | self.points.far,
            self.points.steps >= MAX_STEPS,
            info,
        )

    def render(self) -> torch.Tensor:
        return self._observe()["sensor_data"]["rgb"]


class SkillVectorEnv(VectorEnv[Any, Any, Any]):
    """As `mani_skill.vector.wrappers.gymnasium.ManiSkillVectorEnv`, with its keys of Gymnasium 0.29 and metrics."""

    def __init__(self, env: gym.Env[Any, Any], auto_reset: bool = True, record_metrics: bool = True) -> None:
        self._env = env
        base = env.unwrapped
        self.num_envs = base.num_envs
        self.auto_reset, self.record_metrics = auto_reset, record_metrics
        self.single_observation_space = env.get_wrapper_attr("single_observation_space")
        self.single_action_space = env.get_wrapper_attr("single_action_space")
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.returns = torch.zeros(self.num_envs)

    @property
    def device(self) -> torch.device:
        return self.unwrapped.device

    @property
    def unwrapped(self) -> Any:
        return self._env.unwrapped

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observation, info = self._env.reset(seed=seed, options=options)
        self.returns[options["env_idx"] if options and "env_idx" in options else slice(None)] = 0
        return observation, info

    def step(self, actions: Any) -> Any:
        observation, reward, terminations, truncations, infos = self._env.step(actions)
        self.returns += reward
        if self.record_metrics:
            infos["episode"] = {"return": self.returns.clone(), "episode_len": self.unwrapped.elapsed_steps.clone()}
        dones = terminations | truncations
        if dones.any() and self.auto_reset:
            final = {"final_observation": observation, "final_info": infos}
            observation, infos = self.reset(options={"env_idx": torch.arange(self.num_envs)[dones]})
            infos.update(final, _final_info=dones, _final_observation=dones, _elapsed_steps=dones)
        return observation, reward, terminations, truncations, infos

    def render(self) -> Any:
        return self.unwrapped.render()

    def close_extras(self, **_kwargs: Any) -> None:
        self._env.close()


class PlaygroundEnv:
    """As `mujoco_playground.wrapper_torch.RSLRLBraxWrapper`: no spaces, no seeds, and a step of four."""

    def __init__(self, num_envs: int, seed: int = 0) -> None:
        self.num_envs, self.num_obs, self.num_actions = num_envs, 2, 2
        self.points = Points(num_envs)
        self.points.generator.manual_seed(seed)
        self.device = "cpu"

    def reset(self) -> Any:
        self.points.place(torch.arange(self.num_envs))
        return self.get_observations()

    def get_observations(self) -> Any:
        return {"state": self.points.at.clone()}

    def step(self, action: torch.Tensor) -> Any:
        self.points.push(torch.clip(action, -1.0, 1.0))
        time_outs = (self.points.steps >= MAX_STEPS).float()
        done = torch.maximum(time_outs, self.points.far.float())
        reward = -self.points.at.norm(dim=1)
        self.points.place(done.nonzero().squeeze(-1))
        info = {"time_outs": time_outs, "observations": {"critic": None}, "log": {"reward": np.mean(reward.numpy())}}
        return self.get_observations(), reward, done, info

    def close(self) -> None:
        """Nothing to release."""


def lab(num_envs: int, render_mode: str | None = None) -> Any:
    """What ``gymnasium.make`` gives of one: within wrappers."""
    return gym.wrappers.OrderEnforcing(LabEnv(num_envs, render_mode))


def skill(num_envs: int, auto_reset: bool = True, render_mode: str | None = None) -> Any:
    return SkillVectorEnv(gym.wrappers.OrderEnforcing(SkillEnv(num_envs, render_mode)), auto_reset)


def create_vector_environment(
    num_envs: int,
    kind: str = "lab",
    render_mode: str | None = None,
    seed: int = 0,
    auto_reset: bool = True,
    fixed: int | None = None,
) -> VectorEnv[Any, Any, Any]:
    """What an owner writes, for all three; `fixed` is the size of a scene that has only this one."""
    num_envs = num_envs if fixed is None else fixed
    if kind == "playground":
        return batched(
            PlaygroundEnv(num_envs, seed),
            single_observation_space=spaces.Dict({"state": spaces.Box(-np.inf, np.inf, (2,))}),
            single_action_space=spaces.Box(-1, 1, (2,)),
        )
    if kind == "lab":
        return batched(lab(num_envs, render_mode))
    return batched(skill(num_envs, auto_reset, render_mode), reset_option="env_idx")
