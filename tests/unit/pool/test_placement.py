from __future__ import annotations

import pytest

from remote_gym.pool.placement import EnvIds, room_for, shares


@pytest.mark.parametrize(
    ("num_envs", "loads", "room", "expected"),
    [
        (8, [0, 0], 8, [(0, 4), (1, 4)]),
        (5, [0, 0], 5, [(0, 3), (1, 2)]),
        (1, [3, 2], 9, [(1, 1)]),
        (4, [3, 0], 4, [(1, 3), (0, 1)]),  # the second pass: the first worker was full
        (0, [1], 1, []),
    ],
)
def test_least_loaded_first_evenly_and_never_above_the_room(
    num_envs: int, loads: list[int], room: int, expected: list[tuple[int, int]]
) -> None:
    assert shares(num_envs, loads, room) == expected


def test_without_a_limit_all_find_room() -> None:
    assert room_for(4, [3, 7], None) == 11
    assert room_for(4, [], None) == 4
    assert room_for(4, [3, 7], 8) == 8


def test_the_lowest_free_env_id_is_taken_first() -> None:
    env_ids = EnvIds()
    assert [env_ids.take() for _ in range(3)] == [0, 1, 2]
    env_ids.give_back(2)
    env_ids.give_back(0)
    assert [env_ids.take() for _ in range(3)] == [0, 2, 3]
