"""An environment that does harm on demand, served as ``tests/hostile.py``: the action says what."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


def ordinary(_env: HostileEnv) -> None: ...


def sigkill(env: HostileEnv) -> None:
    env.note("died", time.monotonic())
    os.kill(os.getpid(), signal.SIGKILL)


def segfault(env: HostileEnv) -> None:
    print("about to read address 0", file=sys.stderr)
    env.note("died", time.monotonic())
    ctypes.string_at(0)


def exit_3(env: HostileEnv) -> None:
    print("about to leave", file=sys.stderr)
    env.note("died", time.monotonic())
    os._exit(3)


def sys_exit(_env: HostileEnv) -> None:
    sys.exit(3)


def hang(_env: HostileEnv) -> None:
    while True:
        pass


def hang_with_gil(_env: HostileEnv) -> None:
    libc = ctypes.PyDLL(None)  # unlike CDLL it keeps the GIL
    while True:
        libc.sleep(1_000)


def slow(_env: HostileEnv) -> None:
    time.sleep(0.4)


def gated(env: HostileEnv) -> None:
    """Run until the test writes the note ``open``."""
    env.note("waiting", env.env_id)
    while not (Path(env.notes or ".") / "open").exists():
        time.sleep(0.005)


def hang_noted(env: HostileEnv) -> None:
    env.note("waiting", env.env_id)
    hang_with_gil(env)


def spawn(env: HostileEnv) -> None:
    env.children.append(subprocess.Popen(["sleep", "1000"]))


def spawn_outside(env: HostileEnv) -> None:
    env.children.append(subprocess.Popen(["sleep", "30"], start_new_session=True))


def talk(_env: HostileEnv) -> None:
    print("by print")
    print("by stderr", file=sys.stderr)
    os.write(1, b"by descriptor 1\n")
    subprocess.run(["echo", "by a subprocess"], check=True)


def babble(_env: HostileEnv) -> None:
    print("x" * 1_000_000)


def raise_error(_env: HostileEnv) -> None:
    raise ZeroDivisionError("on demand")


BEHAVIOURS: tuple[Callable[[HostileEnv], None], ...] = (
    ordinary,
    sigkill,
    segfault,
    exit_3,
    sys_exit,
    hang,
    hang_with_gil,
    slow,
    gated,
    hang_noted,
    spawn,
    spawn_outside,
    talk,
    babble,
    raise_error,
)

ACTIONS = {behaviour.__name__: number for number, behaviour in enumerate(BEHAVIOURS)}


class HostileEnv(gym.Env[Any, Any]):
    """Tells in its infos where it lives; notes in files of the folder `notes` what happened when."""

    def __init__(self, env_id: int, notes: str | None = None, pixels: int = 4) -> None:
        self.observation_space = spaces.Box(0, 255, (pixels,), np.uint8)
        self.action_space = spaces.Discrete(len(BEHAVIOURS))
        self.env_id = env_id
        self.notes = notes
        self.children: list[subprocess.Popen[bytes]] = []
        self.note("built", env_id)

    def note(self, name: str, value: Any) -> None:
        if self.notes is not None:
            with (Path(self.notes) / name).open("a") as file:
                file.write(f"{value}\n")

    def _observe(self) -> tuple[Any, dict[str, Any]]:
        info = {"pid": os.getpid(), "env_id": self.env_id, "children": [child.pid for child in self.children]}
        return np.full(self.observation_space.shape, self.env_id % 256, np.uint8), info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        return self._observe()

    def step(self, action: Any) -> Any:
        BEHAVIOURS[int(action)](self)
        observation, info = self._observe()
        return observation, 1.0, False, False, info

    def loaded_modules(self) -> list[str]:
        return sorted(sys.modules)

    def close(self) -> None:
        self.note("closed", self.env_id)


def create_environment(**kwargs: Any) -> HostileEnv:
    if kwargs.pop("broken", False):
        raise RuntimeError("this environment cannot be built")
    kwargs.pop("render_mode"), kwargs.pop("enable_rendering")
    return HostileEnv(**kwargs)
