"""Inputs at random, reproducible, with nothing but Python: where there is no engine, in CI, and for saved inputs."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from random import Random

from fuzz import makers, mutating
from fuzz.targets import Finding, Target

WEIGHED = 8
"""One input in this many is also read for its memory, which takes five times as long."""


def inputs(target: Target, seed: int) -> Iterator[bytes]:
    """Yield mutations of made and of committed inputs, for ever."""
    chance = Random(f"{target.name} {seed}")
    saved = [path.read_bytes() for path in target.saved("corpus")]
    while True:
        data = chance.choice(saved) if saved and chance.random() < 0.3 else makers.made(target.make, chance)
        yield mutating.mutate(data, chance)


def run(
    target: Target, seed: int, count: int | None = None, seconds: float = float("inf")
) -> Generator[tuple[bytes, Finding], None, int]:
    """Read `count` inputs, or for so long; yield what shows a fault. Returns how many it were."""
    deadline = time.monotonic() + seconds
    for done, data in enumerate(inputs(target, seed)):
        if done == count or time.monotonic() > deadline:
            return done
        try:
            target.run(data)
            if done % WEIGHED == 0:
                target.weigh(data)
        except Finding as finding:
            yield data, finding
    raise AssertionError("inputs never end")
