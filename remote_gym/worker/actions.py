"""Child side, no I/O: actions that are not as usual.

Those of other dtypes than the space's come with the command, not in the shared rows; some spaces hold nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from remote_gym.leaves import Array, Leaf, kind_of, of_dtypes


def is_hollow(space: Any) -> bool:
    """Return whether a Tuple or Dict with nothing in it is in `space`, or is it."""
    if kind_of(space) not in ("Tuple", "Dict"):
        return False
    children = list(space.spaces.values() if kind_of(space) == "Dict" else space.spaces)
    return not children or any(map(is_hollow, children))


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
