"""Child side, no I/O: actions of other dtypes than the space's, which come with the command, not in the shared rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from remote_gym.leaves import Array, Leaf, of_dtypes


def typed_rows(packed: bytes, leaves: Sequence[Leaf], dtypes: bytes, count: int) -> list[Array]:
    """Return the rows of `count` environments, one array for each of `leaves`, with the dtypes of these codes.

    The environments may keep them and write to them; each array is aligned.
    """
    arrays, at = [], 0
    for leaf in of_dtypes(leaves, dtypes):
        end = at + count * leaf.row_bytes
        arrays.append(np.ndarray((count, *leaf.shape), leaf.dtype, bytearray(packed[at:end])))
        at = end
    return arrays
