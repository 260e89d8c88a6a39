"""Both sides: a session's shared rows. One block of memory as NumPy arrays, one row per environment.

Layout, each array aligned to 64 bytes: the action leaves, the observation leaves, rewards, terminations, truncations.
Both sides compute it from the spaces and the number of environments, so only the block itself is handed over.

Ownership passes by message, there is no lock: from the command to the answer a row belongs to the worker of its
environment, at all other times to the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from remote_gym.leaves import Array, Leaf

ALIGNMENT_BYTES = 64
"""A cache line: two workers never write to the same one (but for the flags, whose rows are single bytes)."""


class Rows:
    """Views into a block.

    Attributes:
        actions: One array per action leaf, each (num_envs, *leaf.shape).
        observations: One array per observation leaf, each (num_envs, *leaf.shape).
        rewards: (num_envs,) float64.
        terminations: (num_envs,) bool.
        truncations: (num_envs,) bool.
        scalars: The same three as plain memory, into which Python's own numbers are written in a third of the time.
        whole_actions, whole_observations, whole_scalars: The same arrays as raw bytes, for batches of everybody.
    """

    def __init__(self, buffer: Any, actions: Sequence[Leaf], observations: Sequence[Leaf], num_envs: int) -> None:
        """Lay the arrays into `buffer`, which holds at least `Rows.size_bytes(...)`."""
        offset = 0

        def place(leaf: Leaf) -> Array:
            nonlocal offset
            array: Array = np.ndarray((num_envs, *leaf.shape), leaf.dtype, buffer, offset)
            offset += _padded(num_envs * leaf.row_bytes)
            return array

        self.actions = [place(leaf) for leaf in actions]
        self.observations = [place(leaf) for leaf in observations]
        arrays = self.rewards, self.terminations, self.truncations = tuple(map(place, _SCALARS))
        # Plain memory knows only the machine's own order of bytes.
        self.scalars: list[Any] = [array.data if array.dtype.isnative else array for array in arrays]
        self.whole_actions = [_raw(array) for array in self.actions]
        self.whole_observations = [_raw(array) for array in self.observations]
        self.whole_scalars = [_raw(array) for array in (self.rewards, self.terminations, self.truncations)]

    @staticmethod
    def size_bytes(actions: Sequence[Leaf], observations: Sequence[Leaf], num_envs: int) -> int:
        """Return the bytes a block needs."""
        return sum(_padded(num_envs * leaf.row_bytes) for leaf in (*actions, *observations, *_SCALARS))


_SCALARS = (
    Leaf((), np.dtype("<f8"), ()),
    Leaf((), np.dtype("?"), ()),
    Leaf((), np.dtype("?"), ()),
)


def _raw(array: Array) -> memoryview:
    return array.reshape(-1).view(np.uint8).data if array.size else memoryview(bytearray())


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
