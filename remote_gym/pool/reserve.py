"""Server process: file descriptors, which run out before anything else where the limit is the usual 1,024.

A connection takes one, a session two, a worker seven. Connections and sessions leave each other room; what a new worker
in place of a dead one needs, the pool holds back for it, as ships hold ballast to throw out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

RESERVED = 32
"""Left over by sessions: their rows travel to the workers as descriptors, and logs and the like want some too."""


def connection_limit() -> int | None:
    """Return how many connections a server may hold: half of what the process may open; None if that is not limited."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft // 2)


def check_descriptors() -> None:
    """Raise if a session would take the last descriptors.

    Raises:
        OSError: It would.
    """
    held: list[int] = []
    try:
        held += (os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVED))
    finally:
        for descriptor in held:
            os.close(descriptor)


def hold_standard_descriptors() -> None:
    """Open what is closed of stdin, stdout and stderr (``>&-``): a socket in its place would get what is printed."""
    opened: list[int] = []
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        opened.append(descriptor)
    for descriptor in opened:
        os.close(descriptor)


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
