"""Who is a straggler, and what is said of steps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gym.client.pace import (
    LAST_STEPS,
    MIN_LATE_SECONDS,
    MIN_STEPS,
    STRAGGLES,
    Judged,
    judged,
    last_steps,
    straggling,
    usual_seconds,
)


@pytest.mark.parametrize(
    ("usual", "found"),
    [
        ([0.010, 0.010, 0.021], [False, False, True]),
        ([0.010, 0.010, 0.020], [False, False, False]),  # twice as long is not more than that
        ([0.010, 0.021], [False, True]),
        ([0.010, None], [False, False]),
        ([None, None], [False, False]),
        ([0.010], [False]),
        ([], []),
        ([0.0001, 0.0001, 0.0009], [False, False, False]),  # of noise
        ([0.010, 0.030, 0.030], [False, False, False]),  # half of the others are as slow
        ([0.010, 0.010, 0.010, 0.500, 0.600], [False, False, False, True, True]),
    ],
)
def test_who_takes_more_than_twice_as_long_as_the_others(usual: list[float | None], found: list[bool]) -> None:
    assert straggling(usual) == found


@given(st.lists(st.one_of(st.none(), st.floats(0, 10)), max_size=12))
def test_fewer_than_half_straggle_and_none_that_is_as_quick_as_another(usual: list[float | None]) -> None:
    found = straggling(usual)
    slow = [one for one, straggles in zip(usual, found, strict=True) if straggles]
    others = [one for one, straggles in zip(usual, found, strict=True) if not straggles and one is not None]
    assert len(slow) <= max(1, len(others))
    for one in slow:
        assert one is not None and one > STRAGGLES * min(others) and one - min(others) >= MIN_LATE_SECONDS


def test_a_few_steps_say_nothing() -> None:
    assert usual_seconds([0.5] * (MIN_STEPS - 1)) is None and usual_seconds([0.5] * MIN_STEPS) == 0.5
    took = {"quick": [0.01] * MIN_STEPS, "slow": [0.01, *[0.05] * MIN_STEPS], "new": [9.0]}
    assert judged(took) == {"quick": Judged(0.01, False), "slow": Judged(0.05, True), "new": Judged(None, False)}


def test_the_last_steps_count() -> None:
    took = last_steps()
    took.extend(range(2 * LAST_STEPS))
    assert list(took) == list(range(LAST_STEPS, 2 * LAST_STEPS))
