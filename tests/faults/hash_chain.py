"""An environment whose every output depends on all it was ever asked: one lost, doubled or swapped step shows for ever.

Served as ``tests/faults/hash_chain.py``. Each operation is also noted in a journal, in one write of a file opened for
appending, by the process that ran it: what the protocol claims is checked against what has happened.
"""

from __future__ import annotations

import os
import struct
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

RECORD = struct.Struct("<iiqqd")
RECORD_DTYPE = np.dtype([("env_id", "<i4"), ("operation", "<i4"), ("tag", "<i8"), ("pid", "<i8"), ("time", "<f8")])
RESET, STEP, CALL, CLOSE, BUILD = range(5)

SLEEP_FROM = 1_000
"""An action of 1,000 + n first sleeps n milliseconds."""


class HashChainEnv(gym.Env[Any, Any]):
    """An action is (what to do, tag of the request); the tag is for the journal, and chained like everything else."""

    def __init__(self, env_id: int = 0, journal: str | None = None, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(0, 255, (16,), np.uint8)
        self.action_space = spaces.Box(0, 2**62, (2,), np.int64)
        self.render_mode = render_mode
        self.env_id = env_id
        self._journal = None if journal is None else os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self._state = b""
        self._note(BUILD, 0)

    def _note(self, operation: int, tag: int) -> None:
        if self._journal is not None:
            os.write(self._journal, RECORD.pack(self.env_id, operation, tag, os.getpid(), time.monotonic()))

    def _chain(self, *parts: bytes) -> tuple[Any, dict[str, Any]]:
        self._state = state = blake2b(b"|".join((self._state, *parts)), digest_size=16).digest()
        return np.frombuffer(state, np.uint8), {"draw": state[2]} if state[2] < 128 else {}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        tag = (options or {}).get("tag", 0)
        self._note(RESET, tag)
        if seed is not None:
            self._state = b""
        return self._chain(b"reset", str((seed, tag)).encode())

    def step(self, action: Any) -> Any:
        numbers = np.asarray(action)
        what, tag = map(int, numbers.tolist())
        self._note(STEP, tag)
        if what >= SLEEP_FROM:
            time.sleep(1e-3 * (what - SLEEP_FROM))
        given = f"{type(action).__name__} {numbers.dtype}".encode()  # also a type that is lost on the way shows
        observation, info = self._chain(b"step", given, numbers.tobytes())
        state = self._state
        return observation, (state[3] - 128) / 7.0, state[0] < 4, state[1] < 4, info

    def mix(self, tag: int, milliseconds: int = 0) -> int:
        """Change the state; return a number that depends on all before."""
        self._note(CALL, tag)
        time.sleep(1e-3 * milliseconds)
        observation, _ = self._chain(b"mix", str(tag).encode())
        return int(observation[4])

    def large(self, tag: int, count: int) -> Any:
        """Change the state and return `count` bytes."""
        return np.full(count, self.mix(tag), np.uint8)

    def process_id(self) -> int:
        """Tell where it lives; changes nothing."""
        return os.getpid()

    def close(self) -> None:
        if self._journal is not None:
            self._note(CLOSE, 0)
            os.close(self._journal)
            self._journal = None


def create_environment(
    env_id: int = 0, journal: str | None = None, render_mode: str | None = None, build_milliseconds: int = 0
) -> HashChainEnv:
    time.sleep(1e-3 * build_milliseconds)
    return HashChainEnv(env_id, journal, render_mode)


def read_journal(path: str | Path) -> Any:
    """Return all records there are."""
    return np.fromfile(path, RECORD_DTYPE) if os.path.exists(path) else np.empty(0, RECORD_DTYPE)
