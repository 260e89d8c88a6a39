"""Trainer process, no I/O: parts of one request, each for another server, of which an interrupt may leave some unsent.

Ctrl-C strikes anywhere, also between two servers. A step that is half sent cannot be taken back: its other half is sent
with the next look for answers. One of which nothing is sent never was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

Part = TypeVar("Part")


class Unsent(Generic[Part]):
    """What is still to be sent.

    Attributes:
        parts: That, in order.
    """

    def __init__(self, send: Callable[[Part], None], is_sent: Callable[[Part], bool]) -> None:
        """Begin with nothing.

        Args:
            send: Sends a part; what it raises ends the sending of all.
            is_sent: Whether a part is on its way, or will be, whatever has interrupted its sending.
        """
        self._send = send
        self._is_sent = is_sent
        self.parts: deque[Part] = deque()

    def send(self, parts: Iterable[Part], whole: bool) -> None:
        """Send `parts`; if it is interrupted, `whole` says whether the rest is to follow where some were sent."""
        every = list(parts)
        self.parts = deque(every)
        try:
            self.send_rest()
        except BaseException:
            if not (whole and any(map(self._is_sent, every))):
                self.parts.clear()
            raise

    def send_rest(self) -> None:
        """Send what is left, after an interrupt."""
        try:
            while self.parts:
                if not self._is_sent(self.parts[0]):
                    self._send(self.parts[0])
                self.parts.popleft()
        except Exception:
            self.parts.clear()
            raise
