"""A class that takes what `DummyVecEnv` takes, for tests that others have written of those.

Their environments are made by functions within functions, which no server can import. So they travel as a file, pickled
by the library that `SubprocVecEnv` uses for it too, to a server in this process; and this file is its entrypoint. Its
only worker makes the environments in the order of their indices.
"""

from __future__ import annotations

import atexit
import itertools
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym

from remote_gym import RemoteEnvironmentServer, create_remote_environment_server
from remote_gym.sb3 import VecEnv


@lru_cache(maxsize=None)
def server() -> RemoteEnvironmentServer:
    """Return the server of all of them: its worker imports PyTorch, and that once."""
    folder = tempfile.TemporaryDirectory()
    made = create_remote_environment_server(
        {"entrypoint": __file__}, f"unix:{folder.name}/socket", num_workers=1
    )
    atexit.register(folder.cleanup)
    atexit.register(made.stop)
    return made


class OurVecEnv(VecEnv):
    """`VecEnv` over a server that hosts what these functions make."""

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "functions.pickle"
            file.write_bytes(cloudpickle.dumps(list(env_fns)))
            super().__init__(
                server().address, num_envs=len(env_fns), remote_args={"entrypoint_kwargs": {"file": str(file)}}
            )


_next: dict[str, Iterator[int]] = defaultdict(itertools.count)


def create_environment(file: str) -> gym.Env[Any, Any]:
    """Make the environment whose turn it is."""
    env: gym.Env[Any, Any] = cloudpickle.loads(Path(file).read_bytes())[next(_next[file])]()
    return env
