"""Lost workers are remembered: bounded, with the output of those alone who may see it."""

from __future__ import annotations

from typing import Any

from fake_workers import Worker, block

from remote_gym.pool import WorkerLost
from remote_gym.server.deaths import MAX_DEATHS, MAX_OUTPUT_CHARACTERS, Deaths
from remote_gym.server.principals import Principal


class Session:
    def __init__(self, name: str, worker: Any, group: int) -> None:
        self.id, self.principal = name.encode().ljust(16), Principal(name)
        self.blocks = [block(0, 1, worker, group)]


def dead(number: int = 3) -> Any:
    worker: Any = Worker()
    worker.number, worker.pid = number, 77
    return worker


LOST = WorkerLost("killed by SIGKILL", 0, 1, {1: "of ada", 2: "of bob"})


def test_somebody_sees_what_concerns_them() -> None:
    deaths, worker = Deaths(), dead()
    deaths.note(worker, LOST, [Session("ada", worker, 1), Session("bob", worker, 2), Session("eve", dead(), 3)])
    (seen,) = deaths.between(0, 1, lambda name, _: name == "ada", False)
    assert (seen.reason, seen.output, seen.worker, seen.process) == ("killed by SIGKILL", "of ada", 3, 77)
    assert seen.sessions == [b"ada".ljust(16)]
    assert deaths.between(0, 1, lambda name, _: name == "eve", False) == []
    (everything,) = deaths.between(0, 1, lambda *_: True, True)
    assert everything.output == "of ada\nof bob"


def test_what_was_told_is_not_told_again() -> None:
    deaths, worker = Deaths(), dead()
    for _ in range(3):
        deaths.note(worker, LOST, [Session("ada", worker, 1)])
    assert [one.number for one in deaths.between(1, 3, lambda *_: True, True)] == [2, 3]
    assert [one.number for one in deaths.between(0, 1, lambda *_: True, True)] == [1]


def test_a_death_that_concerns_nobody_is_the_operators_to_see() -> None:
    deaths = Deaths()
    deaths.note(dead(), LOST, [])
    assert deaths.between(0, 1, lambda *_: True, False) == []
    assert len(deaths.between(0, 1, lambda *_: True, True)) == 1


def test_all_of_it_is_bounded() -> None:
    deaths, worker = Deaths(), dead()
    lost = WorkerLost("exit code 3", 0, 1, dict.fromkeys(range(1, 500), "x" * 60000))
    sessions = [Session(f"p{group}", worker, group) for group in range(1, 500)]
    for _ in range(2 * MAX_DEATHS):
        deaths.note(worker, lost, sessions)
    seen = deaths.between(0, deaths.count, lambda *_: True, True)
    assert len(seen) == MAX_DEATHS
    assert max(len(one.output) for one in seen) < 2 * MAX_OUTPUT_CHARACTERS
    assert max(len(one.sessions) for one in seen) <= 64
