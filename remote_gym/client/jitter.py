"""Trainer process, no I/O: chance of our own, so that many clients of one server do not all come back at once.

It has no state: a trainer that seeds Python's `random` draws the same numbers whatever becomes of its connections, and
the children of a fork do not draw the same ones.
"""

from __future__ import annotations

from random import SystemRandom

_CHANCE = SystemRandom()


def around(seconds: float) -> float:
    """Return half of `seconds` to one and a half times as many."""
    return between(0.5 * seconds, 1.5 * seconds)


def between(least: float, most: float) -> float:
    """Return any number of seconds between these."""
    return _CHANCE.uniform(least, most)
