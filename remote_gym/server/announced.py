"""Server process: the file that says where the server is, for clients and scripts that cannot know: one line.

It is there while the server takes new sessions: written once it listens, whole or not at all, and removed when it
begins to drain. Who watches a folder of such files (``url="file:FOLDER"``) sees servers come and go, and no two servers
write the same file: a shared file system needs no locks for it. A server that was killed leaves its file; the next one
of that name replaces it, and to a client it is the address of a server that is gone.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat

from remote_gym.addresses import join_address, split_address
from remote_gym.errors import MisuseError

logger = logging.getLogger("remote_gym.server")

EVERYWHERE = ("0.0.0.0", "::")
"""What nobody can dial: the machine's name is said in their place."""

MAX_BYTES = 1_024
"""Of a file that may be an announcement: an address is shorter."""

_ours: set[Announcement] = set()


def withdraw_all() -> None:
    """Remove the files of this process, which ends at once; its servers do not get to it."""
    for announcement in list(_ours):
        announcement.withdraw()


def said_elsewhere(address: str) -> str:
    """Return `address` as other machines dial it."""
    host, port = split_address(address)
    return join_address(socket.gethostname(), port) if host in EVERYWHERE else address


def check_path(path: str) -> None:
    """Look whether a server may announce itself at `path`, before it starts.

    Raises:
        OSError: There is no such folder, or it cannot be written to, or what is there is no announcement.
    """
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"cannot announce the server in {path!r}: there is no folder {folder!r}")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f"cannot announce the server in {path!r}: {folder!r} cannot be written to")
    if os.path.lexists(path) and not _is_announcement(path):
        raise FileExistsError(errno.EEXIST, f"cannot announce the server in {path!r}: what is there is something else")


class Announcement:
    """The file, from now until `withdraw`; afterwards it is another's if somebody has replaced it."""

    def __init__(self, path: str, address: str) -> None:
        """Write it: one line, the address as other machines dial it.

        Raises:
            OSError: It cannot be written.
        """
        self._path = path
        folder, name = os.path.split(path)
        new = os.path.join(folder, f".{name}.{socket.gethostname()}.{os.getpid()}")  # hidden: nobody's address yet
        try:
            with open(new, "w", encoding="utf-8") as file:
                file.write(f"{said_elsewhere(address)}\n")
                file.flush()
                os.fsync(file.fileno())
                self._made: tuple[int, int] | None = _identity(os.fstat(file.fileno()))
            os.replace(new, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        _ours.add(self)

    def withdraw(self) -> None:
        """Remove the file, if it is still ours; may be called twice."""
        _ours.discard(self)
        made, self._made = self._made, None
        try:
            if made is not None and _identity(os.stat(self._path)) == made:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as error:
            logger.warning("%s still announces this server: %s", self._path, error)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_announcement(path: str) -> bool:
    """Return whether the file is empty, or holds one address."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
            return False
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_BYTES)
        lines = text.splitlines()
        for line in lines:
            split_address(line)
    except (OSError, UnicodeError, MisuseError):
        return False
    return len(lines) <= 1
