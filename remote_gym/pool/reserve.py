"""Parent side: file descriptors held back for the day there are none left, as ships hold ballast to throw out."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

BALLAST = 16
"""What the start of one worker takes at most; it keeps seven."""


class Ballast:
    """Open descriptors that stand for nothing, until `released` lets others have them."""

    def __init__(self) -> None:
        """Hold nothing yet."""
        self._held: list[int] = []

    def fill(self) -> None:
        """Hold all there is to hold, or as many as there are."""
        with contextlib.suppress(OSError):
            while len(self._held) < BALLAST:
                self._held.append(os.open(os.devnull, os.O_RDONLY))

    def drop(self) -> None:
        """Hold nothing."""
        while self._held:
            os.close(self._held.pop())

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Hold nothing in the body of a ``with`` statement."""
        self.drop()
        try:
            yield
        finally:
            self.fill()
