"""Rows compressed by the worker: what shrinks travels so, what does not is left alone for a while."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.compression import codec, grow
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import leaves_of
from remote_gym.worker.compression import REST_COMMANDS, RowCompressor

LEAVES = leaves_of(spaces.Tuple([spaces.Box(0, 255, (1_000,), np.uint8), spaces.Box(0, 1, (2,))]))


def compressor() -> tuple[RowCompressor, Rows]:
    rows = Rows(bytearray(Rows.size_bytes([], LEAVES, 4)), [], LEAVES, 4)
    return RowCompressor("lz4", LEAVES, rows), rows


def test_a_piece_holds_the_rows_asked_for_and_small_leaves_have_none() -> None:
    made, rows = compressor()
    rows.observations[0][:] = np.arange(4, dtype=np.uint8)[:, None]
    pieces = made.pieces([3, 1])
    assert list(pieces) == [0]
    (packed,) = pieces[0]
    _, _, _, extras = values.unpack(packed)
    number, indices, data = extras["compressed"]
    assert (number, indices) == (0, [3, 1])
    whole = np.frombuffer(grow(codec("lz4"), data, 2_000), np.uint8).reshape(2, 1_000)
    assert whole[:, 0].tolist() == [3, 1]


def test_noise_is_not_tried_again_for_some_commands() -> None:
    made, rows = compressor()
    rows.observations[0][:] = np.random.default_rng(0).integers(0, 256, (4, 1_000))
    assert made.pieces(range(4)) == {0: []}
    rows.observations[0][:] = 0
    for _ in range(REST_COMMANDS):
        assert made.pieces(range(4)) == {0: []}
    assert made.pieces(range(4))[0]
