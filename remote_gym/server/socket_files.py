"""Server process: the file of a unix-domain socket: who may put one where, and what becomes of what lies there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable

OWNER_ONLY = 0o600
PROBE_SECONDS = 1.0
"""How long a socket file's server may take to accept, to count as alive; a live one's backlog does so at once."""


_ours: set[SocketFile] = set()


def remove_all_files() -> None:
    """Remove the socket files of this process, which ends at once; its servers do not get to it."""
    for file in list(_ours):
        file.remove()


class SocketFile:
    """A socket file of ours. It is there until `remove`, and never touched once it is another's."""

    def __init__(self, path: str, bind: Callable[[], object]) -> None:
        """Have `bind` make the file, for its owner alone.

        Raises:
            OSError: The folder or what lies there does not allow it; says why.
        """
        _check_folder(path)
        _remove_stale(path)
        self._path = path
        # The file must never be there with a wider mode, not even for a moment. The mask is the whole process's, so
        # other threads may make a file that is too private meanwhile: better than the other way round.
        before = os.umask(0o777 & ~OWNER_ONLY)
        try:
            bind()
        finally:
            os.umask(before)
        os.chmod(path, OWNER_ONLY)
        made = os.stat(path)
        self._made: tuple[int, int] | None = (made.st_dev, made.st_ino)
        _ours.add(self)

    def remove(self) -> None:
        """Remove the file, if it is still ours; may be called twice."""
        _ours.discard(self)
        if self._made is None:
            return
        with contextlib.suppress(OSError):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) == self._made:
                os.unlink(self._path)
        self._made = None


def _check_folder(path: str) -> None:
    """Refuse a folder that is not there, or where anybody could put a socket of their own in place of ours."""
    folder = os.path.dirname(path)
    try:
        mode = os.stat(folder).st_mode
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror}: {folder!r}") from None
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise PermissionError(
            errno.EACCES,
            f"refusing to listen on unix:{path}: everybody may write to {folder!r}, so another user could put a socket "
            f"in place of this one; use a folder of your own",
        )


def _remove_stale(path: str) -> None:
    """Remove what a dead server left; refuse to touch anything else. Binding says only that there is something."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, f"cannot listen on unix:{path}: a file is there that is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PROBE_SECONDS)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            alive = False
        except OSError:  # also a full backlog: somebody's who lives
            alive = True
        else:
            alive = True
    if alive:
        raise OSError(errno.EADDRINUSE, f"cannot listen on unix:{path}: another server listens there")
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise OSError(
            error.errno, f"cannot listen on unix:{path}: what a dead server left cannot be removed: {error.strerror}"
        ) from None
