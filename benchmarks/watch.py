"""Benchmark's own process: who else uses this machine?"""

from __future__ import annotations

import os
import time
from pathlib import Path


class Watch:
    """How much of the machine others take while this one watches. Linux tells; elsewhere nobody knows."""

    def __init__(self) -> None:
        """Begin."""
        self._before = _now()

    @property
    def others(self) -> float | None:
        """Cores that processes other than ours and our descendants, and the host, have taken; None: unknown.

        To be asked before what we started is ended: what Ray's processes have taken is forgotten with them.
        """
        now = _now()
        if now is None or self._before is None:
            return None
        machine, ours, when = (after - before for after, before in zip(now, self._before, strict=True))
        return round(max(0.0, (machine - ours) / when), 3) if when > 0 else 0.0


def _now() -> tuple[float, float, float] | None:
    """Return seconds: of all processes and the host, of ours, and the time."""
    try:
        user, nice, system, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        ours = sum(_ticks(pid) for pid in [os.getpid(), *descendants(os.getpid())])
    except (OSError, ValueError):
        return None
    second = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + steal) / second, ours / second, time.monotonic()


def _ticks(pid: int) -> int:
    """Return what a process has taken, with those of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # it has just ended
        return 0
    return sum(map(int, fields[11:15]))


def descendants(pid: int) -> list[int]:
    """Return the processes that `pid` has started, and theirs; none where the kernel does not tell."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, children.read_text().split()):
            found += [child, *descendants(child)]
    return found


def resident_bytes(pid: int) -> int:
    """Return what a process holds in memory; Linux only."""
    line = next(one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if one.startswith("VmRSS"))
    return int(line.split()[1]) * 1_024
