"""Server process: all that one server listens on, and gRPC behind it.

Usually a port is ours: a `Door` looks at who comes and passes to gRPC, on a private socket, what is not the direct
carrier's. With `grpc_only` gRPC has the port itself, and neither door nor private socket is there.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from remote_gym.addresses import UNIX, unix_path
from remote_gym.credentials import ServerPem
from remote_gym.pool import connection_limit
from remote_gym.server.carriers import client_hello
from remote_gym.server.carriers.admission import Admission, Visitor
from remote_gym.server.carriers.door import Door, Entrance, HandOver
from remote_gym.server.carriers.identity import is_private
from remote_gym.server.carriers.passage import Passages
from remote_gym.server.listening import Endpoints, GrpcListener, Listener, SocketListener, bind_grpc
from remote_gym.server.private_folder import PrivateFolder

LAST_BYTES_SECONDS = 0.5
"""How long, at least, what gRPC has said last may take to reach its clients before a server's end."""


class Front:
    """What one server listens on. Bound from the start, it lets in whoever comes between `open` and `shut`.

    Attributes:
        listeners: The address, and that of the unix socket beside it if there is one.
        private: The socket of the dashboard, in a folder that only this user can enter; None without one.
    """

    def __init__(self, server: Any, endpoints: Endpoints, direct: HandOver | None = None) -> None:
        """Bind everything, for `server` (a grpc.aio.Server, not started yet) and `direct`; on the server's loop.

        Raises:
            OSError: An address cannot be used; says why. Nothing is bound then.
        """
        self.listeners: list[Listener] = []
        self.private: Listener | None = None
        self._folder: PrivateFolder | None = None
        self._server = server
        self._certificates = endpoints.certificates
        self._passages: Passages | None = None
        self._door: Door | None = None
        self._entrances: list[Entrance] = []
        try:
            if not endpoints.grpc_only:
                loop = asyncio.get_running_loop()
                self._passages = Passages(loop)
                self._door = Door(loop, Admission(connection_limit()), self._passages, direct)
            self.listeners.append(self._listen(endpoints.host, endpoints.port, endpoints.pem))
            if endpoints.unix_socket is not None:
                self.listeners.append(self._listen(endpoints.unix_socket, 0, None))
            if endpoints.dashboard_port is not None:
                self._folder = PrivateFolder()
                self.private = self._listen(f"{UNIX}{self._folder.path}/dashboard", 0, None)
        except BaseException:
            self.close()
            raise

    def _listen(self, host: str, port: int, pem: ServerPem | None) -> Listener:
        if self._passages is None:
            return GrpcListener(self._server, host, port, pem, self._certificates)
        listener = SocketListener(host, port)
        try:
            judge = client_hello.in_plaintext if pem is None else client_hello.over_tls
            behind = self._passages.path(f"{len(self._entrances) + 1}")
            bind_grpc(self._server, UNIX + behind, 0, pem, self._certificates)
        except BaseException:
            listener.close()
            raise
        self._entrances += (Entrance(listening, judge, behind) for listening in listener.sockets)
        return listener

    def open(self) -> None:
        """Let in whoever comes, and who has come already; gRPC has been started."""
        if self._door is not None:
            for entrance in self._entrances:
                self._door.open(entrance)

    def peer(self, name: str) -> str:
        """Return who is at the other end of what gRPC calls `name`."""
        return name if self._passages is None else self._passages.peer(name)

    def uid(self, name: str) -> int | None:
        """Return which user of this machine that is, if they have come to a Unix socket; None: they have not.

        Who is passed through reaches gRPC by a private socket, whoever it is: the door has looked who that was. Where
        gRPC itself listens, it is whom the socket's file lets in, if that is nobody but its owner.
        """
        if self._passages is not None:
            visitor = self.visitor(name)
            return None if visitor is None else visitor.uid
        paths = [path for listener in self._all() if (path := unix_path(listener.host)) is not None]
        return os.geteuid() if name.startswith(UNIX) and all(map(is_private, paths)) else None

    def visitor(self, name: str) -> Visitor | None:
        """Return the connection of what gRPC calls `name`; None if it has gone, or gRPC itself listens."""
        return None if self._passages is None else self._passages.visitors.get(name)

    def shut(self) -> None:
        """Let nobody in any more; who has not said what they want go."""
        if self._door is not None:
            self._door.close()

    async def ended(self, timeout_seconds: float) -> None:
        """Return once the clients of gRPC, which has been stopped, have got its last bytes, or the time is up."""
        if self._passages is not None:
            await self._passages.ended(max(LAST_BYTES_SECONDS, timeout_seconds))

    def _all(self) -> list[Listener]:
        return self.listeners if self.private is None else [*self.listeners, self.private]

    def close(self) -> None:
        """End what is left: connections, sockets, files; may be called twice."""
        self.shut()
        for listener in self._all():
            listener.close()
        if self._folder is not None:
            self._folder.close()
        if self._passages is not None:
            self._passages.close()
