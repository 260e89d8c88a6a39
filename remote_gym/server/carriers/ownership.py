"""Server process: whether who connects is the server's owner: a process of the same user, over a unix-domain socket."""

from __future__ import annotations

import os
import socket
import stat
import struct

_CREDENTIALS = struct.Struct("3i")
"""What Linux tells of a peer: process, user and group (unix(7), SO_PEERCRED)."""


def peer_uid(connection: socket.socket) -> int | None:
    """Return the user at the other end of a unix-domain socket; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    told = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(told)[1])


def is_owners(connection: socket.socket) -> bool:
    """Return whether the server's own user is at the other end of `connection`, which no other machine has.

    Where the system does not tell who is there, the socket's file does, as long as it lets in its owner alone.
    """
    if connection.family != getattr(socket, "AF_UNIX", None):
        return False
    try:
        uid = peer_uid(connection)
        return is_private(connection.getsockname()) if uid is None else uid == os.geteuid()
    except OSError:  # it has gone
        return False


def is_private(path: str) -> bool:
    """Return whether the socket at `path` is ours, and lets in nobody else: its mode may have been widened since."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)
