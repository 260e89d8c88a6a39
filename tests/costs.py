"""What reading bytes of a peer may cost: time and memory in proportion to the bytes, whatever they say."""

from __future__ import annotations

import contextlib
import time
import tracemalloc
from collections.abc import Callable

from remote_gym.errors import RemoteGymError

SECONDS, SECONDS_PER_BYTE = 20e-3, 1e-6
"""Of the reading thread's processor: on a busy machine waiting costs nothing."""
PEAK_BYTES, PEAK_PER_BYTE = 2**20, 80

Read = Callable[[bytes], object]


def attempt(read: Read, data: bytes) -> None:
    """Read; this package's own errors are an answer, all others are faults."""
    with contextlib.suppress(RemoteGymError):
        read(data)


def measure_seconds(read: Read, data: bytes, enough: float = 0.0, times: int = 5) -> float:
    """Return the thread's processor time, best of `times`; of fewer once it is `enough`."""
    best = float("inf")
    for _ in range(times):
        start = time.thread_time()
        attempt(read, data)
        best = min(best, time.thread_time() - start)
        if best <= enough:
            break
    return best


def measure_peak(read: Read, data: bytes) -> int:
    """Return the most bytes that Python and NumPy had allocated at once, above what they had before."""
    tracemalloc.start()
    try:
        attempt(read, data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def assert_cheap(read: Read, data: bytes) -> None:
    """Assert that reading costs at most 20 ms + 1 us per byte and 1 MiB + 80 bytes per byte."""
    most_seconds = SECONDS + SECONDS_PER_BYTE * len(data)
    seconds = measure_seconds(read, data, most_seconds)
    assert seconds <= most_seconds, f"{len(data):,} bytes took {seconds:.3f} s, the bound is {most_seconds:.3f}"
    most_bytes = PEAK_BYTES + PEAK_PER_BYTE * len(data)
    peak = measure_peak(read, data)
    assert peak <= most_bytes, f"{len(data):,} bytes took {peak:,} bytes of memory, the bound is {most_bytes:,}"
