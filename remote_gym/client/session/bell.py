"""Trainer process: how one thread wakes another. Not a place for anything: only a hint to look again."""

from __future__ import annotations

import contextlib
import threading


class Bell:
    """Rung by any thread, heard by one that waits, or that waits next; several rings are one.

    What is to be seen is put in its place first, then the bell is rung; who wakes looks at the place. So an interrupt
    that swallows a ring loses nothing, and a ring too many only costs a look. A bare lock: unlike `threading.Event`
    it costs no allocation per wait (a step waits once).
    """

    def __init__(self) -> None:
        """Begin silent."""
        self._silent = threading.Lock()  # held: silent; protects nothing
        self._silent.acquire()

    def ring(self) -> None:
        """Wake who waits, or whoever does next."""
        if self._silent.locked():
            with contextlib.suppress(RuntimeError):  # another thread has rung it just now
                self._silent.release()

    def wait(self, timeout_seconds: float | None) -> None:
        """Return when it was rung, or after `timeout_seconds`; None: no matter how long it takes."""
        if timeout_seconds is None:
            self._silent.acquire()
        else:
            self._silent.acquire(timeout=min(max(0.0, timeout_seconds), threading.TIMEOUT_MAX))
