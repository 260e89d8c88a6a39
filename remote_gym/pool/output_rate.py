"""No I/O: how much of what environments print the log takes: bursts whole, of what goes on and on a part, and a count.

An environment may print without end, by mistake or to fill a disk; the others' lines, and the server's own, are to be
found all the same.
"""

from __future__ import annotations

from dataclasses import dataclass

BYTES_PER_LINE = 2_048
"""On average, of what is allowed: so many bytes are as dear as one line."""

WORKER_SHARE = 10
"""All environments of a worker together may print as much as so many of them."""

MAX_KNOWN = 1_024
"""Environments of one worker that are told apart; more of them, real or made up by one that forges labels, share."""


@dataclass(frozen=True)
class Rate:
    """How much may be printed.

    Attributes:
        at_once: Lines.
        per_second: Lines, in the long run.
    """

    at_once: float
    per_second: float


ENVIRONMENT = Rate(1_000, 50)
"""Of one environment: a traceback, or a page of settings, at once; a line per step of a slow environment for ever."""


class Allowance:
    """What one source may still print: a token bucket, of lines; a long line is as dear as several.

    Attributes:
        dropped_lines: That were not allowed since the last call of `forget`.
        dropped_bytes: Of these.
    """

    def __init__(self, rate: Rate, now: float) -> None:
        """Allow `rate`, from `now` on, in seconds of any clock."""
        self.dropped_lines = 0
        self.dropped_bytes = 0
        self._rate = rate
        self._left = float(rate.at_once)
        self._at = now

    def regain(self, now: float) -> bool:
        """Take note of the time; return whether a line is allowed.

        Where lines have been dropped none is until there is room for those of a second: not one at a time.
        """
        self._left = min(self._left + (now - self._at) * self._rate.per_second, float(self._rate.at_once))
        self._at = now
        return self._left >= (min(self._rate.per_second, self._rate.at_once) if self.dropped_lines else 1.0)

    def take(self, size: int) -> None:
        """Print a line of `size` bytes."""
        self._left -= max(1.0, size / BYTES_PER_LINE)

    def drop(self, size: int) -> bool:
        """Drop a line of `size` bytes; return whether it is the first one."""
        self.dropped_lines += 1
        self.dropped_bytes += size
        return self.dropped_lines == 1

    def forget(self) -> str:
        """Return, and forget, how much was dropped, in words; empty if nothing was."""
        if not self.dropped_lines:
            return ""
        said = f"{self.dropped_lines:,} lines ({self.dropped_bytes:,} bytes) were dropped"
        self.dropped_lines = self.dropped_bytes = 0
        return said


Source = tuple[int, str]
"""The group and the label of a line."""


class Allowances:
    """Those of one worker, and of its environments."""

    def __init__(self, now: float) -> None:
        """Begin with nothing printed."""
        self._all = Allowance(Rate(WORKER_SHARE * ENVIRONMENT.at_once, WORKER_SHARE * ENVIRONMENT.per_second), now)
        self._others = Allowance(ENVIRONMENT, now)
        self._of: dict[Source, Allowance] = {}

    def of(self, source: Source, now: float) -> Allowance:
        """Return what one source may still print."""
        if source not in self._of:
            if len(self._of) >= MAX_KNOWN:
                return self._others
            self._of[source] = Allowance(ENVIRONMENT, now)
        return self._of[source]

    def take(self, allowance: Allowance, size: int, now: float) -> bool:
        """Print a line of `size` bytes, if that is allowed; return whether it is."""
        allowed, all_allowed = allowance.regain(now), self._all.regain(now)
        if not (allowed and all_allowed):
            return False
        allowance.take(size)
        self._all.take(size)
        return True

    def leave(self, group: int) -> list[tuple[Source, str]]:
        """Forget a group; return how much of its lines was dropped, in words."""
        return self._ended([source for source in self._of if source[0] == group])

    def end(self) -> list[tuple[Source, str]]:
        """Forget all; return how much was dropped, in words."""
        said = self._others.forget()
        return [*self._ended(list(self._of)), *([((0, "others"), said)] if said else [])]

    def _ended(self, sources: list[Source]) -> list[tuple[Source, str]]:
        told = [(source, self._of.pop(source).forget()) for source in sources]
        return [(source, said) for source, said in told if said]
