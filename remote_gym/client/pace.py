"""Trainer process, no I/O: how fast servers answer, and which of them keep the others waiting.

What counts is what whoever waits sees: from the request's way to the carrier until its answer was here. So a network
that is slow makes a straggler, too; what the server itself says of its steps tells the two apart.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

LAST_STEPS = 128
"""Steps of a server of which it is known how long each took."""

MIN_STEPS = 16
"""Of fewer nobody can tell whether a server is slow: the first ones may be those of a simulator that warms up."""

STRAGGLES = 2.0
"""Times what is usual among the others: whose median step takes longer is a straggler."""

MIN_LATE_SECONDS = 0.002
"""And it takes at least so much longer: below that it is the machine's noise, whatever the ratio is."""


class Judged(NamedTuple):
    """What is to be said of one server's pace.

    Attributes:
        seconds: Of its usual step; None: not known.
        is_straggler: Whether it keeps the others waiting.
    """

    seconds: float | None
    is_straggler: bool


def last_steps() -> deque[float]:
    """Return where the seconds of steps go, of which the last ones stay."""
    return deque(maxlen=LAST_STEPS)


def usual_seconds(took: Sequence[float]) -> float | None:
    """Return the median of a server's last steps; None where there are too few to tell."""
    return median(took) if len(took) >= MIN_STEPS else None


def straggling(usual: Sequence[float | None]) -> list[bool]:
    """Return which servers are stragglers.

    That is whose usual step takes more than `STRAGGLES` times the median of those of all others, and longer by
    `MIN_LATE_SECONDS`. A server that nobody can be compared to is none, nor is one of which it is not known.

    Args:
        usual: The usual seconds of each server's steps; None: not known.
    """
    found = []
    for at, own in enumerate(usual):
        others = [one for other, one in enumerate(usual) if other != at and one is not None]
        of_others = median(others) if others else None
        found.append(
            own is not None
            and of_others is not None
            and own > STRAGGLES * of_others
            and own - of_others >= MIN_LATE_SECONDS
        )
    return found


def judged(took: Mapping[str, Sequence[float]]) -> dict[str, Judged]:
    """Return what is to be said of each server, by its name, whose last steps took so many seconds."""
    usual = [usual_seconds(each) for each in took.values()]
    return {name: Judged(*one) for name, one in zip(took, zip(usual, straggling(usual), strict=True), strict=True)}
