"""A server's direct connections on a loop of their own, real sockets and TLS; behind the edge is one fake session."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from edge_fakes import FakeSession, FakeSessions

from remote_gym.credentials import load_server_pem
from remote_gym.messages import Attach, Bundle, Open, Render
from remote_gym.server.carriers.admission import Admission, Visitor, peer_name
from remote_gym.server.carriers.direct import Direct
from remote_gym.server.carriers.edge import Edge
from remote_gym.wire.codec import pack_client, read_server
from remote_gym.wire.direct import LAST, MAGIC, Hello, framed, pack_hello, read_ended, read_hello

OPEN = framed(pack_client(Open(1, 1, b"n" * 16, 1)))
ATTACH = framed(pack_client(Attach(b"s", b"t", b"e", 1)))
HELLO = pack_hello(Hello())


def request(number: int) -> bytes:
    return framed(pack_client(Render(number)))


class Client:
    """A client that waits."""

    def __init__(self, sock: Any) -> None:
        self.socket = sock
        sock.settimeout(10.0)

    def say(self, *frames: bytes) -> None:
        self.socket.sendall(b"".join(frames))

    def bytes(self, size: int) -> bytes:
        data = memoryview(bytearray(size))
        at = 0
        while at < size:
            if not (more := self.socket.recv_into(data[at:])):
                raise EOFError
            at += more
        return bytes(data)

    def frame(self) -> bytes:
        (length,) = struct.unpack("<I", self.bytes(4))
        assert not length & LAST, read_ended(self.bytes(length & ~LAST))
        return self.bytes(length)

    def last(self) -> Any:
        (length,) = struct.unpack("<I", self.bytes(4))
        assert length & LAST
        ended = read_ended(self.bytes(length & ~LAST))
        assert self.ended
        return ended

    def message(self) -> Any:
        message = read_server(self.frame())
        return [read_server(one) for one in message.messages] if isinstance(message, Bundle) else message

    def greet(self) -> Hello:
        self.say(HELLO)
        return read_hello(self.frame())

    @property
    def ended(self) -> bool:
        try:
            return self.socket.recv(1) == b""
        except ConnectionError:
            return True


class Lab:
    """A server's direct connections on a loop of their own, and clients that dial them."""

    def __init__(self, certificates: Any) -> None:
        self.sessions: Any = FakeSessions()
        self._certificates = certificates
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self._clients: list[Client] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        pem = None if certificates is None else load_server_pem(certificates.server)
        self.edge = Edge(self.sessions)
        self.admission = Admission(None)
        self.direct: Direct = self.call(self._make, pem)

    async def _make(self, pem: Any) -> Direct:
        return Direct(self.edge, pem)

    def call(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(function(*args), self.loop).result(10.0)

    def soon(self, function: Callable[..., Any], *args: Any) -> Any:
        async def call() -> Any:
            return function(*args)

        return self.call(call)

    def accept(self) -> None:
        """Let in the next one."""
        accepted, address = self._listener.accept()
        accepted.setblocking(False)
        visitor = Visitor(self.admission, peer_name(address), accepted.close)
        assert self.admission.admit(visitor)
        self.loop.call_soon_threadsafe(self.direct.accept, accepted, visitor)

    def connect(self, sock: socket.socket) -> None:
        """Let in `sock`."""
        sock.connect(self._listener.getsockname())
        self.accept()

    def dial(self, receive_bytes: int | None = None) -> Client:
        sock: Any = socket.socket()
        if receive_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        if self._certificates is None:
            sock.connect(self._listener.getsockname())
            sock.sendall(MAGIC)
            self.accept()
        else:
            self.connect(sock)
        if self._certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(self._certificates.directory / "ca.pem")
            context.set_alpn_protocols(["remote-gym/1"])
            sock = context.wrap_socket(sock, server_hostname="127.0.0.1")
        self._clients.append(Client(sock))
        return self._clients[-1]

    def opened(self, **options: Any) -> Client:
        client = self.dial(**options)
        client.greet()
        client.say(OPEN)
        assert client.message() == FakeSession.opened
        return client

    def close(self) -> None:
        for client in self._clients:
            client.socket.close()
        self.soon(self.direct.close)
        self.soon(self.direct.close)
        assert not self.direct.connections and not self.edge.outlets and self.admission.descriptors == 0
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()
        self._listener.close()
