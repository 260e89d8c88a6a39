"""Trainer process: what has come back and was not yet handed out, in the order in which it came. No I/O."""

from __future__ import annotations

from collections import deque

import numpy as np

from remote_gym.batches import Failure
from remote_gym.client.connection import every
from remote_gym.client.transitions import Part


class Ready:
    """Environments that are ready.

    Attributes:
        rows: How many.
        waiting: (num_envs,) bool: which.
        used: Whether `send`, `async_reset` or `recv` was ever called.
    """

    def __init__(self, num_envs: int) -> None:
        """Begin with none."""
        self._parts: deque[Part] = deque()
        self._failures: deque[list[Failure]] = deque()
        self.rows = 0
        self.used = False
        self.waiting = np.zeros(num_envs, np.bool_)

    def add(self, part: Part) -> None:
        """Take in a part; of environments that failed, only the failure."""
        part.indices = every(part.indices, len(self.waiting))
        if part.failures:
            self._failures.append(part.failures)
            failed = {failure.index for failure in part.failures}
            part = part.rows(np.array([at for at, i in enumerate(part.indices) if i not in failed], np.intp))
        assert part.indices is not None
        if len(part.indices):
            self._parts.append(part)
            self.rows += len(part.indices)
            self.waiting[list(part.indices)] = True

    def failures(self) -> list[Failure]:
        """Return what failed in one part, once; empty if nothing did."""
        return self._failures.popleft() if self._failures else []

    def take(self, rows: int) -> list[Part]:
        """Return the first `rows` of those that are ready, which are at least as many."""
        taken: list[Part] = []
        self.rows -= rows
        while rows:
            part = self._parts.popleft()
            assert part.indices is not None
            count = len(part.indices)
            if count > rows:
                self._parts.appendleft(part.rows(slice(rows, count)))
                part, count = part.rows(slice(0, rows)), rows
            assert part.indices is not None
            self.waiting[list(part.indices)] = False
            taken.append(part)
            rows -= count
        return taken
