"""No I/O: whether, and after how long, what a dead worker hosted is built again. Decides; the pool performs."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from remote_gym.ipc.progress import NO_GROUP

MAX_BACK_OFF_SECONDS = 10.0
FIRST_BACK_OFF_SECONDS = 0.1
"""Waits before a worker is started again that has died before it ever had a result; doubled each time."""

RESTART_WAITS_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0)
"""Between the attempts to replace a worker while descriptors or memory are short."""


def guilty_group(groups: Sequence[int], running: int) -> int | None:
    """Return the group that a death counts against; None: nobody's.

    Args:
        groups: Who lived in the worker and is still built again.
        running: Whose command ran when it died; `NO_GROUP` if none did. Then it is the only one there is.
    """
    if running == NO_GROUP:
        return groups[0] if len(groups) == 1 else None
    return running if running in groups else None


class BackOff:
    """How long to wait before a worker is replaced that died without ever having had a result, as of building."""

    def __init__(self) -> None:
        """Nobody has died."""
        self._failures: dict[str, int] = {}  # name of a worker -> deaths in a row before any result

    def after_death(self, name: str, has_answered: bool) -> float:
        """Take note of a death of the worker `name`; return the seconds to wait."""
        failures = self._failures.pop(name, 0) + 1
        if has_answered:
            return 0.0
        self._failures[name] = failures
        return min(MAX_BACK_OFF_SECONDS, FIRST_BACK_OFF_SECONDS * 2.0 ** (failures - 1))


class Budget:
    """How many deaths within how many seconds are forgiven; the deaths themselves are kept by who died."""

    def __init__(self, limit: tuple[int, float] | None) -> None:
        """Forgive `limit`, as (count, seconds); None: any number."""
        self._limit = limit

    def forgives(self, deaths: deque[float], now: float) -> bool:
        """Add a death at `now` to `deaths`, forget those too old to count, and return whether it is forgiven."""
        if self._limit is None:
            return True
        count, seconds = self._limit
        deaths.append(now)
        while deaths[0] < now - seconds:
            deaths.popleft()
        return len(deaths) <= count
