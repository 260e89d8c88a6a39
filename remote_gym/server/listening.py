"""Server process: what a server listens on, TCP or a unix-domain socket, and who may reach it there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import warnings
from dataclasses import dataclass
from typing import Any

from remote_gym.addresses import grpc_target, is_loopback, join_address, unix_path
from remote_gym.credentials import ServerPem, server_credentials
from remote_gym.errors import MisuseError
from remote_gym.pool import connection_limit
from remote_gym.wire.codec import MAX_MESSAGE_BYTES

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a silent half of the clients
    # A dead peer is noticed within 50 s. All three are needed: gRPC relies on the ping timeout alone.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),  # who connects and says nothing holds a descriptor no longer
]

OWNER_ONLY = 0o600
PROBE_SECONDS = 1.0
"""How long a socket file's server may take to accept, to count as alive; a live one's backlog does so at once."""


def options() -> list[tuple[str, int]]:
    """Return the options of the gRPC server, as the process's limits are now."""
    connections = connection_limit()
    limit = [] if connections is None else [("grpc.max_allowed_incoming_connections", connections)]
    return [*_OPTIONS, *limit]


@dataclass(frozen=True)
class Endpoints:
    """Where a server is reached.

    Attributes:
        host: To listen on; ``unix:/path`` for a socket.
        port: The TCP port; 0: any free one.
        pem: For TLS; None: plaintext.
        unix_socket: A socket to listen on as well: ``unix:/path``; None: no.
        metrics_url: Where metrics are scraped.
        metrics_port: Their TCP port, 0: any free one; None: no metrics.
    """

    host: str
    port: int
    pem: ServerPem | None = None
    unix_socket: str | None = None
    metrics_url: str = "127.0.0.1"
    metrics_port: int | None = None


class Listener:
    """One address of a gRPC server. `close` removes a socket file; gRPC frees a port by itself.

    Attributes:
        host: A host or ``unix:/path``.
        port: As bound; 0 for a unix socket.
        address: Both, as clients write them.
    """

    def __init__(self, server: Any, host: str, port: int, pem: ServerPem | None) -> None:
        """Let `server` (a grpc.aio.Server, not started yet) listen.

        Raises:
            OSError: The address cannot be used; says why.
        """
        self.host = host
        self._path = unix_path(host)
        self._file: tuple[int, int] | None = None
        if self._path is None:
            self.port = _bind(server, host, port, pem)
        else:
            self.port = 0
            self._bind_socket(server, self._path)
        self.address = join_address(host, self.port)

    def _bind_socket(self, server: Any, path: str) -> None:
        _check_folder(path)
        _remove_stale(path)
        # The file must never be there with a wider mode, not even for a moment. The mask is the whole process's, so
        # other threads may make a file that is too private meanwhile: better than the other way round.
        before = os.umask(0o777 & ~OWNER_ONLY)
        try:
            _bind(server, self.host, 0, None)
        finally:
            os.umask(before)
        os.chmod(path, OWNER_ONLY)
        made = os.stat(path)
        self._file = (made.st_dev, made.st_ino)

    def close(self) -> None:
        """Remove the socket file, if it is still ours; may be called twice."""
        if self._path is None or self._file is None:
            return
        with contextlib.suppress(OSError):
            found = os.stat(self._path)
            if (found.st_dev, found.st_ino) == self._file:
                os.unlink(self._path)
        self._file = None


def _bind(server: Any, host: str, port: int, pem: ServerPem | None) -> int:
    target = grpc_target(host, port)
    try:
        if pem is None:
            bound = server.add_insecure_port(target)
        else:
            bound = server.add_secure_port(target, server_credentials(pem))
    except RuntimeError as error:
        address = join_address(host, port)
        if unix_path(host) is not None:
            raise OSError(f"cannot listen on {address}: the folder cannot be written to") from error
        raise OSError(f"cannot listen on {address}: the port is taken, or the address is not this machine's") from error
    return int(bound)


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
    """Remove what a dead server left; refuse to touch anything else. GRPC itself would take a live one's away."""
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


def check_exposure(host: str, pem: ServerPem | None, allow_insecure: bool) -> None:
    """Refuse or warn about an address that others reach without proving who they are.

    Raises:
        MisuseError: Plaintext was asked for off the machine, or TLS on a unix socket.
    """
    if unix_path(host) is not None and pem is not None:
        raise MisuseError(
            f"{host} needs no TLS: a unix socket is reached from this machine by its owner alone; leave "
            f"server_credentials_paths out, or listen on a host and pass unix_socket= beside it"
        )
    if is_loopback(host):
        return
    if pem is None and not allow_insecure:
        raise MisuseError(
            f"refusing to listen on {host} without TLS: anyone who reaches the port could use it and read along. Pass "
            f"server_credentials_paths (make them with `remote-gym certs`), or spell out allow_insecure=True"
        )
    if pem is None:
        warnings.warn(
            f"listening on {host} in plaintext: anyone who reaches the port can use it and read along", stacklevel=3
        )
    elif pem.root is None:
        warnings.warn(
            f"listening on {host} with TLS but without a client CA: whoever reaches the port can use it; add the CA's "
            f"certificate as third path to require client certificates",
            stacklevel=3,
        )
