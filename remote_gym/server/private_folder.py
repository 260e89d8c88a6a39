"""Server process: a folder that only this user can enter, for sockets that nobody else may reach."""

from __future__ import annotations

import os
import tempfile

MAX_PARENT_BYTES = 70
"""Of the path that the folder is in: that of a socket has 103 bytes at most on some systems."""

SHORT_PARENTS = ("/tmp", "/dev/shm")
"""Where the folder goes if the usual place does not do."""


def make_private_folder() -> str:
    """Make a folder with mode 0700, where temporary files go, and return its path.

    Raises:
        OSError: It can be made nowhere; says what to do.
    """
    reasons = []
    for parent in dict.fromkeys((_temporary_folder(), *SHORT_PARENTS)):
        if len(os.fsencode(parent)) > MAX_PARENT_BYTES:
            reasons.append(f"the path of {parent!r} is too long for a socket in it")
            continue
        try:
            return tempfile.mkdtemp(prefix="remote-gym-", dir=parent)
        except OSError as error:
            reasons.append(f"{parent!r}: {error.strerror}")
    raise OSError(f"no folder can be made for gRPC's own socket, set TMPDIR to one of yours: {'; '.join(reasons)}")


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except OSError:  # there is none that could be written to
        return SHORT_PARENTS[0]
