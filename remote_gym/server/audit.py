"""Server process: the audit log: who did what, and was refused what, as JSON lines in a file of the owner's.

A thread writes it, so that a disk which is slow holds up no environment. What cannot be written is counted, and told in
the log and, once it can be, in the file.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from remote_gym.server.json_lines import json_line, utc

logger = logging.getLogger("remote_gym.server")

OWNER_ONLY = 0o600

MAX_WAITING_BYTES = 8 * 2**20
"""Of lines that wait to be written: some twenty thousand, while a disk hangs."""

LAST_WORDS_SECONDS = 2.0
"""How long a server's end waits until all is written."""

COMPLAINT_SECONDS = 60.0
"""How often the log is told that the file cannot be written."""


class AppendedFile:
    """A file that lines are appended to. One that was moved away, as logrotate does, or removed, is made anew.

    Each line is one write, so that servers which share a file do not tear each other's.
    """

    def __init__(self, path: str) -> None:
        """Open it, made with mode 0600 if it is not there.

        Raises:
            OSError: It cannot be written, is no ordinary file, belongs to another user, or others may write to it.
        """
        self._path = path
        self._descriptor = self._open()
        self._torn = False  # the last line was not written to its end

    def _open(self) -> int:
        # Without waiting: a pipe that was put in its place would hold up whoever opens it for ever.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(self._path, flags, OWNER_ONLY)
        if (fault := _fault(os.fstat(descriptor))) is not None:
            os.close(descriptor)
            raise OSError(errno.EPERM, fault, self._path)
        return descriptor

    def append(self, line: str) -> None:
        """Write a line, without its end.

        Raises:
            OSError: It could not be written in whole; the next one begins on a line of its own.
        """
        self._follow()
        data = f"{chr(10) if self._torn else ''}{line}\n".encode()
        self._torn = os.write(self._descriptor, data) < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._path)

    def _follow(self) -> None:
        """Open the file that has the path now, if it is another one, or there is none."""
        if self._descriptor >= 0:
            ours = os.fstat(self._descriptor)
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(self._path)
                if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
                    return
        self.close()
        self._descriptor = self._open()
        self._torn = False

    def close(self) -> None:
        """Close it; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


def _fault(about: os.stat_result) -> str | None:
    """Return why a file proves nothing that is written to it; None if it may."""
    if not stat.S_ISREG(about.st_mode):
        return "it is no ordinary file"
    if about.st_uid not in (0, os.geteuid()):
        return "it belongs to another user"
    if about.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others than its owner may write to it (mode {stat.S_IMODE(about.st_mode):o}); chmod 600 it"
    return None


class AuditLog:
    """One audit log. `tell` may be called from any thread and never waits for the disk.

    Closing contract: `close` writes what waits, for `LAST_WORDS_SECONDS` at most; may be called twice.
    """

    def __init__(self, path: str) -> None:
        """Open it.

        Raises:
            OSError: It cannot be written, or proves nothing; says why.
        """
        try:
            self._file = AppendedFile(path)
        except OSError as error:
            raise OSError(f"the audit log {path!r} cannot be written: {error.strerror}") from None
        self._path = path
        self._waiting: deque[str] = deque()
        self._waiting_bytes = 0
        self._lost = 0
        self._complained = float("-inf")
        self._is_closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="remote_gym audit", daemon=True)
        self._thread.start()

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Have a line written: `fields`, and the time."""
        line = json_line({"time": utc(time.time()), **fields})
        with self._changed:
            if self._is_closing or self._waiting_bytes + len(line) > MAX_WAITING_BYTES:
                self._lost += 1
                return
            self._waiting.append(line)
            self._waiting_bytes += len(line)
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closing)
                if not self._waiting:
                    return
                lines = list(self._waiting)
                self._waiting.clear()
                self._waiting_bytes = 0
            for line in lines:
                self._write(line)

    def _write(self, line: str) -> None:
        try:
            if lost := self._lost:
                self._file.append(json_line({"time": utc(time.time()), "event": "lost", "lines": lost}))
                with self._changed:
                    self._lost -= lost
            self._file.append(line)
        except OSError as error:
            with self._changed:
                self._lost += 1
            if time.monotonic() - self._complained > COMPLAINT_SECONDS:
                self._complained = time.monotonic()
                logger.error("the audit log %r cannot be written: %s", self._path, error.strerror)

    def close(self) -> None:
        """Write what waits and end."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(LAST_WORDS_SECONDS)
        if not self._thread.is_alive():  # else a disk hangs: the descriptor is its thread's
            self._file.close()
