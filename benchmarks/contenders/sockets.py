"""Contender's process, and a server's: a bare TLS socket, what no program in Python over TLS can be faster than.

The same certificates and messages of the same size as `echo`, but no gRPC: TLS 1.3 over TCP, a non-blocking socket on
an asyncio loop there, a thread that blocks here, and nothing around a message but four bytes that hold its length.

    python sockets.py DIRECTORY_OF_CERTIFICATES ANSWER_BYTES        the server; prints its port
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SLICE_BYTES = 256 * 1024
_AGAIN = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


@contextmanager
def client(config: dict[str, Any]) -> Iterator[Any]:
    """Exchange messages: `request_bytes` up, what the server has down; `num_envs` steps are counted for each."""
    from contenders.stepping import timing

    ca, certificate, key = config["credentials"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(ca)
    context.load_cert_chain(certificate, key)
    host, port = config["addresses"][0].split(":")
    with (
        socket.create_connection((host, int(port))) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = struct.pack("<I", config["request_bytes"]) + bytes(config["request_bytes"])

        def read(into: memoryview) -> None:
            while into:
                into = into[connection.recv_into(into) :]

        header = bytearray(4)

        def exchange() -> None:
            connection.sendall(request)
            read(memoryview(header))
            read(memoryview(bytearray(struct.unpack("<I", header)[0])))

        exchange()
        yield timing(exchange, counts=config["num_envs"])


class Echo:
    """One connection: every request is answered with the same ready bytes."""

    def __init__(self, connection: ssl.SSLSocket, answer: bytes) -> None:
        self._connection = connection
        self._answer = memoryview(answer)
        self._loop = asyncio.get_running_loop()
        self._scratch = bytearray(1 << 16)
        self._request = b""
        self._unsent = self._answer[:0]
        self._loop.add_reader(connection, self._read)
        self._loop.call_soon(self._read)

    def _read(self) -> None:
        try:
            count = self._connection.recv_into(self._scratch)
        except _AGAIN:
            return
        if not count:
            self._loop.remove_reader(self._connection)
            self._connection.close()
            return
        self._request += self._scratch[:count]
        (size,) = struct.unpack("<I", self._request[:4])
        if len(self._request) == 4 + size:
            self._request, self._unsent = b"", self._answer
            self._write()

    def _write(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent[:SLICE_BYTES]) :]
        except _AGAIN:
            self._loop.add_writer(self._connection, self._write)
        else:
            self._loop.remove_writer(self._connection)


async def serve(directory: Path, answer_bytes: int) -> None:
    """Answer until the process ends."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "server.pem", directory / "server-key.pem")
    context.load_verify_locations(directory / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    answer = struct.pack("<I", answer_bytes) + bytes(answer_bytes)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(f"echo ready on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            plain, _ = await asyncio.to_thread(listener.accept)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = await asyncio.to_thread(context.wrap_socket, plain, True)
            connection.setblocking(False)
            Echo(connection, answer)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
