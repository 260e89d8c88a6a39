"""What is ready and was not handed out: each environment once, whatever an interrupt brings again."""

from __future__ import annotations

from typing import Any

import numpy as np

from remote_gym.client.ready import Ready
from remote_gym.client.transitions import Part
from remote_gym.messages import Failure, FailureKind


def part(indices: Any, *failed: int) -> Part:
    rows = 4 if indices is None else len(indices)
    failures = [Failure(index, FailureKind.RAISED) for index in failed]
    return Part(indices, [np.zeros((rows, 2))], np.zeros(rows), *np.zeros((2, rows), bool), failures=failures)


def indices(parts: list[Part]) -> list[int]:
    return [index for one in parts for index in one.indices or ()]


def test_first_come_first_served() -> None:
    ready = Ready(4)
    for one in (part([2]), part([0, 3]), part([1])):
        ready.add(one)
    taken, rest = ready.first(2)
    assert indices(taken) == [2, 0] and indices(rest) == [3, 1]
    assert ready.rows == 4, "until they are handed out"
    ready.keep(rest)
    assert ready.rows == 2 and ready.waiting.tolist() == [False, True, False, True]


def test_the_same_part_again_does_no_harm() -> None:
    ready = Ready(4)
    one = part([2, 1])
    ready.add(one)
    ready.add(one)
    assert ready.rows == 2
    ready.keep(ready.first(2)[1])
    ready.add(one)
    assert ready.rows == 0, "not even after it was handed out"


def test_a_failure_is_told_once_and_the_others_stay() -> None:
    ready = Ready(4)
    one = part([0, 1, 2], 1)
    ready.add(one)
    assert [failure.index for failure in ready.failures()] == [1]
    ready.add(one)
    assert ready.failures() == [] and ready.rows == 2
    assert indices(ready.first(2)[0]) == [0, 2]


def test_a_part_of_failures_only_has_no_rows() -> None:
    ready = Ready(4)
    ready.add(part([3], 3))
    ready.add(part([0]))
    assert ready.rows == 1 and not ready.waiting[3]
    taken, rest = ready.first(1)
    assert indices(taken) == [0] and rest == []
    assert ready.failures()


def test_everyone_at_once() -> None:
    ready = Ready(4)
    ready.add(part(None))
    assert ready.rows == 4 and ready.waiting.all()


def test_what_was_handed_out_is_not_remembered_for_ever() -> None:
    ready = Ready(4)
    for _ in range(100):
        ready.add(part([0]))
        ready.keep(ready.first(1)[1])
    assert len(ready._handed) < 20
