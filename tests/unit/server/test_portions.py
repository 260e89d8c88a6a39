"""Which block gets what of a request."""

from __future__ import annotations

import pytest
from fake_workers import block

from remote_gym.pool import Block
from remote_gym.server.portions import CHUNK_SECONDS, Portion, chunks, portions

BLOCKS = [block(0, 3), block(3, 2), block(5, 3)]
FIRSTS = [0, 3, 5]


def told(found: list[Portion]) -> list[tuple[int, list[int] | None, list[int]]]:
    return [(portion.block.first, portion.own, list(portion.positions)) for portion in found]


def test_everybody_is_one_portion_per_block_without_a_list() -> None:
    found = portions(BLOCKS, FIRSTS, None)
    assert told(found) == [(0, None, [0, 1, 2]), (3, None, [3, 4]), (5, None, [5, 6, 7])]
    assert [list(portion.indices) for portion in found] == [[0, 1, 2], [3, 4], [5, 6, 7]]


@pytest.mark.parametrize(
    ("indices", "expected"),
    [
        ([4], [(3, [4], [0])]),
        ([2, 3], [(0, [2], [0]), (3, [3], [1])]),
        ([7, 0, 5, 1], [(0, [0, 1], [1, 3]), (5, [7, 5], [0, 2])]),  # the order within a block is the request's
    ],
)
def test_only_the_blocks_concerned_get_a_portion(
    indices: list[int], expected: list[tuple[int, list[int], list[int]]]
) -> None:
    found = portions(BLOCKS, FIRSTS, indices)
    assert told(found) == expected
    assert [portion.indices for portion in found] == [own for _, own, _ in expected]


ALONE: Block = block(10, 6)


@pytest.mark.parametrize("step_seconds", [0.0, CHUNK_SECONDS / 10])
def test_little_work_is_one_chunk(step_seconds: float) -> None:
    whole = Portion(ALONE, None, range(6))
    assert list(chunks(whole, step_seconds)) == [whole]


@pytest.mark.parametrize(("step_seconds", "sizes"), [(CHUNK_SECONDS / 2, [2, 2, 2]), (1.0, [1] * 6)])
def test_much_work_is_several_equal_ones(step_seconds: float, sizes: list[int]) -> None:
    found = list(chunks(Portion(ALONE, None, range(6)), step_seconds))
    assert [len(chunk.indices) for chunk in found] == sizes
    assert [index for chunk in found for index in chunk.indices] == list(range(10, 16))
    assert [at for chunk in found for at in chunk.positions] == list(range(6))


def test_chunks_of_some_keep_their_positions() -> None:
    found = list(chunks(Portion(ALONE, [15, 10, 12], [0, 4, 9]), 1.0))
    assert [(chunk.own, list(chunk.positions)) for chunk in found] == [([15], [0]), ([10], [4]), ([12], [9])]
