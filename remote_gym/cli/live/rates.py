"""No I/O: totals, as snapshots tell them -> how fast they rise."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Mapping

WINDOW_SECONDS = 5.0
"""Over how long rates are taken: long enough that episodes of an ordinary length do not make them jump."""


class Rates:
    """How fast totals rise, of each key over the last `window_seconds` of the clock that the totals came with.

    A total that falls, or a clock that goes back, is another process's: what was known of the key is forgotten. Where
    nothing came for longer than the window, the rate is that over the gap.
    """

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        """Begin with nothing known."""
        self._window = window_seconds
        self._known: dict[Hashable, deque[tuple[float, dict[str, float]]]] = {}

    def add(self, key: Hashable, time: float, totals: Mapping[str, float]) -> None:
        """Take note of totals at a time, seconds; those of the same time again replace them."""
        known = self._known.setdefault(key, deque())
        if known:
            last_time, last = known[-1]
            if time < last_time or any(totals.get(name, 0.0) < value for name, value in last.items()):
                known.clear()
            elif time == last_time:
                known.pop()
        known.append((time, dict(totals)))
        while len(known) > 2 and known[1][0] <= time - self._window:
            known.popleft()

    def risen(self, key: Hashable, name: str) -> float | None:
        """Return by how much a total has risen within the window; None as long as that is not known."""
        known = self._known.get(key)
        return None if known is None or len(known) < 2 else known[-1][1].get(name, 0.0) - known[0][1].get(name, 0.0)

    def rate(self, key: Hashable, name: str) -> float | None:
        """Return by how much a total rises in a second; None as long as that is not known."""
        risen = self.risen(key, name)
        if risen is None:
            return None
        known = self._known[key]
        return risen / (known[-1][0] - known[0][0])

    def keep(self, keys: Iterable[Hashable]) -> None:
        """Forget all keys but these: constant memory, whoever comes and goes."""
        left = set(keys)
        self._known = {key: known for key, known in self._known.items() if key in left}

    def forget(self) -> None:
        """Forget everything: the next totals are another process's."""
        self._known = {}
