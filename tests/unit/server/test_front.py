"""What a server listens on: its own door with gRPC behind it, or gRPC alone; all or nothing is bound."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import Certificates

from remote_gym.credentials import load_server_pem
from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.front import Front
from remote_gym.server.listening import Endpoints, options
from remote_gym.wire.direct import ALPN, MAGIC

WhoAmI = Callable[[Any], Awaitable[bytes]]


class Running:
    """A gRPC server that tells its clients who they are, and a front before it."""

    def __init__(self, endpoints: Endpoints, direct: Any = None) -> None:
        self.server = grpc.aio.server(options=options())
        self.front = Front(self.server, endpoints, direct)

        async def who(_request: bytes, context: Any) -> bytes:
            return f"{self.front.peer(context.peer())} {self.front.uid(context.peer())}".encode()

        async def echo(request: bytes, _context: Any) -> bytes:
            return request

        handlers = {
            "peer": grpc.unary_unary_rpc_method_handler(who),
            "echo": grpc.unary_unary_rpc_method_handler(echo),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("who", handlers),))

    async def __aenter__(self) -> Running:
        await self.server.start()
        self.front.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.front.shut()
        await self.server.stop(0.1)
        await self.front.ended(0.0)
        self.front.close()
        self.front.close()

    async def who_am_i(self, address: str, credentials: grpc.ChannelCredentials | None = None) -> str:
        channel_options = [("grpc.use_local_subchannel_pool", 1)]
        make = (
            grpc.aio.insecure_channel(address, channel_options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, channel_options)
        )
        async with make as channel:
            return bytes(await channel.unary_unary("/who/peer")(b"", timeout=5.0)).decode()


@pytest.mark.parametrize("grpc_only", [False, True])
def test_grpc_is_reached_and_knows_its_peers(tmp_path: Path, grpc_only: bool) -> None:
    async def main() -> None:
        endpoints = Endpoints("127.0.0.1", 0, unix_socket=f"unix:{tmp_path}/s", grpc_only=grpc_only)
        async with Running(endpoints) as running:
            tcp, unix = running.front.listeners
            who = await running.who_am_i(tcp.address)
            assert who.startswith("ipv4:127.0.0.1:") and who.endswith(" None")
            assert await running.who_am_i(unix.address) == f"unix: {os.geteuid()}"
            assert (tmp_path / "s").exists()
        assert not (tmp_path / "s").exists()
        with socket.socket() as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            again.bind(("127.0.0.1", tcp.port))

    asyncio.run(main())


def test_tls_is_grpcs_own_and_the_direct_carriers_hello_is_left_to_it(certificates: Certificates) -> None:
    taken: list[tuple[socket.socket, Visitor]] = []

    async def main() -> None:
        pem = load_server_pem(certificates.server_mutual)
        root, certificate, key = (path.read_bytes() for path in certificates.client_mutual)
        endpoints = Endpoints("localhost", 0, pem)
        async with Running(endpoints, lambda *direct: taken.append(direct)) as running:
            (listener,) = running.front.listeners
            shown = grpc.ssl_channel_credentials(root, key, certificate)
            assert "127.0.0.1" in await running.who_am_i(f"127.0.0.1:{listener.port}", shown)
            with pytest.raises(grpc.aio.AioRpcError):
                await running.who_am_i(listener.address, grpc.ssl_channel_credentials(root))
            assert not taken
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            context.set_alpn_protocols([ALPN])
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(asyncio.open_connection("127.0.0.1", listener.port, ssl=context), 0.5)
            ((connection, visitor),) = taken
            with connection:
                assert connection.recv(1) == b"\x16"
            visitor.leave()

    asyncio.run(main())


def test_the_largest_messages_pass(certificates: Certificates) -> None:
    async def main() -> None:
        pem = load_server_pem(certificates.server)
        trusted = grpc.ssl_channel_credentials(certificates.client[0].read_bytes())
        unlimited = [(f"grpc.max_{way}_message_length", -1) for way in ("send", "receive")]
        message = os.urandom(1 << 20) * 63
        async with Running(Endpoints("127.0.0.1", 0, pem)) as running:
            (listener,) = running.front.listeners
            async with grpc.aio.secure_channel(listener.address, trusted, unlimited) as channel:
                assert await channel.unary_unary("/who/echo")(message, timeout=30.0) == message

    asyncio.run(main())


def test_plaintext_and_unix_sockets_have_both_carriers(tmp_path: Path) -> None:
    taken: list[tuple[socket.socket, Visitor]] = []

    async def main() -> None:
        endpoints = Endpoints(f"unix:{tmp_path}/s", 0)
        async with Running(endpoints, lambda *direct: taken.append(direct)) as running:
            (listener,) = running.front.listeners
            assert await running.who_am_i(listener.address) == f"unix: {os.geteuid()}"
            _, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
            writer.write(MAGIC)
            while not taken:
                await asyncio.sleep(0.005)
            ((connection, visitor),) = taken
            assert (visitor.peer, visitor.uid) == ("unix:", os.geteuid())
            writer.close()
            connection.close()
            visitor.leave()

    asyncio.run(main())


def test_a_second_address_that_cannot_be_used_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    async def main() -> None:
        server = grpc.aio.server()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with pytest.raises(FileNotFoundError, match="cannot listen on unix:"):
            Front(server, Endpoints("127.0.0.1", port, unix_socket=f"unix:{tmp_path}/none/s"))
        with socket.socket() as again:
            again.bind(("127.0.0.1", port))
        await server.stop(None)
        assert os.listdir(tmp_path) == []

    asyncio.run(main())
