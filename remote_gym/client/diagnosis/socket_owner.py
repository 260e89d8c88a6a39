"""Trainer process: whose a unix-domain socket is. Another user's is refused: it would get all that we send.

In a folder where everybody may make files, as ``/tmp``, another user can be quicker than the server that is meant. Ours
are sockets of our own user, and of root, who can do as it likes anyway. Whoever means another user's names it by
`OWNER_VARIABLE`. Looked at are the owner of the file and, where the system tells, of the process behind it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct

from remote_gym.errors import ConnectError

OWNER_VARIABLE = "REMOTE_GYM_SOCKET_OWNER"
"""The environment variable that holds the name, or the number, of another user whose sockets are trusted."""

ROOT = 0

_CREDENTIALS = struct.Struct("3i")
"""What Linux tells of a peer: process, user and group (unix(7), SO_PEERCRED)."""


def check_file(path: str) -> None:
    """Refuse the socket at `path` if it is a stranger's; what is not there is not refused.

    Raises:
        ConnectError: It is; says whose.
    """
    with contextlib.suppress(OSError):
        _check(path, os.stat(path).st_uid, "it belongs to")


def check_peer(connection: socket.socket, path: str) -> None:
    """Refuse `connection`, which leads to the socket at `path`, if a stranger is at the other end.

    Raises:
        ConnectError: One is; says who.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return
    with contextlib.suppress(OSError):  # it has ended
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _check(path, _CREDENTIALS.unpack(told)[1], "who listens there is")


def check(path: str) -> None:
    """Refuse the socket at `path` if it is a stranger's, or one listens there: for who connects by other means.

    Raises:
        ConnectError: It is; says whose.
    """
    check_file(path)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        connection.connect(path)
        check_peer(connection, path)


def _check(path: str, uid: int, what: str) -> None:
    if uid in (os.geteuid(), ROOT) or _name(uid) == (trusted := os.environ.get(OWNER_VARIABLE)) or str(uid) == trusted:
        return
    raise ConnectError(
        f"unix:{path}",
        f"the socket is another user's: {what} {_name(uid)} (uid {uid}), we are {_name(os.geteuid())}",
        [
            "another user has made it before the server could; have the server listen in a folder of its own user",
            f"if that user's server is meant: {OWNER_VARIABLE}={_name(uid)}",
        ],
    )


def _name(uid: int) -> str:
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)
