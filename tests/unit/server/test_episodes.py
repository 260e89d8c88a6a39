"""Episodes read off rows: equal to a plain account of each environment, in every mode, and in constant memory."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym.autoreset import NONE
from remote_gym.failures import Failure, FailureKind
from remote_gym.leaves import leaves_of
from remote_gym.pool import Rows
from remote_gym.server.episodes import FEW, RECENT, TOLD_AT_ONCE, UNSETTLED, Episodes
from remote_gym.server.statistics import Counters

MODES = ["NextStep", "SameStep", "Disabled", NONE]
SIZES = pytest.mark.parametrize("size", [1, FEW, 33])


def rows_for(size: int) -> Rows:
    actions, observations = leaves_of(spaces.Discrete(2)), leaves_of(spaces.Box(-1, 1, (2,)))
    return Rows(bytearray(Rows.size_bytes(actions, observations, size)), actions, observations, size)


class Stage:
    """A session's rows, and a clock that is set by hand."""

    def __init__(self, size: int, mode: str, is_vector: bool = False) -> None:
        self.rows = rows_for(size)
        self.counters = Counters()
        self.episodes = Episodes(size, mode, self.counters)
        self.episodes.attach(self.rows, is_vector)
        self.now = 100.0

    def step(
        self, rewards: Any, ends: Any = (), indices: list[int] | None = None, failures: tuple[Failure, ...] = ()
    ) -> None:
        where = list(range(len(self.rows.rewards))) if indices is None else indices
        self.rows.rewards[where] = rewards
        self.rows.terminations[where] = False
        self.rows.terminations[list(ends)] = True
        self.now += 1.0
        self.episodes.stepped(indices, failures, self.now)

    def reset(self, indices: list[int] | None = None, failures: tuple[Failure, ...] = ()) -> None:
        self.now += 1.0
        self.episodes.reset(indices, failures, self.now)

    def ended(self) -> list[tuple[int, float, int, float]]:
        self.episodes.settle()
        return [one[:4] for one in self.episodes.between(0, 10**9)]


class Account:
    """One environment's, kept as plainly as can be."""

    def __init__(self, mode: str) -> None:
        self.mode = mode
        self.running = self.over = False
        self.total, self.length = 0.0, 0
        self.ended: list[tuple[float, int]] = []

    def reset(self) -> None:
        self.running, self.over, self.total, self.length = True, False, 0.0, 0

    def step(self, reward: float, end: bool) -> None:
        if self.over and self.mode == "NextStep":
            self.reset()
            return
        if not self.running or self.over:
            return
        self.total, self.length = self.total + reward, self.length + 1
        if end:
            self.ended.append((self.total, self.length))
            if self.mode == "SameStep":
                self.reset()
            else:
                self.over = True


@pytest.mark.parametrize("mode", MODES)
@SIZES
def test_episodes_are_those_of_a_plain_account(mode: str, size: int) -> None:
    random, stage = np.random.default_rng(size), Stage(size, mode)
    accounts = [Account(mode) for _ in range(size)]
    for turn in range(600):
        some = None if random.random() < 0.5 else sorted(random.permutation(size)[: random.integers(1, size + 1)])
        indices = None if some is None else [int(one) for one in some]
        everyone = range(size) if indices is None else indices
        if turn == 0 or random.random() < 0.05:
            stage.reset(indices)
            for index in everyone:
                accounts[index].reset()
            continue
        rewards = random.integers(-3, 4, len(everyone)).astype(float)
        # Of who is to be reset next the worker says that it goes on; in the other modes it refuses.
        resets = [accounts[index].over and mode == "NextStep" for index in everyone]
        rewards[resets] = 0.0
        ends = [index for index, now in zip(everyone, resets, strict=True) if not now and random.random() < 0.1]
        stage.step(rewards, ends, indices)
        for index, reward in zip(everyone, rewards, strict=True):
            accounts[index].step(float(reward), index in ends)
        for index, account in enumerate(accounts):
            if account.running and not account.over:
                assert stage.episodes.so_far(index) == (account.total, account.length)
                assert stage.episodes.is_running(index)
    expected = [(index, *one) for index, account in enumerate(accounts) for one in account.ended]
    totals = stage.episodes.totals(7)
    assert totals.requests == 7
    assert (totals.episodes, totals.episode_returns) == (len(expected), sum(total for _, total, _ in expected))
    assert totals.episode_lengths == sum(length for *_, length in expected)
    told = [(index, total, length) for index, total, length, _ in stage.ended()]
    for index, account in enumerate(accounts):
        own = [one[1:] for one in told if one[0] == index]
        assert own == account.ended[len(account.ended) - len(own) :]
    assert len(told) == min(TOLD_AT_ONCE, len(expected))


@SIZES
def test_time_runs_from_the_reset_to_the_last_step(size: int) -> None:
    stage = Stage(size, "NextStep")
    stage.reset()
    for end in ((), (), (0,), (), (0,)):  # the fourth resets
        stage.step(1.0, end)
    assert stage.ended() == [(0, 3.0, 3, 3.0), (0, 1.0, 1, 1.0)]


@SIZES
def test_what_a_failure_breaks_off_is_no_episode(size: int) -> None:
    stage, failure = Stage(size, "NextStep"), Failure(0, FailureKind.RAISED)
    stage.reset()
    stage.step(1.0)
    stage.step(1.0, (0,), failures=(failure,))  # its row says nothing
    stage.step(1.0, (0,), failures=(Failure(0, FailureKind.NEEDS_RESET),))
    assert (stage.ended(), stage.episodes.is_running(0)) == ([], False)
    stage.reset([0])
    stage.step(2.0, (0,))
    assert stage.ended() == [(0, 2.0, 1, 1.0)]
    assert stage.counters.lost_episodes == 0


def test_after_an_invalid_result_the_next_whole_episode_counts() -> None:
    stage = Stage(1, "NextStep")
    stage.reset()
    stage.step(1.0, failures=(Failure(0, FailureKind.INVALID),))
    stage.step(1.0, (0,))  # the rest of one of which a part is not known
    stage.step(0.0)
    stage.step(5.0, (0,))
    assert stage.ended() == [(0, 5.0, 1, 1.0)]


def test_a_lost_episode_is_counted_once_and_apart() -> None:
    stage = Stage(3, "NextStep")
    stage.reset()
    stage.step(1.0, (2,))
    stage.episodes.lost(range(3))  # the pool tells: two were under way
    stage.step(1.0, (), failures=tuple(Failure(index, FailureKind.LOST) for index in range(3)))
    assert stage.episodes.totals(0).lost_episodes == stage.counters.lost_episodes == 2
    stage.reset()
    stage.step(1.0, (), failures=(Failure(1, FailureKind.GONE),))  # in flight: an answer tells first
    stage.episodes.lost([1])
    assert stage.counters.lost_episodes == 3
    assert stage.ended() == [(2, 1.0, 1, 1.0)]


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.GONE, FailureKind.RAISED])
def test_an_episode_whose_reset_failed_has_not_begun(kind: FailureKind) -> None:
    stage, failure = Stage(3, "NextStep"), Failure(1, kind)
    stage.reset(failures=(failure,))
    assert [stage.episodes.is_running(index) for index in range(3)] == [True, False, True]
    stage.step(1.0, failures=(failure,))
    stage.episodes.lost([1])  # the pool tells
    stage.reset([1], (failure,))  # of the next worker, too
    assert stage.counters.lost_episodes == 0
    stage.reset([1])
    stage.step(1.0, (1,))
    assert stage.ended() == [(1, 1.0, 1, 1.0)]


def test_of_a_vector_environment_the_rows_say_who_was_reset() -> None:
    stage = Stage(4, "Disabled", is_vector=True)
    stage.rows.terminations[:] = True
    stage.reset()
    stage.step(1.0, (1, 2))
    stage.rows.terminations[:] = [False, True, False, False]
    stage.reset()
    stage.step(1.0, (0, 1))
    assert [one[:3] for one in stage.ended()] == [(1, 1.0, 1), (2, 1.0, 1), (0, 2.0, 2), (1, 1.0, 1)]


@pytest.mark.filterwarnings("error")
@SIZES
def test_odd_rewards_poison_nothing(size: int) -> None:
    stage = Stage(size, "SameStep")
    stage.reset()
    for reward in (math.inf, -math.inf):
        stage.step(reward)
    stage.step(1.0, (0,))
    stage.step(4.0, (0,))
    totals = stage.episodes.totals(0)
    assert (totals.episodes, totals.episode_returns, totals.episode_lengths) == (2, 4.0, 4)
    assert stage.episodes.means[0] == 4.0
    assert (stage.counters.episode_return.count, stage.counters.episode_length.count) == (1, 2)


def test_what_was_told_is_not_told_again() -> None:
    stage = Stage(1, "SameStep")
    stage.reset()
    for reward in range(10):
        stage.step(float(reward), (0,))
    stage.episodes.settle()
    assert [one.episode_return for one in stage.episodes.between(7, 10)] == [7.0, 8.0, 9.0]
    assert [one.episode_return for one in stage.episodes.between(2, 4)] == [2.0, 3.0]
    assert stage.episodes.between(10, 10) == stage.episodes.between(10, 3) == []


def test_a_session_that_has_ended_keeps_its_figures() -> None:
    stage = Stage(2, "SameStep")
    stage.reset()
    stage.step(1.0, (1,))
    stage.episodes.release()
    stage.step(1.0, (1,))
    stage.reset()
    assert stage.episodes.totals(0).episodes == 1


def held_bytes(value: Any, seen: set[int]) -> int:
    """Return the size of what `value` refers to, of the kinds that are used here."""
    if id(value) in seen or isinstance(value, type):
        return 0
    seen.add(id(value))
    size = value.nbytes if isinstance(value, np.ndarray) else sys.getsizeof(value)
    if isinstance(value, (str, bytes, int, float, Rows, memoryview, np.ndarray)):
        return size
    inner = value if hasattr(value, "__iter__") and not isinstance(value, dict) else []
    own = [
        *getattr(value, "__dict__", {}).values(),
        *(getattr(value, name) for name in getattr(value, "__slots__", ())),
    ]
    return size + sum(held_bytes(one, seen) for one in (*inner, *own))


def test_a_day_takes_no_more_memory_than_a_minute() -> None:
    """24 hours of episodes of a minute in 16 environments, one step each second of a simulated clock."""
    stage, sizes = Stage(16, "NextStep"), []
    stage.reset()
    ends = range(16)
    for second in range(24 * 3_600):
        stage.rows.terminations[:] = second % 60 == 59
        stage.rows.rewards[:] = second % 7
        stage.now += 1.0
        stage.episodes.stepped(None, (), stage.now)
        if second in (3_600, 24 * 3_600 - 1):
            stage.episodes.settle()
            sizes.append(held_bytes(stage.episodes, set()))
    assert len(ends) * 24 * 59 < stage.episodes.totals(0).episodes <= len(ends) * 24 * 60
    assert stage.counters.episode_length.count == stage.episodes.count
    assert len(stage.ended()) == TOLD_AT_ONCE <= RECENT
    # Equal numbers may be one object or several; one more for each episode would be a megabyte.
    assert sizes[1] - sizes[0] < 2_048, sizes
    assert UNSETTLED <= 1_000
