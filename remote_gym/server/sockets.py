"""Server process: listening sockets, for the addresses that a host name or IP stands for, as gRPC would choose them."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import Any

from remote_gym.addresses import join_address, unix_path

BACKLOG = 4_096
"""Connections that wait to be accepted; the system may allow fewer (``net.core.somaxconn``)."""

WILDCARDS = frozenset({"0.0.0.0", "::"})
"""All addresses of the machine: of both families, whichever is written."""

FREE_PORT_TRIALS = 16
"""How often a port that is free for one address and taken for another is given back for a new one."""

_ABSENT = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})

_CREDENTIALS = struct.Struct("iII")
"""Linux's `struct ucred`: process, user, group (unix(7))."""

Address = tuple[socket.AddressFamily, str]


def listen_tcp(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Listen on every address of `host` that this machine has; 0 is one free port for all of them.

    Returns:
        Non-blocking sockets, and the port.

    Raises:
        OSError: The port is taken, or no address of the host is this machine's.
    """
    try:
        addresses = _addresses(host)
        for _ in range(FREE_PORT_TRIALS if port == 0 else 1):
            try:
                return _listen_all(addresses, port)
            except OSError as error:
                failed = error
                if error.errno != errno.EADDRINUSE:
                    break
        raise failed
    except (OSError, UnicodeError) as error:
        raise unusable(host, port) from error


def listen_unix(path: str) -> socket.socket:
    """Listen on the unix-domain socket `path`, which this makes.

    Raises:
        OSError: The folder cannot be written to.
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise unusable(f"unix:{path}", 0) from error
    listening.setblocking(False)
    return listening


def peer_uid(connection: Any) -> int | None:
    """Return the user at the other end; None where the system does not tell."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(said)[1])


def unusable(host: str, port: int) -> OSError:
    """Return what to raise where nothing can listen."""
    address = join_address(host, port)
    if unix_path(host) is not None:
        return OSError(f"cannot listen on {address}: the folder cannot be written to")
    return OSError(f"cannot listen on {address}: the port is taken, or the address is not this machine's")


def _addresses(host: str) -> list[Address]:
    """Look `host` up; all of them, of which this machine may have some only."""
    if host in WILDCARDS:
        return [(socket.AF_INET6, "::")]
    if host.rstrip(".").lower() == "localhost":  # both, whatever a file says: RFC 6761, 6.3
        return [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")]
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, str(address[0])) for family, _, _, _, address in found))


def _listen_all(addresses: list[Address], port: int) -> tuple[list[socket.socket], int]:
    """Listen on all that this machine has, with the same port; none is open after an error."""
    with contextlib.ExitStack() as opened:
        sockets: list[socket.socket] = []
        absent: OSError | None = None
        for family, address in addresses:
            try:
                sockets.append(opened.enter_context(_listen(family, address, port)))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
                continue
            port = sockets[-1].getsockname()[1]
        if not sockets:
            assert absent is not None
            raise absent
        opened.pop_all()
        return sockets, port


def _listen(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    try:
        listening = socket.socket(family, socket.SOCK_STREAM)
    except OSError:
        if address != "::":
            raise
        return _listen(socket.AF_INET, "0.0.0.0", port)  # a machine without IPv6
    try:
        # Never SO_REUSEPORT: a second server on the same port is an error, not a silent half of the clients.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, address != "::")
        listening.bind((address, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if address == "::" and error.errno in _ABSENT:
            return _listen(socket.AF_INET, "0.0.0.0", port)
        raise
    listening.setblocking(False)
    return listening
