"""Trainer process: pieces of compressed rows -> the arrays of one answer. The server's word is checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from remote_gym.compression import Codec, codec, compressed_leaves, grow
from remote_gym.errors import ProtocolError
from remote_gym.leaves import Array, Leaf, rows_at
from remote_gym.messages import Indices, Transition


class CompressedRows:
    """Which leaves of a session travel compressed, and how to read them.

    Attributes:
        numbers: Positions of leaves that may be empty in an answer, and come as pieces then.
    """

    def __init__(self, leaves: Sequence[Leaf], name: str) -> None:
        """Prepare to read what was compressed with `name`."""
        self._codec = codec(name)
        self._leaves = leaves
        self.numbers = frozenset(compressed_leaves(leaves, name))

    def begin(self, arrays: Sequence[Array], answer: Transition) -> Filling:
        """Return what fills those of `arrays`, one per leaf, that are empty in the answer."""
        empty = [at for at in self.numbers if not len(answer.observations[at])]
        return Filling(self._codec, {at: (self._leaves[at], arrays[at]) for at in empty}, answer.indices)


class Filling:
    """The arrays of one answer while pieces come in."""

    def __init__(self, codec: Codec, arrays: dict[int, tuple[Leaf, Array]], indices: Indices) -> None:
        """Fill the array of each leaf number."""
        self._codec = codec
        self._arrays = arrays
        # Env index -> row; None: they are the same.
        self._rows = None if indices is None else {index: row for row, index in enumerate(indices)}
        self._missing = {number: np.ones(len(array), np.bool_) for number, (_, array) in arrays.items()}

    def take(self, piece: Any) -> None:
        """Put in one piece: [leaf number, env indices, their rows as `compression.shrink` made them].

        Raises:
            ProtocolError: It is none, or does not fit this answer.
        """
        try:
            number, indices, data = piece
            if type(data) is not bytes or not {int}.issuperset(map(type, indices)):
                raise ValueError("not what a piece is made of")
            leaf, array = self._arrays[number]
            rows = list(indices) if self._rows is None else [self._rows[index] for index in indices]
            missing = self._missing[number]
            if not missing[rows].all() or len(set(rows)) != len(rows) or min(rows) < 0:
                raise ValueError("rows that came before")
            size = len(rows) * leaf.row_bytes
        except (TypeError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise ProtocolError(f"compressed rows do not fit the answer: {error!r}") from None
        flat = np.frombuffer(grow(self._codec, data, size), leaf.dtype)
        array[rows_at(rows)] = flat.reshape(len(rows), *leaf.shape)
        missing[rows] = False

    def finish(self, failed: Sequence[int]) -> None:
        """Clear the rows of the `failed` env indices for which nothing came: a lost worker sends nothing.

        Raises:
            ProtocolError: Other rows are missing as well.
        """
        excused = {index if self._rows is None else self._rows.get(index) for index in failed}
        for number, missing in self._missing.items():
            if not missing.any():
                continue
            rows = np.flatnonzero(missing)
            if not excused.issuperset(rows.tolist()):
                raise ProtocolError(f"observation leaf {number} lacks the compressed rows {rows.tolist()[:8]}")
            self._arrays[number][1][rows] = 0
