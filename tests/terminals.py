"""A program in a terminal of its own, 80 x 24 unless resized: what it shows, and the keys that somebody presses."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from helpers import wait_until

LAUNCH = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Makes the terminal the program's own, so that it is told of sizes and interrupts."""


class Terminal:
    """Runs ``python ...`` in a pseudo-terminal that a library emulates.

    Closing contract: `close` kills what still runs.

    Attributes:
        process: The program.
        raw: All bytes that it has written.
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], size: tuple[int, int] = (80, 24)
    ) -> None:
        """Start it."""
        pyte = pytest.importorskip("pyte")
        self._screen, self.raw = pyte.Screen(*size), b""
        self._stream = pyte.ByteStream(self._screen)
        self._lock = threading.Lock()
        self._master, child = os.openpty()
        self._set(size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, sys.executable, *arguments],
            stdin=child, stdout=child, stderr=child, env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
        )  # fmt: skip
        os.close(child)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _set(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65_536)
            except OSError:  # nobody has the other end any more
                return
            with self._lock:
                self.raw += data
                self._stream.feed(data)

    def resize(self, width: int, height: int) -> None:
        """Change its size, as a window does."""
        with self._lock:
            self._screen.resize(height, width)
        self._set((width, height))

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        with self._lock:
            return list(self._screen.display)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def wait_for(self, *texts: str, absent: str = "", seconds: float = 30.0) -> str:
        """Return the screen once all `texts` are on it, and not `absent`."""

        def seen() -> Any:
            text = self.text
            return text if all(one in text for one in texts) and not (absent and absent in text) else None

        try:
            return str(wait_until(seen, seconds))
        except AssertionError:
            raise AssertionError(f"no {texts} (or {absent!r}) on the screen:\n{self.text}") from None

    def end(self) -> int:
        """Return its exit code, once it has ended."""
        code = self.process.wait(20.0)
        self._reader.join(5.0)
        return code

    def close(self) -> None:
        """Kill it if it still runs."""
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._master)
