"""Actions of other dtypes than the space's, out of the bytes that came with the command."""

from __future__ import annotations

import numpy as np
import pytest
from sameness import assert_same

from remote_gym.leaves import DTYPES, Leaf
from remote_gym.worker.actions import typed_rows

LEAVES = [Leaf((0,), np.dtype("<f4"), (2,)), Leaf((1,), np.dtype("<i8"), ()), Leaf((2,), np.dtype("?"), (0,))]


@pytest.mark.parametrize("code", [0, *DTYPES])
def test_each_leaf_has_the_dtype_of_its_code(code: int) -> None:
    dtype = DTYPES.get(code, LEAVES[0].dtype)
    whole = [np.arange(6).reshape(3, 2).astype(dtype), np.arange(3, dtype=np.int8), np.zeros((3, 0))]
    packed = b"".join(array.tobytes() for array in whole)
    arrays = typed_rows(packed, LEAVES, bytes([code, 2, 12]), 3)
    assert_same(arrays, whole)
    for array in arrays:
        assert array.flags.writeable
        assert array.flags.aligned


def test_a_code_that_stands_for_none() -> None:
    with pytest.raises(KeyError):
        typed_rows(b"", LEAVES, bytes([13, 0, 0]), 0)
