"""Contender's process: how a slice of stepping is timed, the same for all who have a `step`."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

Run = Callable[[float], dict[str, Any]]

NUM_BATCHES = 10
"""Action batches that are made beforehand, so that sampling is not part of what is measured."""


def action_batches(space: Any) -> list[Any]:
    """Return a few seeded samples of a batched action space."""
    space.seed(0)
    return [space.sample() for _ in range(NUM_BATCHES)]


def stepping(step: Callable[[Any], Any], batches: list[Any], num_envs: int) -> Run:
    """Return a `run` that steps all the time, for at least as long as it is told, in whole rounds of all batches."""

    def run(seconds: float) -> dict[str, Any]:
        rounds, began = 0, time.perf_counter()
        while True:
            for batch in batches:
                step(batch)
                rounds += 1
                # Slow environments must not stretch a slice to ten times its length.
                if (elapsed := time.perf_counter() - began) >= seconds:
                    return {"steps": rounds * num_envs, "seconds": elapsed}

    return run


def timing(step: Callable[[], Any], between: Callable[[], None] = lambda: None, counts: int = 1) -> Run:
    """Return a `run` that also gives the microseconds of each step, which counts as `counts` of them.

    `between` is called after each, off the clock.
    """

    def run(seconds: float) -> dict[str, Any]:
        took, began = [], time.perf_counter()
        while time.perf_counter() - began < seconds:
            before = time.perf_counter_ns()
            step()
            took.append((time.perf_counter_ns() - before) / 1_000)
            between()
        return {"steps": len(took) * counts, "seconds": time.perf_counter() - began, "microseconds": took}

    return run


class Single:
    """One environment stepped for ever with seeded actions."""

    def __init__(self, env: Any) -> None:
        """Reset it."""
        self._env = env
        env.reset(seed=0)
        env.action_space.seed(0)
        self._actions = cycle([env.action_space.sample() for _ in range(1_000)])
        self._is_over = False

    def step(self) -> None:
        """Step once; what is to be timed."""
        _, _, terminated, truncated, _ = self._env.step(next(self._actions))
        self._is_over = terminated or truncated

    def reset_if_over(self) -> None:
        """Begin anew after an episode's end."""
        if self._is_over:
            self._env.reset()
