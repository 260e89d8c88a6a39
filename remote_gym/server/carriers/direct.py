"""Server process: sessions over connections of their own, without gRPC: from what the door hands over to its end.

The contract is at `Hello` in session.proto.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from functools import partial

from remote_gym import failpoints
from remote_gym.credentials import ServerPem
from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.carriers.connection import Connection
from remote_gym.server.carriers.edge import Edge
from remote_gym.server.carriers.handshake import Handshakes
from remote_gym.server.carriers.outlet import SLICE_BYTES
from remote_gym.wire.direct import MAGIC, Hello, pack_hello

logger = logging.getLogger("remote_gym.server")

LOOK_SECONDS = 5.0
"""How often it is looked who has fallen silent."""

LAST_BYTES_SECONDS = 0.5
"""How long what was written last may take to reach a client, before a server's end."""

WAIT_SECONDS = 0.01
"""How often it is looked whether all have ended."""


class Direct:
    """The direct connections of one server.

    Closing contract: `end` lets each end once what is queued for it is written, `close` ends all at once, and then no
    descriptor or thread of them is left.
    """

    def __init__(self, edge: Edge, pem: ServerPem | None) -> None:
        """Carry the sessions of `edge`; with `pem` over TLS, but for unix-domain sockets.

        Raises:
            ssl.SSLError: See `Handshakes`.
        """
        self.connections: set[Connection] = set()
        self._edge = edge
        self._handshakes = None if pem is None else Handshakes(pem)
        self._hello = pack_hello(Hello(server_epoch=edge.sessions.epoch))
        self._beginnings: set[asyncio.Task[None]] = set()
        self._scratch = memoryview(bytearray(SLICE_BYTES))  # for all: a read and what is done with it are one
        self._look: asyncio.TimerHandle | None = None

    def renew(self, pem: ServerPem) -> None:
        """Prove what `pem` holds to whoever connects from now on.

        Raises:
            ssl.SSLError: See `Handshakes`; all stays as it was.
        """
        if self._handshakes is not None:
            self._handshakes.renew(pem)

    def accept(self, sock: socket.socket, visitor: Visitor) -> None:
        """Take over `sock`, non-blocking, of which nothing was read."""
        task = asyncio.ensure_future(self._begin(sock, visitor))
        visitor.close = task.cancel
        self._beginnings.add(task)
        task.add_done_callback(partial(self._begun, sock, visitor))

    def _begun(self, sock: socket.socket, visitor: Visitor, task: asyncio.Task[None]) -> None:
        self._beginnings.discard(task)
        if task.cancelled():  # before it could do anything
            sock.close()
            visitor.leave()

    async def _begin(self, sock: socket.socket, visitor: Visitor) -> None:
        try:
            if self._handshakes is not None and sock.family != socket.AF_UNIX:
                sock = await self._handshakes.shake(sock)
            elif sock.recv(len(MAGIC)) != MAGIC:  # which was seen before it was handed over
                raise OSError("it has sent something else meanwhile")
            forget = self.connections.discard
            connection = Connection(sock, visitor, self._edge, self._hello, self._scratch, forget)
        except (OSError, asyncio.TimeoutError, asyncio.CancelledError, failpoints.FailpointError) as error:
            sock.close()
            visitor.leave()
            logger.debug("%s ended while it connected: %s", visitor.peer, error)
            return
        self.connections.add(connection)
        if self._look is None:
            self._look_around()

    def _look_around(self) -> None:
        """Look who has fallen silent, again and again while there is anybody."""
        for connection in list(self.connections):
            connection.look(LOOK_SECONDS)
        loop = asyncio.get_running_loop()
        self._look = loop.call_later(LOOK_SECONDS, self._look_around) if self.connections else None

    async def end(self, timeout_seconds: float) -> None:
        """Let all end once what is queued for them is written.

        Returns when they have. What is not written after `timeout_seconds` stays so, and who has not closed a moment
        after all is written is not waited for.
        """
        for connection in list(self.connections):
            connection.outlet.end()
        deadline = time.monotonic() + timeout_seconds
        while any(one.outlet.unwritten.bytes for one in self.connections) and time.monotonic() < deadline:
            await asyncio.sleep(WAIT_SECONDS)
        deadline = time.monotonic() + LAST_BYTES_SECONDS
        while self.connections and time.monotonic() < deadline:
            await asyncio.sleep(WAIT_SECONDS)

    def close(self) -> None:
        """End everything at once; may be called twice."""
        for task in self._beginnings:
            task.cancel()
        for connection in list(self.connections):
            connection.close()
        if self._look is not None:
            self._look.cancel()
        if self._handshakes is not None:
            self._handshakes.close()
