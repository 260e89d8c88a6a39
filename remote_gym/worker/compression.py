"""Child side: a session's observation rows, compressed by the worker that wrote them: all workers at once.

The server forwards the pieces made here unopened, and does not send the rows they were made of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from remote_gym import values
from remote_gym.compression import MAX_PIECE_BYTES, codec, compressed_leaves, shrink
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import Array, Leaf, rows_at

REST_COMMANDS = 15
"""For so many commands a leaf that was not worth it is not tried again: noise then costs a sixteenth of trying."""


class RowCompressor:
    """Makes pieces of a session's rows."""

    def __init__(self, name: str, leaves: Sequence[Leaf], rows: Rows) -> None:
        """Compress with `name` the leaves that it covers."""
        self._codec = codec(name)
        self._leaves = [(at, leaves[at].row_bytes, rows.observations[at]) for at in compressed_leaves(leaves, name)]
        self._resting = dict.fromkeys((number for number, _, _ in self._leaves), 0)  # commands left, by leaf number

    def pieces(self, indices: range | Sequence[int]) -> dict[int, list[bytes]]:
        """Return by leaf number the rows of the environments at `indices` as packed values, as the wire has them.

        An empty list stands for rows that hardly shrink: they are to be sent as they are.
        """
        return {number: self._of(number, row_bytes, array, indices) for number, row_bytes, array in self._leaves}

    def _of(self, number: int, row_bytes: int, array: Array, indices: range | Sequence[int]) -> list[bytes]:
        if self._resting[number]:
            self._resting[number] -= 1
            return []
        packed = []
        rows_per_piece = max(1, MAX_PIECE_BYTES // row_bytes)
        for start in range(0, len(indices), rows_per_piece):
            part = indices[start : start + rows_per_piece]
            data = shrink(self._codec, _bytes_of(array, part))
            if data is None:
                self._resting[number] = REST_COMMANDS
                return []
            piece = [number, list(part), data]
            packed.append(values.pack([None, None, None, {"compressed": piece}], "compressed rows"))
        return packed


def _bytes_of(array: Array, indices: range | Sequence[int]) -> memoryview:
    """Return rows as contiguous bytes; copies only if they are not everybody's here."""
    data: memoryview = array[rows_at(indices)].reshape(-1).view(np.uint8).data
    return data
