"""Server process: memory that large messages have left behind goes back to the machine.

The C library keeps what was freed in its arenas, and gRPC's and our buffers of one large message lie scattered over
several of them: without this, three results of 48 MB leave 150 MB behind for good. Where the C library has no
`malloc_trim` (glibc has) nothing happens.
"""

from __future__ import annotations

import asyncio
import ctypes

FREED_BYTES = 16 << 20
"""From here on a look is worth it: it takes about a millisecond."""

QUIET_SECONDS = 0.3
"""How long after the last large message: the next one would use the memory again."""


class Trimmer:
    """Waits until large messages have been dealt with, then gives back what they took."""

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if hasattr(ctypes, "CDLL") else None
        self._freed_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def freed(self, size: int) -> None:
        """Take note that `size` bytes are used no more. Call on the event loop."""
        self._freed_bytes += size
        if self._freed_bytes < FREED_BYTES or self._trim is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(QUIET_SECONDS, self._give_back)

    def _give_back(self) -> None:
        self._freed_bytes, self._timer = 0, None
        if self._trim is not None:
            self._trim(0)
