"""Who pays for a death, how often it is forgiven, and how long the next worker waits."""

from __future__ import annotations

from collections import deque

import pytest

from remote_gym.ipc.progress import NO_GROUP
from remote_gym.pool.restarts import FIRST_BACK_OFF_SECONDS, MAX_BACK_OFF_SECONDS, BackOff, Budget, guilty_group


@pytest.mark.parametrize(
    ("groups", "running", "guilty"),
    [
        ([3, 4], 4, 4),  # whose command ran
        ([3, 4], 9, None),  # who ran has left, or was given up
        ([3, 4], NO_GROUP, None),  # it may have been either
        ([3], NO_GROUP, 3),
        ([], NO_GROUP, None),
        ([], 3, None),
    ],
)
def test_a_death_counts_against_whose_command_ran_or_the_only_one_there(
    groups: list[int], running: int, guilty: int | None
) -> None:
    assert guilty_group(groups, running) == guilty


def test_deaths_are_forgiven_until_there_are_too_many_in_the_time() -> None:
    budget, deaths = Budget((2, 10.0)), deque[float]()
    assert [budget.forgives(deaths, now) for now in (0.0, 1.0, 2.0)] == [True, True, False]
    assert budget.forgives(deaths, 11.5)  # the first two are too old to count
    assert list(deaths) == [2.0, 11.5]


def test_each_has_deaths_of_its_own() -> None:
    budget = Budget((1, 10.0))
    one, other = deque[float](), deque[float]()
    assert budget.forgives(one, 0.0) and budget.forgives(other, 0.0)
    assert not budget.forgives(one, 1.0)


def test_without_a_limit_everything_is_forgiven_and_nothing_is_kept() -> None:
    budget, deaths = Budget(None), deque[float]()
    assert all(budget.forgives(deaths, float(now)) for now in range(1_000))
    assert not deaths


def test_a_worker_that_dies_before_any_result_waits_longer_each_time() -> None:
    back_off = BackOff()
    waits = [back_off.after_death("worker 0", has_answered=False) for _ in range(10)]
    assert waits[:3] == [FIRST_BACK_OFF_SECONDS, 2 * FIRST_BACK_OFF_SECONDS, 4 * FIRST_BACK_OFF_SECONDS]
    assert waits[-1] == MAX_BACK_OFF_SECONDS
    assert back_off.after_death("worker 1", has_answered=False) == FIRST_BACK_OFF_SECONDS  # others pay nothing
    assert back_off.after_death("worker 0", has_answered=True) == 0.0
    assert back_off.after_death("worker 0", has_answered=False) == FIRST_BACK_OFF_SECONDS
