"""Server process: what a server listens on, TCP or a unix-domain socket, and who may reach it there."""

from __future__ import annotations

import socket
import warnings
from dataclasses import dataclass, field
from typing import Any, Protocol

from remote_gym.addresses import grpc_target, is_loopback, join_address, unix_path
from remote_gym.credentials import ServerPem, server_credentials
from remote_gym.errors import MisuseError
from remote_gym.pool import connection_limit
from remote_gym.server.authentication import Authenticator
from remote_gym.server.certificates import Certificates
from remote_gym.server.socket_files import SocketFile
from remote_gym.server.sockets import listen_tcp, listen_unix, unusable
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
    ("grpc.max_connection_idle_ms", 10_000),  # nor who asks for nothing; ours connect again by themselves
    ("grpc.max_concurrent_streams", 128),  # of one connection: more wait. A channel of ours has 100 sessions
]


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
        grpc_only: Whether gRPC itself listens, and there is no direct carrier.
        certificates: The files that `pem` is from, which change; None: it stays as it is.
        authenticator: Who may come, and as whom.
        admin_socket: The path of the admin socket; `AUTO`: in the usual place; None: there is none.
        announce: The path of the file that says where the server is; None: there is none.
        dashboard_url: Where the dashboard is shown.
        dashboard_port: Its TCP port, 0: any free one; None: no dashboard.
        dashboard_admin: Whether it may change something.
    """

    host: str
    port: int
    pem: ServerPem | None = None
    unix_socket: str | None = None
    metrics_url: str = "127.0.0.1"
    metrics_port: int | None = None
    grpc_only: bool = False
    certificates: Certificates | None = None
    authenticator: Authenticator = field(default_factory=Authenticator)
    admin_socket: str | None = None
    announce: str | None = None
    dashboard_url: str = "127.0.0.1"
    dashboard_port: int | None = None
    dashboard_admin: bool = False


class Listener(Protocol):
    """One address of a server; closing it frees a port, or removes a socket file, and may be called twice.

    Attributes:
        host: A host or ``unix:/path``.
        port: As bound; 0 for a unix socket.
        address: Both, as clients write them.
    """

    host: str
    port: int
    address: str

    def close(self) -> None:
        """Listen no more."""


class GrpcListener:
    """A `Listener` where gRPC itself listens; it frees a port by itself."""

    def __init__(
        self, server: Any, host: str, port: int, pem: ServerPem | None, certificates: Certificates | None = None
    ) -> None:
        """Let `server` (a grpc.aio.Server, not started yet) listen.

        Raises:
            OSError: The address cannot be used; says why.
        """
        self.host = host
        self.port = 0
        self._file: SocketFile | None = None
        path = unix_path(host)
        if path is None:
            self.port = bind_grpc(server, host, port, pem, certificates)
        else:
            self._file = SocketFile(path, lambda: bind_grpc(server, host, 0, None))
        self.address = join_address(host, self.port)

    def close(self) -> None:
        """Remove the socket file, if it is still ours."""
        if self._file is not None:
            self._file.remove()


class SocketListener:
    """A `Listener` with sockets of our own.

    Attributes:
        sockets: Non-blocking and listening, one for each address of the host; closed by `close`.
    """

    def __init__(self, host: str, port: int) -> None:
        """Listen; nobody is accepted yet.

        Raises:
            OSError: The address cannot be used; says why.
        """
        self.host = host
        self.port = 0
        self.sockets: list[socket.socket] = []
        self._file: SocketFile | None = None
        path = unix_path(host)
        if path is None:
            self.sockets, self.port = listen_tcp(host, port)
        else:
            self._file = SocketFile(path, lambda: self.sockets.append(listen_unix(path)))
        self.address = join_address(host, self.port)

    def close(self) -> None:
        """Close the sockets; remove the socket file, if it is still ours."""
        for listening in self.sockets:
            listening.close()
        if self._file is not None:
            self._file.remove()


def bind_grpc(
    server: Any, host: str, port: int, pem: ServerPem | None, certificates: Certificates | None = None
) -> int:
    """Let `server` (a grpc.aio.Server, not started yet) listen, and return the port.

    Raises:
        OSError: It cannot; says why.
    """
    target = grpc_target(host, port)
    try:
        if pem is None:
            bound = server.add_insecure_port(target)
        else:
            current = None if certificates is None else certificates.current
            bound = server.add_secure_port(target, server_credentials(pem, current))
    except RuntimeError as error:
        raise unusable(host, port) from error
    return int(bound)


def check_exposure(host: str, pem: ServerPem | None, allow_insecure: bool, asks_for_tokens: bool = False) -> None:
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
    elif pem.root is None and not asks_for_tokens:
        warnings.warn(
            f"listening on {host} with TLS but without a client CA: whoever reaches the port can use it; add the CA's "
            f"certificate as third path to require client certificates, or pass token_file to require tokens",
            stacklevel=3,
        )
