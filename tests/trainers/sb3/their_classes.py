"""A class that takes what `DummyVecEnv` takes, for tests that others have written of those.

Their environments are made by functions within functions, which no server can import. So they travel as a file, pickled
by the library that `SubprocVecEnv` uses for it too, to a server of this machine; and this file is its entrypoint. Its
only worker makes the environments in the order of their indices.
"""

from __future__ import annotations

import atexit
import itertools
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import cloudpickle
import gymnasium as gym

from remote_gym.sb3 import VecEnv


@cache
def address() -> str:
    """Return where the server of all of them is: its worker imports PyTorch, and that once."""
    folder = tempfile.TemporaryDirectory()
    command = [sys.executable, "-m", "remote_gym", "serve", __file__, "--url", f"unix:{folder.name}/socket"]
    process = subprocess.Popen([*command, "--num-workers", "1"], stdout=subprocess.PIPE, text=True)

    def end() -> None:
        process.terminate()
        process.communicate(timeout=20)
        folder.cleanup()

    atexit.register(end)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("remote-gym ready on "), line
    return line.split()[-1]


class OurVecEnv(VecEnv):
    """`VecEnv` over a server that hosts what these functions make."""

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env[Any, Any]]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "functions.pickle"
            file.write_bytes(cloudpickle.dumps(list(env_fns)))
            super().__init__(address(), num_envs=len(env_fns), remote_args={"entrypoint_kwargs": {"file": str(file)}})


_next: dict[str, Iterator[int]] = defaultdict(itertools.count)


def create_environment(file: str = "") -> gym.Env[Any, Any]:
    """Make the environment whose turn it is. Without a file it is the server that tries whether this works."""
    if not file:
        return gym.make("CartPole-v1")
    env: gym.Env[Any, Any] = cloudpickle.loads(Path(file).read_bytes())[next(_next[file])]()
    return env
