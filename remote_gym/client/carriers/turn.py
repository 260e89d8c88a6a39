"""Trainer process: whose turn it is to read a connection: the thread's that receives, or a caller's that stands in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import partial

LEAVE_SECONDS = 0.5
"""How long the receiver waits for who stands in to leave, and is called to. One that does not was interrupted twice, or
runs a signal's handler that takes long."""


class Turn:
    """The right to read.

    The receiver has it, also while it deals with what it has received, and gives it up only for the very time in which
    it waits for the socket. Meanwhile a caller may take it. Nothing an interrupt does to that caller loses anything:
    either it had not begun to read, or whatever it was reading is `torn`, and the receiver finds out.

    Attributes:
        try_to_take: Take it if nobody has it; return whether that was so. Who has it may take it again.
        release: Give it up, once for each time it was taken.
        torn: Whether something was read that was not taken.
    """

    def __init__(self) -> None:
        """Begin as nobody's."""
        self._lock = lock = threading.RLock()  # knows who has it: an interrupt may keep that from being noted
        self.take, self.release = lock.acquire, lock.release
        self.try_to_take: Callable[[], bool] = partial(lock.acquire, False)
        self.torn = False

    def take_back(self, call: Callable[[], object]) -> bool:
        """Take it as the receiver, who lets whoever stands in be called; return False if that does not give it up."""
        if self._lock.acquire(False):
            return True
        call()
        return self._lock.acquire(timeout=LEAVE_SECONDS)

    def leave(self, tidy: Callable[[], object] = lambda: None) -> None:
        """Give it up wherever an interrupt has struck, as often as it was taken, if at all; `tidy` first."""
        if self._lock.acquire(False):  # it was ours, or is nobody's
            tidy()
            with contextlib.suppress(RuntimeError):  # no longer ours
                while True:
                    self._lock.release()
