"""Both sides lay the same arrays into the same memory."""

from __future__ import annotations

import numpy as np
from gymnasium import spaces

from remote_gym.ipc.rows import ALIGNMENT_BYTES, Rows
from remote_gym.leaves import leaves_of

ACTIONS = leaves_of(spaces.Tuple([spaces.Discrete(3), spaces.Box(0, 1, (5,), np.uint8)]))
OBSERVATIONS = leaves_of(spaces.Dict(a=spaces.Box(0, 1, (2, 3), np.float32), b=spaces.MultiBinary(3)))


def test_what_one_side_writes_the_other_reads() -> None:
    size = Rows.size_bytes(ACTIONS, OBSERVATIONS, 3)
    memory = bytearray(size)
    ours, theirs = (Rows(memory, ACTIONS, OBSERVATIONS, 3) for _ in range(2))
    everything = [*ours.actions, *ours.observations, ours.rewards, ours.terminations, ours.truncations]
    for number, array in enumerate(everything):
        array[...] = number % 2 if array.dtype == bool else number + 1
    for mine, other in zip(ours.actions + ours.observations, theirs.actions + theirs.observations, strict=True):
        assert np.array_equal(mine, other)
    assert theirs.rewards.tolist() == ours.rewards.tolist()
    assert [array.shape for array in theirs.observations] == [(3, 2, 3), (3, 3)]
    assert [array.dtype.str for array in theirs.actions] == ["<i8", "|u1"]


def test_arrays_do_not_overlap_and_begin_at_cache_lines() -> None:
    memory = np.zeros(Rows.size_bytes(ACTIONS, OBSERVATIONS, 3) + ALIGNMENT_BYTES, np.uint8)
    rows = Rows(memory.data, ACTIONS, OBSERVATIONS, 3)
    arrays = [*rows.actions, *rows.observations, rows.rewards, rows.terminations, rows.truncations]
    begins = [array.__array_interface__["data"][0] - memory.ctypes.data for array in arrays]
    assert all(begin % ALIGNMENT_BYTES == 0 for begin in begins)
    ends = [begin + array.nbytes for begin, array in zip(begins, arrays, strict=True)]
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))
    assert ends[-1] <= Rows.size_bytes(ACTIONS, OBSERVATIONS, 3)


def test_the_bytes_of_all_are_the_same_memory() -> None:
    rows = Rows(bytearray(Rows.size_bytes(ACTIONS, OBSERVATIONS, 3)), ACTIONS, OBSERVATIONS, 3)
    rows.whole_actions[0][:8] = (7).to_bytes(8, "little")
    assert rows.actions[0][0] == 7
    rows.truncations[2] = True
    assert bytes(rows.whole_scalars[2]) == b"\0\0\1"


def test_plain_memory_takes_what_arrays_give_back() -> None:
    rows = Rows(bytearray(Rows.size_bytes(ACTIONS, OBSERVATIONS, 3)), ACTIONS, OBSERVATIONS, 3)
    for scalars, value in zip(rows.scalars, (0.1, True, np.True_), strict=True):
        scalars[1] = value
    assert rows.rewards.tolist() == [0.0, 0.1, 0.0]
    assert rows.terminations.tolist() == rows.truncations.tolist() == [False, True, False]


def test_a_leaf_without_elements_has_no_bytes() -> None:
    empty = leaves_of(spaces.Box(0, 1, (0,)))
    rows = Rows(bytearray(Rows.size_bytes([], empty, 3)), [], empty, 3)
    assert [len(whole) for whole in rows.whole_observations] == [0]
