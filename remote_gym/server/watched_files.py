"""Server process: a small file of the owner's that is read again whenever it has changed, without a restart."""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Callable

from remote_gym.credentials import stamp_of
from remote_gym.errors import MisuseError

logger = logging.getLogger("remote_gym.server")

MAX_BYTES = 4 * 2**20
"""Some tens of thousands of lines: the file is read on the event loop."""

MISSING_SECONDS = 1.0
"""How long a file must be missing to be gone: some editors take it away before they write it anew."""

Take = Callable[[str], list[str]]
"""Takes in the file's text; returns what is wrong with it, line by line."""


class WatchedFile:
    """One file.

    It is looked at, not waited for: `refresh` costs a system call, and is called whenever it matters.

    Attributes:
        path: Where it is, whatever becomes of the working directory.
    """

    def __init__(self, argument: str, path: str | os.PathLike[str], take: Take, gone: Callable[[], None]) -> None:
        """Read it; later, `take` is told whenever it has changed, and `gone` when it is there no more.

        Raises:
            MisuseError: It is missing, cannot be read, or something is wrong with it; names `argument` and the line.
        """
        self._argument = argument
        if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise MisuseError(f"{argument}={path!r} is not the path of a file")
        self.path = os.path.abspath(os.fspath(path))
        self._take = take
        self._gone = gone
        self._seen: object = None  # of the file as it was read last
        self._missing_since: float | None = None
        try:
            wrong = self._read()
        except OSError as error:
            raise MisuseError(f"{argument}={self.path!r}: {error.strerror or error}") from None
        except ValueError as error:
            raise MisuseError(f"{argument}={self.path!r}: {error}") from None
        if wrong:
            raise MisuseError(f"{argument}={self.path!r}: {'; '.join(wrong[:3])}")

    def refresh(self) -> None:
        """Read it again if it has changed. What cannot be read leaves everything as it is, and is logged, once."""
        try:
            looks: object = stamp_of(os.stat(self.path))
        except FileNotFoundError:
            self._is_missing()
            return
        except OSError as error:
            looks = error.errno
        self._missing_since = None
        if looks == self._seen:
            return
        self._seen = looks
        try:
            wrong = self._read()
        except (OSError, ValueError) as error:
            logger.error("%s %s cannot be read, what it said before holds: %s", self._argument, self.path, error)
        else:
            logger.info("%s %s was read again", self._argument, self.path)
            for line in wrong:
                logger.error("%s %s: %s", self._argument, self.path, line)

    def _is_missing(self) -> None:
        now = time.monotonic()
        if self._missing_since is None:
            self._missing_since = now
        elif now - self._missing_since >= MISSING_SECONDS and self._seen is not None:
            self._seen = None
            logger.error("%s %s is gone", self._argument, self.path)
            self._gone()

    def _read(self) -> list[str]:
        with open(self.path, "rb", opener=_at_once) as file:
            about = os.fstat(file.fileno())
            self._seen = stamp_of(about)
            if not stat.S_ISREG(about.st_mode):
                raise ValueError("it is no regular file")
            if about.st_mode & stat.S_IWOTH:
                raise ValueError("everybody may write to it: take that right away (chmod o-w)")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES:,} bytes")
        return self._take(data.decode("utf-8-sig"))


def _at_once(path: str, flags: int) -> int:
    """Open without waiting for who writes to a pipe."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def lines(text: str) -> list[tuple[int, str]]:
    """Return the lines of a file that say something, with their numbers; ``#`` begins a comment."""
    said = ((number, line.partition("#")[0].strip()) for number, line in enumerate(text.splitlines(), 1))
    return [(number, line) for number, line in said if line]
