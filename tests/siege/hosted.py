"""What the besieged server hosts: hash chains, which do harm if one asks them to."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from faults.hash_chain import HashChainEnv

FOLDER = "REMOTE_GYM_TEST_SIEGE"
"""Environment variable of the server: the folder in which environments may write."""

ALLOCATED_BYTES = 400 << 20
PRINTED_LINES, LINE_CHARACTERS = 20_000, 1_000


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def hang() -> None:
    while True:
        pass


def hold_the_gil() -> None:
    libc = ctypes.PyDLL(None)  # unlike CDLL it keeps the GIL
    while True:
        libc.sleep(1_000)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def allocate() -> None:
    np.ones(ALLOCATED_BYTES // 8)


def print_megabytes() -> None:
    for _ in range(PRINTED_LINES):
        print("x" * LINE_CHARACTERS)


def forge() -> None:
    """Write to the server what is no answer, on whatever leads there."""
    for descriptor in range(3, 64):
        with contextlib.suppress(OSError):
            link = socket.socket(fileno=os.dup(descriptor))
            link.setblocking(False)
            link.send(os.urandom(4_096))


def spawn() -> None:
    for _ in range(8):
        subprocess.Popen(["sleep", "5"], start_new_session=True)


def close_everything() -> None:
    os.closerange(0, 64)


def raise_strangely() -> None:
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise SystemExit("\ud800")

    raise Unspeakable


def recurse() -> None:
    sys.setrecursionlimit(2**31 - 1)

    def deeper() -> None:
        deeper()

    deeper()


MISDEEDS: dict[str, Callable[[], None]] = {
    misdeed.__name__: misdeed
    for misdeed in (
        die, crash, leave, hang, hold_the_gil, stop, allocate, print_megabytes, forge, spawn, close_everything,
        raise_strangely, recurse,
    )
}  # fmt: skip


class BesiegedEnv(HashChainEnv):
    """A hash chain.

    Attributes:
        gain: Nobody needs it; a step takes it to the power of thousands if it was set.
    """

    gain: Any = 1

    def do(self, misdeed: str) -> int:
        """Do harm."""
        MISDEEDS[misdeed]()
        return 0

    def fill(self, count: int) -> bytes:
        """Return so many bytes."""
        return bytes(count)

    def step(self, action: Any) -> Any:
        if self.gain != 1:
            self.gain = self.gain**5_000 % 7 + 2
        return super().step(action)


def create_environment(
    env_id: int = 0,
    journal: str | None = None,
    render_mode: str | None = None,
    build_milliseconds: int = 0,
    task: str = "",
) -> BesiegedEnv:
    """`task` is a parameter that an owner lists in good faith, and that an environment trips over.

    A client chooses which file is written: only in a folder of the owner's choice.
    """
    if journal is not None and os.path.realpath(os.path.dirname(journal)) != os.path.realpath(os.environ[FOLDER]):
        raise ValueError(f"journals are in the folder that ${FOLDER} names only")
    time.sleep(1e-3 * build_milliseconds)
    if task:
        MISDEEDS[task]()
    return BesiegedEnv(env_id, journal, render_mode)
