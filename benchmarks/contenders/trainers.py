"""Contender's process: what a trainer steps: its own local vectorisation, and remote_gym's adapter in its place.

Each trainer has one loop for its own and for ours, as in its own code. Config as in `remote.py`, and `entrypoint`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from contenders.peers import SB3_MODULE, batched_actions, makers
from contenders.stepping import NUM_BATCHES, Run, stepping
from environments import create_environment

Loop = Callable[[Any, dict[str, Any]], Run]


def _remote(adapter: Any, config: dict[str, Any]) -> Any:
    return adapter(config["addresses"][0], num_envs=config["num_envs"], client_credentials_paths=config["credentials"])


def _local(adapter: Any, config: dict[str, Any]) -> Any:
    return adapter.local(
        config["entrypoint"], config["num_envs"], entrypoint_kwargs={"name": config["env"]},
        num_workers=config["num_workers"],
    )  # fmt: skip


@contextmanager
def _running(envs: Any, loop: Loop, config: dict[str, Any]) -> Iterator[Run]:
    yield loop(envs, config)
    envs.close()


# Stable-Baselines3: an array of actions in, a list of infos out; ended episodes are begun anew in the same step.


def _sb3_loop(envs: Any, config: dict[str, Any]) -> Run:
    envs.seed(0)
    envs.reset()
    return stepping(envs.step, batched_actions(config), config["num_envs"])


def sb3_dummy(config: dict[str, Any]) -> Any:
    """Its `DummyVecEnv`: this process, one environment after the other."""
    from stable_baselines3.common.vec_env import DummyVecEnv

    return _running(DummyVecEnv(makers(config)), _sb3_loop, config)


def sb3_subproc(config: dict[str, Any]) -> Any:
    """Its `SubprocVecEnv`: a process for each environment."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([SB3_MODULE, "environments"])
    from stable_baselines3.common.vec_env import SubprocVecEnv

    return _running(SubprocVecEnv(makers(config)), _sb3_loop, config)


def sb3_remote(config: dict[str, Any]) -> Any:
    """`remote_gym.sb3.VecEnv` over mutual TLS."""
    from remote_gym.sb3 import VecEnv

    return _running(_remote(VecEnv, config), _sb3_loop, config)


def sb3_local(config: dict[str, Any]) -> Any:
    """`remote_gym.sb3.VecEnv.local`."""
    from remote_gym.sb3 import VecEnv

    return _running(_local(VecEnv, config), _sb3_loop, config)


# TorchRL: tensordicts, stepped as its collectors do: a step, and a reset of the environments whose episodes ended.


def _torchrl_loop(envs: Any, config: dict[str, Any]) -> Run:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)
    now = [envs.reset()]
    actions = [envs.rand_action(now[0].clone()).select(*envs.action_keys) for _ in range(NUM_BATCHES)]

    def step(batch: Any) -> None:
        now[0].update(batch)
        _, now[0] = envs.step_and_maybe_reset(now[0])

    return stepping(step, actions, config["num_envs"])


def _torchrl_env(name: str) -> Any:
    from torchrl.envs import GymWrapper

    return GymWrapper(create_environment(name))


def torchrl_parallel(config: dict[str, Any]) -> Any:
    """Its `ParallelEnv`: a process for each environment, shared memory."""
    from torchrl.envs import ParallelEnv

    return _running(ParallelEnv(config["num_envs"], partial(_torchrl_env, config["env"])), _torchrl_loop, config)


def torchrl_remote(config: dict[str, Any]) -> Any:
    """`remote_gym.torchrl.VectorEnv` over mutual TLS."""
    from remote_gym.torchrl import VectorEnv

    return _running(_remote(VectorEnv, config), _torchrl_loop, config)


def torchrl_local(config: dict[str, Any]) -> Any:
    """`remote_gym.torchrl.VectorEnv.local`."""
    from remote_gym.torchrl import VectorEnv

    return _running(_local(VectorEnv, config), _torchrl_loop, config)


# Tianshou: nothing is begun anew by itself; a collector resets the environments whose episodes ended, by their numbers.


def _tianshou_loop(envs: Any, config: dict[str, Any]) -> Run:
    envs.seed(0)
    envs.reset()

    def step(batch: Any) -> None:
        _, _, terminated, truncated, _ = envs.step(batch)
        over = np.flatnonzero(np.logical_or(terminated, truncated))
        if len(over):
            envs.reset(over)

    return stepping(step, batched_actions(config), config["num_envs"])


def tianshou_subproc(config: dict[str, Any]) -> Any:
    """Its `SubprocVectorEnv`: a process for each environment."""
    from tianshou.env import SubprocVectorEnv

    return _running(SubprocVectorEnv(makers(config)), _tianshou_loop, config)


def tianshou_remote(config: dict[str, Any]) -> Any:
    """`remote_gym.tianshou.VectorEnv` over mutual TLS."""
    from remote_gym.tianshou import VectorEnv

    return _running(_remote(VectorEnv, config), _tianshou_loop, config)


def tianshou_local(config: dict[str, Any]) -> Any:
    """`remote_gym.tianshou.VectorEnv.local`."""
    from remote_gym.tianshou import VectorEnv

    return _running(_local(VectorEnv, config), _tianshou_loop, config)


# Gymnasium's own, which CleanRL, RLlib and skrl step: `local.py` and `remote.py` have them.
