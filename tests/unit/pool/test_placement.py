from __future__ import annotations

import pytest

from remote_gym.pool.placement import (
    KNOWN_STEPS,
    WORTH_SECONDS,
    EnvIds,
    NoRoomError,
    plan,
    room_for,
    shares,
    worth,
)


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


@pytest.mark.parametrize(
    ("loads", "room", "workers", "expected"),
    [
        ([0, 0, 0], 8, 1, [(0, 8)]),
        ([3, 0, 2], 12, 2, [(1, 4), (2, 4)]),
        ([0, 0], 8, 5, [(0, 4), (1, 4)]),
        ([2, 0, 1], 4, 1, [(1, 3), (2, 3), (0, 2)]),  # it has no room for all
    ],
)
def test_on_no_more_workers_than_are_worth_it_where_these_have_room(
    loads: list[int], room: int, workers: int, expected: list[tuple[int, int]]
) -> None:
    assert shares(8, loads, room, workers) == expected


def test_each_worker_is_to_have_work_that_is_worth_it() -> None:
    assert worth(8, KNOWN_STEPS - 1, 1.0) is None
    assert worth(8, 0, 0.0) is None
    assert worth(8, 10_000, 10_000 * WORTH_SECONDS / 100) == 1
    assert worth(64, 10_000, 10_000 * WORTH_SECONDS / 7.5) == 8
    assert worth(8, 10_000, 10_000 * 1.0) >= 8  # slow ones: no two in one worker if there are enough


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


@pytest.mark.parametrize(
    ("num_envs", "loads", "num_workers", "at_most", "room", "expected"),
    [
        (5, [], 2, 9, 5, [(0, 3), (1, 2)]),  # as if all workers were there
        (1, [1], 2, 9, 9, [(1, 1)]),
        (1, [0, 1], 2, 9, 9, [(0, 1)]),
        (1, [], 4, 4, 9, [(0, 1)]),  # and no more than are needed
        (4, [], 4, 2, 9, [(0, 2), (1, 2)]),  # others have the rest
        (1, [3], 4, 1, 9, [(0, 1)]),
        (1, [3], 4, 0, 9, [(0, 1)]),  # what it has it keeps
        (1, [], 4, 0, 9, None),
        (5, [], 1, 3, 2, [(0, 2), (1, 2), (2, 1)]),  # more are needed
        (5, [], 1, 2, 2, None),
        (3, [2], 1, 3, 2, [(1, 2), (2, 1)]),
        (1, [2, 2], 1, 2, 2, None),
    ],
)
def test_a_tenants_environments_go_where_they_would_if_it_had_all_its_workers(
    num_envs: int, loads: list[int], num_workers: int, at_most: int, room: int, expected: list[tuple[int, int]] | None
) -> None:
    assert plan(num_envs, loads, num_workers, at_most, room) == expected


def test_what_is_never_split_goes_to_the_least_loaded_whatever_the_room() -> None:
    assert plan(9, [2], 2, 2, 4, whole=True) == [(1, 9)]
    assert plan(9, [2, 1], 2, 2, 4, whole=True) == [(1, 9)]
    assert plan(9, [], 2, 0, 4, whole=True) is None


def test_whose_limit_it_was_is_told() -> None:
    assert [NoRoomError("no", of_tenant).of_tenant for of_tenant in (True, False)] == [True, False]
    assert not NoRoomError("no").of_tenant
