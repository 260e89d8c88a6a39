"""Contender's process: what users would pick instead. Each runs in a virtual environment of its own (`venvs.py`)."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from contenders.stepping import Run, action_batches, stepping
from environments import create_environment

SB3_MODULE = "stable_baselines3.common.vec_env.subproc_vec_env"
PUFFER_REST_SECONDS = 0.6
"""PufferLib's workers wait busily for half a second after a step: not into the next contender's turn."""
HERE = str(Path(__file__).resolve().parents[1])


def makers(config: dict[str, Any]) -> list[Any]:
    """Return a function for each environment, that makes it."""
    return [partial(create_environment, config["env"])] * config["num_envs"]


def batched_actions(config: dict[str, Any]) -> list[Any]:
    """Return seeded action batches; made with Gymnasium, because not every peer has a batched action space."""
    from gymnasium.vector.utils import batch_space

    env = create_environment(config["env"])
    batches = action_batches(batch_space(env.action_space, config["num_envs"]))
    env.close()
    return batches


@contextmanager
def sb3(config: dict[str, Any]) -> Iterator[Run]:
    """Stable-Baselines3's `SubprocVecEnv`: a process for each environment, pickles through pipes."""
    # PyTorch is loaded once, not by each of 256 processes; that changes how they start, not how they step.
    multiprocessing.get_context("forkserver").set_forkserver_preload([SB3_MODULE, "environments"])
    from stable_baselines3.common.vec_env import SubprocVecEnv

    envs = SubprocVecEnv(makers(config))
    envs.reset()
    yield stepping(envs.step, batched_actions(config), config["num_envs"])
    envs.close()


@contextmanager
def puffer(config: dict[str, Any]) -> Iterator[Run]:
    """PufferLib's `Multiprocessing`: several environments per process, shared memory, busy waiting."""
    import pufferlib.emulation
    import pufferlib.vector

    make = partial(pufferlib.emulation.GymnasiumPufferEnv, env_creator=partial(create_environment, config["env"]))
    envs = pufferlib.vector.make(
        _puffer_env, env_kwargs={"make": make}, backend=pufferlib.vector.Multiprocessing, num_envs=config["num_envs"],
        num_workers=min(config["num_workers"], config["num_envs"]), overwork=True,
    )  # fmt: skip
    envs.reset()
    timed = stepping(envs.step, batched_actions(config), config["num_envs"])

    def run(seconds: float) -> dict[str, Any]:
        answer = timed(seconds)
        time.sleep(PUFFER_REST_SECONDS)
        return answer

    yield run
    envs.close()


def _puffer_env(make: Any, buf: Any = None, seed: int = 0) -> Any:
    return make(buf=buf, seed=seed)


@contextmanager
def ray_actors(config: dict[str, Any]) -> Iterator[Run]:
    """Ray: one actor per core, a `SyncVectorEnv` in each."""
    import gymnasium as gym
    import ray

    count = min(config["num_workers"], config["num_envs"])
    sizes = [len(part) for part in np.array_split(np.arange(config["num_envs"]), count)]

    class Actor:
        def __init__(self, path: str, env: str, num_envs: int) -> None:
            sys.path.insert(0, path)
            from environments import create_environment as create  # in the actor's process

            self.envs = gym.vector.SyncVectorEnv([lambda: create(env)] * num_envs)

        def reset(self) -> Any:
            return self.envs.reset(seed=0)

        def step(self, actions: Any) -> Any:
            return self.envs.step(actions)

    ray.init(num_cpus=count, include_dashboard=False, log_to_driver=False)
    actors = [ray.remote(Actor).remote(HERE, config["env"], size) for size in sizes]
    ray.get([actor.reset.remote() for actor in actors])
    ends = np.cumsum(sizes)[:-1]

    def step(batch: Any) -> Any:
        parts = np.array_split(batch, ends)
        results = ray.get([actor.step.remote(part) for actor, part in zip(actors, parts, strict=True)])
        return [np.concatenate(column) for column in list(zip(*results, strict=True))[:4]]

    yield stepping(step, batched_actions(config), config["num_envs"])
    ray.shutdown()


@contextmanager
def envpool(config: dict[str, Any]) -> Iterator[Run]:
    """EnvPool: the environment itself is written in C++ and runs in threads of this process."""
    import envpool as library

    envs = library.make_gymnasium(config["env"], num_envs=config["num_envs"], num_threads=config["num_workers"])
    envs.reset()
    yield stepping(envs.step, batched_actions(config), config["num_envs"])
    envs.close()


@contextmanager
def rlmesh(config: dict[str, Any]) -> Iterator[Run]:
    """RLMesh: a gRPC server in Rust, plaintext, over a `SyncVectorEnv` in a process of its own."""
    from rlmesh.numpy import RemoteVectorEnv

    code = (
        "import json, sys; sys.path.insert(0, sys.argv[2]); from contenders.peers import serve_rlmesh; "
        "serve_rlmesh(json.loads(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, json.dumps(config), HERE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        envs = RemoteVectorEnv(server.stdout.readline().strip())
        envs.reset(seed=list(range(config["num_envs"])))
        yield stepping(envs.step, batched_actions(config), config["num_envs"])
        envs.close()
        server.kill()


def serve_rlmesh(config: dict[str, Any]) -> None:
    """Serve until killed; prints the address."""
    import gymnasium as gym
    from rlmesh import EnvServer

    server = EnvServer(gym.vector.SyncVectorEnv(makers(config)))
    server.start()
    print(server.address, flush=True)
    server.wait()
