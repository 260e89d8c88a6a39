"""Trainer process: what has come back and was not yet handed out, in the order in which it came. No I/O."""

from __future__ import annotations

import numpy as np

from remote_gym.client.parts import Part
from remote_gym.leaves import rows_at
from remote_gym.messages import Failure, every


class Ready:
    """Environments that are ready.

    Attributes:
        waiting: (num_envs,) bool: which.
    """

    def __init__(self, num_envs: int) -> None:
        """Begin with none."""
        self._parts: list[Part] = []
        self._failures: dict[tuple[object, ...], list[Failure]] = {}
        self.waiting = np.zeros(num_envs, np.bool_)

    @property
    def rows(self) -> int:
        """How many."""
        return sum(len(part.indices or ()) for part in self._parts)

    def add(self, part: Part) -> None:
        """Take in a part; of environments that failed, only the failure. The same again does no harm."""
        if any(known.source == part.source for known in self._parts) or part.source in self._failures:
            return
        part.indices = every(part.indices, len(self.waiting))
        failures = part.failures
        if failures:
            failed = {failure.index for failure in failures}
            part = part.rows(np.array([at for at, i in enumerate(part.indices) if i not in failed], np.intp))
        assert part.indices is not None
        if len(part.indices):
            self.waiting[rows_at(part.indices)] = True
            self._parts.append(part)
        if failures:
            self._failures[part.source] = failures

    def failures(self) -> list[Failure]:
        """Return what failed in one part, once; empty if nothing did."""
        return self._failures.pop(next(iter(self._failures))) if self._failures else []

    def first(self, rows: int) -> tuple[list[Part], list[Part]]:
        """Return the first `rows` of those that are ready, which are at least as many, and the rest; see `keep`."""
        taken: list[Part] = []
        rest = list(self._parts)
        while rows:
            part = rest.pop(0)
            assert part.indices is not None
            count = len(part.indices)
            if count > rows:
                rest.insert(0, part.rows(slice(rows, count)))
                part, count = part.rows(slice(0, rows)), rows
            taken.append(part)
            rows -= count
        return taken, rest

    def keep(self, rest: list[Part]) -> None:
        """Forget all but `rest`: the others were handed out."""
        self.waiting[:] = False
        for part in rest:
            self.waiting[list(part.indices or ())] = True
        self._parts = rest
