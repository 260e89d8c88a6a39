"""What reading may cost, in proportion to the bytes that are read, and how that is measured."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from remote_gym.errors import RemoteGymError

Read = Callable[[bytes], Any]

BEST_OF = 5
USUAL_SECONDS = 0.001
"""What `_usual_work` takes on the machine on which the limits of time were set."""


def allowed_seconds(size: int) -> float:
    """CPU time of one thread for a message of `size` bytes."""
    return 0.020 + 1e-6 * size


def slowness() -> float:
    """How many times longer than where the limits were set Python takes here and now; at least 1."""
    return max(1.0, min(_usual_work() for _ in range(3)) / USUAL_SECONDS)


def _usual_work() -> float:
    """Return the seconds for a fixed piece of what reading consists of: objects made, and kept."""
    began = time.thread_time()
    kept: list[dict[int, int]] = []
    for number in range(20_000):
        kept.append({number: len(kept)})
    return time.thread_time() - began


def allowed_bytes(size: int) -> int:
    """Memory that a message of `size` bytes may take at any moment while it is read."""
    return 80 * size + (1 << 20)


def _run(read: Read, data: bytes) -> None:
    with contextlib.suppress(RemoteGymError):
        read(data)


def cpu_seconds(read: Read, data: bytes) -> float:
    """Of one reading."""
    began = time.thread_time()
    _run(read, data)
    return time.thread_time() - began


def peak_bytes(read: Read, data: bytes) -> int:
    """What Python allocates at most while it reads once; what protobuf keeps in C is not in it."""
    tracing = tracemalloc.is_tracing()
    if not tracing:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        _run(read, data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        if not tracing:
            tracemalloc.stop()
    return peak - before


def peak_resident_bytes(read: Read, data: bytes) -> int:
    """What the process grows by at most while it reads once: protobuf's own memory too. For megabytes of data."""
    Path("/proc/self/clear_refs").write_text("5")  # the high water mark is the present from now on
    before = _high_water_bytes()
    _run(read, data)
    return _high_water_bytes() - before


def _high_water_bytes() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1_024


def too_dear(read: Read, data: bytes) -> str | None:
    """Return what reading `data` costs that it may not, if anything; each cost is the least of some readings."""
    size = len(data)
    allowed = allowed_seconds(size)
    seconds = cpu_seconds(read, data)
    for _ in range(BEST_OF - 1):
        if seconds <= allowed:
            break
        before = slowness()  # a machine that is busy with other things is slow at both
        seconds = min(seconds, cpu_seconds(read, data) / max(before, slowness()))
    if seconds > allowed:
        return f"{size:,} bytes take {seconds * 1e3:.1f} ms, more than {allowed * 1e3:.1f}"
    peak = peak_bytes(read, data)
    if peak > allowed_bytes(size):  # once more: the first time, caches are filled and modules imported
        peak = min(peak, peak_bytes(read, data))
    if peak > allowed_bytes(size):
        return f"{size:,} bytes take {peak:,} bytes of memory, more than {allowed_bytes(size):,}"
    return None


def assert_cheap(read: Read, data: bytes) -> None:
    """Fail if reading `data` costs more than its size allows; any error of ours is a way to have read it."""
    assert too_dear(read, data) is None
