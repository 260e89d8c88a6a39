"""Server process: what a peer shows of who it is, over either carrier: a certificate, or a user of this machine."""

from __future__ import annotations

import os
import socket
import ssl
import stat
from collections.abc import Iterable
from typing import Any

from remote_gym.server.authentication import Shown
from remote_gym.server.sockets import peer_uid


def user_of(connection: socket.socket) -> int | None:
    """Return which user of this machine is at the other end; None: it is no Unix socket, or one that has gone.

    Where the system does not say, it is the server's own, as long as the file of the socket lets in nobody else.
    """
    if connection.family != getattr(socket, "AF_UNIX", None):
        return None
    try:
        uid = peer_uid(connection)
        if uid is None and is_private(connection.getsockname()):
            return os.geteuid()
    except OSError:
        return None
    return uid


def is_private(path: str) -> bool:
    """Return whether the socket at `path` is ours, and lets in nobody else: its mode may have been widened since."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IRWXG | stat.S_IRWXO)


def shown_by_connection(connection: socket.socket, uid: int | None, token: str = "") -> Shown:
    """Return what a direct connection shows, after its handshake and with its Hello."""
    encrypted = isinstance(connection, ssl.SSLSocket)
    certificate = connection.getpeercert(True) if isinstance(connection, ssl.SSLSocket) else None
    return Shown(encrypted or uid is not None, certificate, uid, token)


def shown_by_call(context: Any, uid: int | None) -> Shown:
    """Return what a gRPC call, of which `context` is a grpc.aio.ServicerContext, shows."""
    said = context.auth_context()
    encrypted = b"ssl" in said.get("transport_security_type", ())
    pem = next(iter(said.get("x509_pem_cert", ())), None)
    certificate = None if pem is None else ssl.PEM_cert_to_DER_cert(pem.decode("ascii"))
    return Shown(encrypted or uid is not None, certificate, uid, _bearer(context.invocation_metadata() or ()))


def _bearer(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the token of an ``authorization: Bearer ...``, empty without one (RFC 6750, 2.1)."""
    for key, value in metadata:
        if key == "authorization" and isinstance(value, str):
            scheme, _, token = value.strip().partition(" ")
            if scheme.lower() == "bearer":
                return token.strip()
    return ""
