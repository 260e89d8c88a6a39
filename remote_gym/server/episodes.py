"""Server process: what the episodes of one session gave, return, length and time, read off its answers.

`Scatter` tells of every answer once it is sent, while the rows are still the server's. A step of everybody costs one
addition over the batch and a look at its flags: about four microseconds for however many, one for a few.

An episode begins with a reset and ends with the step that sets terminated or truncated. With NEXT_STEP the step after
that one resets, and belongs to none. What a reset, a failure or a loss breaks off is no episode; a lost one is counted
apart. Of an environment that was never reset nothing is known until it is.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import islice
from time import perf_counter
from typing import Any

import numpy as np

from remote_gym.autoreset import NONE
from remote_gym.figures import Episode, Totals
from remote_gym.gym import AutoresetMode
from remote_gym.leaves import rows_at
from remote_gym.messages import Failure, FailureKind, Indices, every
from remote_gym.pool import Rows
from remote_gym.server.statistics import Counters

RECENT = 100
"""Episodes of a session that are remembered, one by one; means are of so many, as RL's libraries have it."""

TOLD_AT_ONCE = 64
"""Of those, how many a snapshot tells."""

UNSETTLED = 256
"""Episodes after which they are counted together, which takes less time than one by one does."""

FEW = 8
"""Environments for which Python's own numbers are quicker than arrays."""

_NEVER = 2**62
"""In place of the step with which an episode began: no episode is known to run."""

_SET = b"\1"

_Ended = tuple[int, float, int, float, float]
"""Env index, return, length, seconds, and when."""

_LOST = frozenset({FailureKind.LOST, FailureKind.GONE})


class Episodes:
    """One session's. Memory is constant: three numbers for each environment, and the last `RECENT` episodes.

    Relies on: the event loop's thread; times are the performance counter's.

    Attributes:
        env_steps: Environment steps answered.
    """

    def __init__(self, num_envs: int, mode: str = NONE, counters: Counters | None = None) -> None:
        """Know of no episode; `attach` hands over the rows.

        Args:
            num_envs: Of the session.
            mode: `NONE`, or the value of an `AutoresetMode`.
            counters: The server's, where all sessions' episodes are counted.
        """
        self.env_steps = 0
        self._num_envs, self._everyone = num_envs, range(num_envs)
        self._resets_next = mode == AutoresetMode.NEXT_STEP.value
        self._resets_same = mode == AutoresetMode.SAME_STEP.value
        self._counters = Counters() if counters is None else counters
        self._rows: Rows | None = None
        self._is_vector = False
        self._steps = 0  # of everybody
        self._starts = np.full(num_envs, _NEVER, np.int64)  # `_steps` at an episode's begin, less its steps of some
        self._returns = np.zeros(num_envs)
        self._began = np.zeros(num_envs)
        # The same as plain memory, whose numbers are Python's own.
        self._start: Any = self._starts.data
        self._return: Any = self._returns.data
        self._begin: Any = self._began.data
        self._over: set[int] = set()  # whose episode has ended, and no other begun
        self._unsettled: list[_Ended] = []
        self._recent: deque[_Ended] = deque(maxlen=RECENT)
        self._means = 0, (0.0, 0.0, 0.0)  # of the last after so many
        self._count = self._lost = self._lengths = 0
        self._return_sum = self._second_sum = 0.0

    def attach(self, rows: Rows, is_vector: bool) -> None:
        """Read `rows` from now on. After a reset of a vector environment, its terminations say who was reset."""
        self._rows, self._is_vector = rows, is_vector

    def release(self) -> None:
        """Let go of the rows; what was counted stays."""
        self._rows = None

    # From answers

    def stepped(self, indices: Indices, failures: Sequence[Failure], now: float) -> None:
        """Take in the answer to a step of those at `indices`; the rows of `failures` say nothing."""
        rows = self._rows
        if rows is None:
            return
        failed = self._failed(failures) if failures else ()
        everyone = self._everyone if indices is None else indices
        self.env_steps += len(everyone)
        if indices is None:
            self._steps += 1
        ended = (
            self._add_few(rows, indices, everyone) if len(everyone) <= FEW else self._add_many(rows, indices, everyone)
        )
        if self._over and self._resets_next:
            self._restart(self._over if indices is None else self._over.intersection(indices), now)
        if ended:
            self._end(ended, failed, now)

    def _add_few(self, rows: Rows, indices: Indices, everyone: Sequence[int]) -> list[int]:
        """Add rewards to returns, and a step to each length; return whose episode has ended."""
        rewards, terminations, truncations = rows.scalars
        for index in everyone:
            self._return[index] += rewards[index]
            if indices is not None:
                self._start[index] -= 1
        return [index for index in everyone if terminations[index] or truncations[index]]

    def _add_many(self, rows: Rows, indices: Indices, everyone: Sequence[int]) -> list[int]:
        """Do the same with arrays."""
        where = slice(None) if indices is None else rows_at(indices)
        if isinstance(where, list):
            where = np.array(where)
        with np.errstate(all="ignore"):  # infinities, and what becomes one
            self._returns[where] += rows.rewards[where]
        if indices is None:
            _, terminations, truncations = rows.whole_scalars
            if not (_SET in bytes(terminations) or _SET in bytes(truncations)):
                return []
        else:
            self._starts[where] -= 1
        (ended,) = (rows.terminations[where] | rows.truncations[where]).nonzero()
        places: list[int] = ended.tolist()
        return places if indices is None else [indices[at] for at in places]

    def reset(self, indices: Indices, failures: Sequence[Failure], now: float) -> None:
        """Take in the answer to a reset of those at `indices`: an episode of `failures` is not begun, and not lost."""
        if self._rows is None:
            return
        begun = np.flatnonzero(self._rows.terminations).tolist() if self._is_vector else every(indices, self._num_envs)
        if failures:
            failed = self._break_off(failures)
            begun = [index for index in begun if index not in failed]
        if begun:
            self._restart(begun, now)

    def lost(self, indices: Iterable[int]) -> None:
        """Take note that the worker of those at `indices` has died; to be told of it again does nothing."""
        for index in indices:
            if self.is_running(index):
                self._lost += 1
                self._counters.lost_episodes += 1
            self._start[index] = _NEVER
            self._over.discard(index)

    def _failed(self, failures: Sequence[Failure]) -> Collection[int]:
        """Break off the episodes of those that failed, or count them as lost; return their env indices."""
        self.lost(failure.index for failure in failures if failure.kind in _LOST)
        return self._break_off(failures)

    def _break_off(self, failures: Sequence[Failure]) -> Collection[int]:
        failed = {failure.index for failure in failures}
        for index in failed:
            self._start[index] = _NEVER
        self._over -= failed
        return failed

    def _restart(self, indices: Collection[int], now: float) -> None:
        for index in indices:
            self._start[index], self._return[index], self._begin[index] = self._steps, 0.0, now
        self._over.difference_update(list(indices))

    def _end(self, indices: Sequence[int], failed: Collection[int], now: float) -> None:
        for index in indices:
            if index in failed or index in self._over:
                continue
            length = self._steps - self._start[index]
            if length > 0:
                self._unsettled.append((index, self._return[index], length, now - self._begin[index], now))
            if self._resets_same:
                self._start[index], self._return[index], self._begin[index] = self._steps, 0.0, now
            else:
                self._over.add(index)
        if len(self._unsettled) >= UNSETTLED:
            self.settle()

    # For who looks on

    def is_running(self, index: int) -> bool:
        """Return whether an episode is known to have begun, and has not ended."""
        return bool(self._start[index] <= self._steps) and index not in self._over

    def so_far(self, index: int) -> tuple[float, int]:
        """Return the return and length of the episode of `index`: the running one, or the one that has just ended."""
        length = self._steps - self._start[index]
        return (self._return[index], length) if length >= 0 else (0.0, 0)

    def settle(self) -> None:
        """Count the episodes that have ended since the last time."""
        if not self._unsettled:
            return
        ended, self._unsettled = self._unsettled, []
        _, returns, lengths, seconds, _ = (np.array(column, float) for column in zip(*ended, strict=True))
        finite = returns[np.isfinite(returns)]
        counters = self._counters
        counters.episode_return.observe_all(finite)
        counters.episode_length.observe_all(lengths)
        counters.episode_seconds.observe_all(seconds)
        counters.episodes += len(ended)
        self._count += len(ended)
        self._return_sum += float(finite.sum())
        self._lengths += int(lengths.sum())
        self._second_sum += float(seconds.sum())
        self._recent.extend(ended[-RECENT:])

    @property
    def means(self) -> tuple[float, float, float]:
        """Mean return, length and seconds of the last `RECENT` at most; zeros without any."""
        if self._means[0] != self._count:
            _, returns, lengths, seconds, _ = zip(*self._recent, strict=True)
            finite = [one for one in returns if math.isfinite(one)]
            mean_return = sum(finite) / max(1, len(finite))
            self._means = self._count, (mean_return, sum(lengths) / len(lengths), sum(seconds) / len(seconds))
        return self._means[1]

    @property
    def count(self) -> int:
        """How many have ended, and were settled."""
        return self._count

    def between(self, told: int, until: int) -> list[Episode]:
        """Return the episodes after the first `told`, up to the one numbered `until`, the oldest first.

        Of more than `TOLD_AT_ONCE`, these last ones.
        """
        until, forgotten = min(until, self._count), self._count - len(self._recent)
        first = max(told, until - TOLD_AT_ONCE, forgotten)
        told_of = islice(self._recent, first - forgotten, max(first, until) - forgotten)
        ahead = time.time() - perf_counter()
        return [Episode(index, total, length, seconds, now + ahead) for index, total, length, seconds, now in told_of]

    def totals(self, requests: int) -> Totals:
        """Return what has been counted; `requests` is counted elsewhere."""
        self.settle()
        return Totals(
            requests, self.env_steps, self._count, self._lost, self._return_sum, self._lengths, self._second_sum
        )
