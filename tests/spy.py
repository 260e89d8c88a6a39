"""An environment that looks where it should not, served as ``tests/spy.py``: its methods tell what it has seen."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
from typing import Any

import gymnasium as gym
import numpy as np


def attempt(look: Any) -> Any:
    try:
        return look()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class Spy(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole, with eyes."""

    def read(self, path: str) -> Any:
        with open(path, "rb") as file:
            return file.read(100).decode("ascii", "replace")

    def look(self, path: str) -> str:
        return str(attempt(lambda: self.read(path)))

    def list(self, path: str) -> Any:
        return attempt(lambda: sorted(os.listdir(path)))

    def write(self, path: str, size: int = 1) -> Any:
        def write() -> str:
            with open(path, "wb") as file:
                file.write(bytes(size))
                file.flush()
            return "written"

        return attempt(write)

    def connect(self, port: int) -> Any:
        return attempt(lambda: socket.create_connection(("127.0.0.1", port), 5).close())

    def connect_unix(self, path: str) -> Any:
        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.connect(path)

        return attempt(connect)

    def signal(self, pid: int) -> Any:
        return attempt(lambda: os.kill(pid, 0))

    def memory_of(self, pid: int) -> Any:
        return [attempt(lambda name=name: self.read(f"/proc/{pid}/{name}")) for name in ("mem", "environ", "maps")]

    def descriptors_of(self, pid: int) -> Any:
        return attempt(lambda: len(os.listdir(f"/proc/{pid}/fd")))

    def processes(self) -> int:
        return sum(name.isdigit() for name in os.listdir("/proc"))

    def variables(self) -> dict[str, str]:
        return dict(os.environ)

    def limits(self) -> dict[str, Any]:
        with open("/proc/self/status") as file:
            status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        kinds = {"memory": resource.RLIMIT_DATA, "file": resource.RLIMIT_FSIZE, "core": resource.RLIMIT_CORE}
        found: dict[str, Any] = {kind: list(resource.getrlimit(number)) for kind, number in kinds.items()}
        return {
            **found,
            "processes": list(resource.getrlimit(resource.RLIMIT_NPROC)),
            "privileges": status["NoNewPrivs"],
        }

    def threads(self) -> list[str]:
        """Tell of each thread, those of libraries too, whether it may gain privileges."""
        found = []
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/status") as file:
                found += [line.split()[1] for line in file if line.startswith("NoNewPrivs")]
        return found

    def raise_limit(self) -> Any:
        return attempt(lambda: resource.setrlimit(resource.RLIMIT_DATA, (resource.RLIM_INFINITY,) * 2))

    def allocate(self, size: int) -> Any:
        return attempt(lambda: int(np.ones(size, np.uint8).sum()))

    def scratch(self) -> Any:
        import tempfile

        with tempfile.NamedTemporaryFile(dir=os.path.expanduser("~")) as file:
            file.write(b"x")
        with tempfile.NamedTemporaryFile() as file:
            return [os.path.expanduser("~"), tempfile.gettempdir()]

    def run(self, *words: str) -> Any:
        return attempt(lambda: subprocess.run(words, capture_output=True, text=True, timeout=20, check=False).stdout)

    def beside(self) -> str:
        import toys

        return str(toys.__file__)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def create_environment(**_kwargs: Any) -> gym.Env[Any, Any]:
    return Spy(gym.make("CartPole-v1"))
