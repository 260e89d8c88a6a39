"""Server process: a folder that only this user can enter, for sockets that nobody else may reach."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import time

MAX_PARENT_BYTES = 70
"""Of the path that the folder is in: that of a socket has 103 bytes at most on some systems."""

PREFIX = "remote-gym-socket-"

STALE_SECONDS = 60.0
"""How old a folder is that may be taken for a dead server's: a younger one may not have been locked yet."""

SHORT_PARENTS = ("/tmp", "/dev/shm")
"""Where the folder goes if the usual place does not do."""


REMOVE_TRIES = 10
"""How often a folder is emptied that fills meanwhile: gRPC makes a file for each address, in a thread of its own."""

_open: set[PrivateFolder] = set()
_changing = threading.RLock()
"""Whoever has it is the only one to make or remove folders. A signal may strike its holder, hence reentrant."""


def remove_all() -> None:
    """Remove the folders of this process, which ends at once; its servers do not get to it, and can make no others."""
    _changing.acquire()  # for good
    for folder in list(_open):
        folder.close()


class PrivateFolder:
    """A folder with mode 0700, where temporary files go. What killed servers of this user left is removed on the way.

    Attributes:
        path: Where it is.
    """

    def __init__(self) -> None:
        """Make it.

        Raises:
            OSError: It can be made nowhere; says what to do.
        """
        self._lock = -1
        with _changing:
            self.path = _make()
            _open.add(self)
        self._lock = os.open(self.path, os.O_RDONLY)  # held as long as this process lives
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove_stale(os.path.dirname(self.path))

    def close(self) -> None:
        """Remove it with all that is in it; may be called twice."""
        with _changing:
            _remove(self.path)
            _open.discard(self)
            if self._lock >= 0:
                os.close(self._lock)
            self._lock = -1


def _remove(path: str) -> None:
    for _ in range(REMOVE_TRIES):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return


def _remove_stale(parent: str) -> None:
    """Remove this user's folders that nobody holds any more."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with contextlib.suppress(OSError):
                    _remove_if_stale(entry)


def _remove_if_stale(entry: os.DirEntry[str]) -> None:
    about = entry.stat(follow_symlinks=False)
    if about.st_uid != os.geteuid() or time.time() - about.st_mtime < STALE_SECONDS:
        return
    folder = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(entry.path, ignore_errors=True)
    finally:
        os.close(folder)


def _make() -> str:
    reasons = []
    for parent in dict.fromkeys((_temporary_folder(), *SHORT_PARENTS)):
        if len(os.fsencode(parent)) > MAX_PARENT_BYTES:
            reasons.append(f"the path of {parent!r} is too long for a socket in it")
            continue
        try:
            return tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        except OSError as error:
            reasons.append(f"{parent!r}: {error.strerror}")
    raise OSError(f"no folder can be made for gRPC's own socket, set TMPDIR to one of yours: {'; '.join(reasons)}")


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none that could be written to
        return SHORT_PARENTS[0]
