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
from pathlib import Path

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
        uid = os.stat(path).st_uid
        name = _owner(path, uid)
        if not _is_ours(uid) and os.environ.get(OWNER_VARIABLE) not in (name, str(uid)):
            raise _refused(path, f"it belongs to {name} (uid {uid})", name)


def check_peer(connection: socket.socket, path: str) -> None:
    """Refuse `connection`, which leads to the socket at `path`, if another one than its owner is at the other end.

    Raises:
        ConnectError: Another one is; says who.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return
    with contextlib.suppress(OSError):  # it has ended
        told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        uid = _CREDENTIALS.unpack(told)[1]
        if not _is_ours(uid) and uid != os.stat(path).st_uid:
            raise _refused(path, f"who listens there is uid {uid}", str(uid))


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


def _is_ours(uid: int) -> bool:
    return uid in (os.geteuid(), ROOT)


def _refused(path: str, whose: str, name: str) -> ConnectError:
    return ConnectError(
        f"unix:{path}",
        f"the socket is another user's: {whose}, we are uid {os.geteuid()}",
        [
            "another user has made it before the server could; have the server listen in a folder of its own user",
            f"if that user's server is meant: {OWNER_VARIABLE}={name}",
        ],
    )


def _owner(path: str, uid: int) -> str:
    try:
        return Path(path).owner()
    except KeyError:
        return str(uid)
