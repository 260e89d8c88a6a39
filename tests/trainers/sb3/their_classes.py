"""A class that takes what `DummyVecEnv` takes, for tests that others have written of those.

Their environments are made by functions within functions, which no server can import. So they travel as a file, pickled
by the library that `SubprocVecEnv` uses for it too, to a server of this machine; and this file is its entrypoint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym

from remote_gym import RemoteVectorEnv
from remote_gym.sb3 import VecEnv


class OurVecEnv(VecEnv):
    """`VecEnv` over a server of its own, which hosts what these functions make."""

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]], num_workers: int = 1) -> None:
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "functions.pickle"
        file.write_bytes(cloudpickle.dumps(list(env_fns)))
        make = partial(RemoteVectorEnv.local, __file__, len(env_fns), entrypoint_kwargs={"file": str(file)})
        self._begin(make(num_workers=num_workers, autoreset_mode="SameStep", info_format="list"))

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


def create_environment(file: str, env_id: int) -> gym.Env[Any, Any]:
    """Make the environment of this number; a fresh server counts from 0 on."""
    env: gym.Env[Any, Any] = cloudpickle.loads(Path(file).read_bytes())[env_id]()
    return env
