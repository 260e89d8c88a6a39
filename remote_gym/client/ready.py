"""Trainer process: what has come back and was not yet handed out, in the order in which it came. No I/O."""

from __future__ import annotations

from typing import Any

import numpy as np

from remote_gym.client.parts import Part
from remote_gym.leaves import rows_at
from remote_gym.messages import Failure, every


class Ready:
    """Environments that are ready.

    A part that an interrupt brings again is known by its source, also after it was handed out: each is here once.

    Attributes:
        waiting: (num_envs,) bool: which.
    """

    def __init__(self, num_envs: int) -> None:
        """Begin with none."""
        self._parts: dict[tuple[Any, ...], Part] = {}  # by source; of environments that failed only the failures
        self._handed: dict[tuple[Any, ...], None] = {}  # sources of those that were handed out last
        self.waiting = np.zeros(num_envs, np.bool_)

    @property
    def rows(self) -> int:
        """How many."""
        return sum(len(part.indices or ()) for part in self._parts.values())

    def add(self, part: Part) -> None:
        """Take in a part; of environments that failed, only the failure. The same again does no harm."""
        if part.source in self._parts or part.source in self._handed:
            return
        part.indices = every(part.indices, len(self.waiting))
        if failures := part.failures:
            failed = {failure.index for failure in failures}
            part = part.rows(np.array([at for at, i in enumerate(part.indices) if i not in failed], np.intp))
            part.failures = failures
        assert part.indices is not None
        if len(part.indices):
            self.waiting[rows_at(part.indices)] = True
        self._parts[part.source] = part  # last, and at once: an interrupt before it means that nothing was taken in

    def failures(self) -> list[Failure]:
        """Return what failed in one part, once; empty if nothing did."""
        for part in self._parts.values():
            if failures := part.failures:
                part.failures = []
                return failures
        return []

    def first(self, rows: int) -> tuple[list[Part], list[Part]]:
        """Return the first `rows` of those that are ready, which are at least as many, and the rest; see `keep`."""
        taken: list[Part] = []
        rest = [part for part in self._parts.values() if part.indices]
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
        left = {part.source: part for part in rest}
        self._handed.update(dict.fromkeys(source for source in self._parts if source not in left))
        # At most one answer per environment, and what was made up besides, waits to be taken and so could come again.
        for source in list(self._handed)[: -2 * len(self.waiting) - 1]:
            del self._handed[source]
        self._parts = left
        self.waiting[:] = False
        for part in rest:
            self.waiting[list(part.indices or ())] = True
