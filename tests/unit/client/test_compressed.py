"""Pieces of compressed rows: each row once, from whoever the answer is for, and all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import ProtocolError
from remote_gym.client.compressed import CompressedRows, Filling
from remote_gym.compression import MIN_ROW_BYTES, NAMES, codec
from remote_gym.leaves import leaves_of
from remote_gym.messages import Transition

LARGE = spaces.Box(0, 255, (MIN_ROW_BYTES,), np.uint8)
SPACE = spaces.Dict({"small": spaces.Box(0, 1, (2,), np.float32), "camera": LARGE, "depth": LARGE})
LEAVES = leaves_of(SPACE)
CAMERA, DEPTH, SMALL = range(3)  # a dict's keys are sorted
LZ4 = codec("lz4")


def rows(*numbers: int) -> Any:
    return np.repeat(np.array(numbers, np.uint8)[:, None], MIN_ROW_BYTES, 1)


def piece(leaf: int, indices: Any, *numbers: int, **changed: Any) -> list[Any]:
    return [leaf, indices, changed.get("data", LZ4.compress(rows(*numbers).tobytes()))]


def begun(indices: list[int] | None = None, came: int = DEPTH, name: str = "lz4") -> tuple[Filling, list[Any]]:
    """An answer for `indices`, or for all of two; the leaf `came` has come as it is, the camera as pieces."""
    count = 2 if indices is None else len(indices)
    arrays = [np.full((count, *leaf.shape), 99, leaf.dtype) for leaf in LEAVES]
    data = [b"" if at == CAMERA or (at == DEPTH and came != DEPTH) else bytes(8) for at in range(3)]
    return CompressedRows(LEAVES, name).begin(arrays, Transition(1, indices, data)), arrays


@pytest.mark.parametrize("name", NAMES)
def test_only_large_rows_travel_compressed(name: str) -> None:
    assert CompressedRows(LEAVES, name).numbers == {CAMERA, DEPTH}


@pytest.mark.parametrize("name", NAMES)
def test_pieces_fill_their_rows(name: str) -> None:
    filling, arrays = begun([7, 3, 5], name=name)
    compress = codec(name).compress
    filling.take([CAMERA, [5, 7], compress(rows(50, 70).tobytes())])
    filling.take([CAMERA, [3], compress(rows(30).tobytes())])
    filling.finish([])
    assert arrays[CAMERA][:, 0].tolist() == [70, 30, 50] and (arrays[CAMERA] == rows(70, 30, 50)).all()
    assert (arrays[DEPTH] == 99).all(), "it has come as it is"


def test_an_answer_for_all_counts_from_0() -> None:
    filling, arrays = begun()
    filling.take(piece(CAMERA, [1, 0], 11, 10))
    filling.finish([])
    assert arrays[CAMERA][:, 0].tolist() == [10, 11]


def test_two_leaves_at_once() -> None:
    filling, arrays = begun(came=SMALL)
    filling.take(piece(DEPTH, [0, 1], 1, 2))
    filling.take(piece(CAMERA, [0, 1], 3, 4))
    filling.finish([])
    assert [arrays[at][:, 0].tolist() for at in (CAMERA, DEPTH)] == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    "given",
    [
        None, 5, [], [CAMERA, [0]], {"leaf": 1}, piece(SMALL, [0], 1), piece(DEPTH, [0], 1), piece(9, [0], 1),
        piece(-1, [0], 1), piece(CAMERA, [], 1), piece(CAMERA, [0, 0], 1, 1), piece(CAMERA, [2], 1),
        piece(CAMERA, [-1], 1), piece(CAMERA, [True], 1), piece(CAMERA, [0.0], 1), piece(CAMERA, ["0"], 1),
        piece(CAMERA, 0, 1), piece(CAMERA, None, 1), piece(CAMERA, [2**70], 1), piece(CAMERA, [0], data="x"),
        piece(CAMERA, [0], data=bytearray(b"x")), piece(CAMERA, [0], data=b""), piece(CAMERA, [0], data=b"\xff" * 9),
        piece(CAMERA, [0], 1, 2), piece(CAMERA, [0, 1], 1), piece([CAMERA], [0], 1),
    ],
    ids=lambda given: str(given)[:50],
)  # fmt: skip
@pytest.mark.parametrize("indices", [None, [0, 1]])
def test_what_does_not_fit_the_answer(given: Any, indices: Any) -> None:
    filling, arrays = begun(indices)
    with pytest.raises(ProtocolError, match="compressed rows"):
        filling.take(given)
    assert all((array == 99).all() for array in arrays)


def test_a_row_comes_once() -> None:
    filling, arrays = begun()
    filling.take(piece(CAMERA, [0], 1))
    with pytest.raises(ProtocolError, match="rows that came before"):
        filling.take(piece(CAMERA, [1, 0], 2, 2))
    assert arrays[CAMERA][:, 0].tolist() == [1, 99]


@pytest.mark.parametrize("indices, failed, other", [(None, 1, 0), ([7, 3], 3, 7)])
def test_a_lost_worker_sends_no_rows(indices: Any, failed: int, other: int) -> None:
    filling, arrays = begun(indices)
    filling.take(piece(CAMERA, [other], 5))
    filling.finish([failed])
    assert arrays[CAMERA][:, 0].tolist() == [5, 0], "not what was in memory"


@pytest.mark.parametrize("failed", [[], [7], [0], [1]])
def test_whoever_was_not_lost_has_rows(failed: list[int]) -> None:
    filling, _ = begun([7, 3])
    filling.take(piece(CAMERA, [7], 5))
    with pytest.raises(ProtocolError, match=r"observation leaf 0 lacks the compressed rows \[1\]"):
        filling.finish(failed)
