"""Contender's process: the original remote-gym 0.7.3, in a virtual environment of its own, over mutual TLS.

Its server forks from a gRPC thread and waits without a limit for what the fork may never say, so that some starts hang:
the parent gives up and tries again. It also reads `reward_range`, which Gymnasium dropped; the entrypoint adds it.

    python original.py PORT ENV CERTIFICATE KEY CA        the server
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


@contextlib.contextmanager
def single(config: dict[str, Any]) -> Iterator[Any]:
    """One `RemoteEnvironment`, each step timed."""
    from contenders.stepping import Single, timing

    from remote_gym import RemoteEnvironment

    port = _free_port()
    command = [sys.executable, __file__, str(port), config["env"], *config["server_credentials"]]
    with subprocess.Popen(command, cwd=HERE.parent) as server:
        try:
            _wait_for(port)
            env = RemoteEnvironment("localhost", port, client_credentials_paths=tuple(config["credentials"]))
            one = Single(_WithoutSeeds(env))
            yield timing(one.step, one.reset_if_over)
        finally:
            server.kill()


class _WithoutSeeds:
    """The original with the signature of today's `reset`."""

    def __init__(self, env: Any) -> None:
        self.reset = lambda seed=None: env.reset()
        self.step, self.action_space = env.step, env.action_space


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20.0
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        if time.monotonic() > deadline:
            raise SystemExit("the server did not listen")
        time.sleep(0.05)


def create_environment(name: str, env_id: int, enable_rendering: bool = False, **kwargs: Any) -> Any:
    """Return what `environments.py` calls `name`, with the attribute that the original reads."""
    import gymnasium as gym
    import numpy as np

    sys.path.insert(0, str(HERE.parent))
    from environments import create_environment as create

    class WithRewardRange(gym.Wrapper):
        reward_range = (np.float32(-1e6), np.float32(1e6))  # no double, nothing infinite

    return WithRewardRange(create(name))


def serve(port: int, name: str, credentials: tuple[str, ...]) -> None:
    """Serve until killed."""
    from remote_gym import create_remote_environment_server

    args = {"entrypoint": "contenders/original.py", "entrypoint_kwargs": {"name": name}}
    create_remote_environment_server(args, "localhost", port, credentials).wait_for_termination()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], tuple(sys.argv[3:]))
