"""A server that speaks the direct carrier by hand, scripted by the test: real sockets, real TLS, an ephemeral port."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import trustme

from remote_gym.client.carriers.channel import Address
from remote_gym.credentials import ClientPem
from remote_gym.wire.direct import ALPN, HEADER, MAGIC, Hello, framed, pack_hello, read_hello

WAIT_SECONDS = 20.0
"""How long a test waits for what must happen."""

CA = trustme.CA()
OTHER_CA = trustme.CA(organization_name="another CA")


def client_pem(ca: trustme.CA = CA, signed_by: trustme.CA | None = None) -> ClientPem:
    """What a client trusts, and proves if somebody has signed it."""
    if signed_by is None:
        return ClientPem(ca.cert_pem.bytes())
    leaf = signed_by.issue_cert("client@example.org")
    return ClientPem(ca.cert_pem.bytes(), leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes())


def server_context(
    names: Sequence[str] = ("localhost", "127.0.0.1"), mutual: bool = False, alpn: Sequence[str] = (ALPN, "h2")
) -> ssl.SSLContext:
    """A server's TLS, with a certificate of `CA`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert(*names).configure_cert(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if mutual:
        CA.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@dataclass
class Link:
    """The server's end of one connection. Its methods raise OSError when the client has gone."""

    connection: socket.socket

    def exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not (more := self.connection.recv(min(size - len(data), 1 << 20))):
                raise ConnectionResetError("the client has gone")
            data += more
        return bytes(data)

    def frame(self) -> bytes:
        """Return the next frame; b"" is a ping."""
        (length,) = HEADER.unpack(self.exactly(HEADER.size))
        return self.exactly(length)

    def hear_hello(self) -> Hello:
        if not isinstance(self.connection, ssl.SSLSocket):
            assert self.exactly(len(MAGIC)) == MAGIC
        return read_hello(self.frame())

    def greet(self) -> None:
        self.hear_hello()
        self.say(pack_hello(Hello(server_epoch=b"e" * 16)))

    def say(self, data: bytes) -> None:
        self.connection.sendall(data)

    def answer(self, *frames: bytes) -> None:
        self.say(b"".join(map(framed, frames)))

    def wait_for_end(self) -> bytes:
        """Return what the client still sends, until it has gone."""
        data = b""
        with contextlib.suppress(OSError):
            while more := self.connection.recv(65_536):
                data += more
        return data


Script = Callable[[Link], object]


@dataclass
class Peer:
    """Listens and runs the script on each connection, in a thread of its own.

    Attributes:
        address: Where.
        errors: What scripts have raised, but for the client's end.
        dials: How many connections came.
    """

    script: Script
    context: ssl.SSLContext | None
    address: Address
    listener: socket.socket
    errors: list[BaseException] = field(default_factory=list)
    dials: int = 0

    def run(self) -> None:
        with contextlib.ExitStack() as stack:
            threads: list[threading.Thread] = []
            while True:
                try:
                    connection, _ = self.listener.accept()
                except OSError:  # shut down
                    break
                self.dials += 1
                stack.callback(_end, connection)
                threads.append(threading.Thread(target=self.serve, args=(connection,)))
                threads[-1].start()
            for thread in threads:
                thread.join(0.5)
        for thread in threads:
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()

    def serve(self, connection: socket.socket) -> None:
        try:
            connection.settimeout(WAIT_SECONDS)
            if self.context is not None:
                connection = self.context.wrap_socket(connection, server_side=True)
            self.script(Link(connection))
        except OSError:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            connection.close()


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def peer(
    script: Script, context: ssl.SSLContext | None = None, pem: ClientPem | None = None, path: str | None = None
) -> Iterator[Peer]:
    """Run a peer; its address is dialled with `pem`, which goes with `context`; `path`: at a unix socket."""
    if path is None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        address = Address("127.0.0.1", listener.getsockname()[1], pem)
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(2)
        address = Address(f"unix:{path}", 0, None)
    running = Peer(script, context, address, listener)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        yield running
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(WAIT_SECONDS)
        listener.close()
        assert not thread.is_alive()
        assert running.errors == []


@contextlib.contextmanager
def tls_peer(script: Script, mutual: bool = False) -> Iterator[Peer]:
    """Run a peer that speaks TLS, and its address has what it asks for."""
    with peer(script, server_context(mutual=mutual), client_pem(signed_by=CA if mutual else None)) as running:
        yield running
