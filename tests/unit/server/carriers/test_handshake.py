"""Handshakes of the direct carrier, with real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from remote_gym.credentials import load_server_pem
from remote_gym.server.carriers import handshake
from remote_gym.server.carriers.handshake import Handshakes

Client = Callable[[socket.socket], Any]


def shaken(paths: Any, client: Client) -> tuple[Any, Any]:
    """Return what both sides come to, or what they raise."""
    results: list[Any] = []

    def run(sock: socket.socket) -> None:
        try:
            results.append(client(sock))
        except OSError as error:
            results.append(error)

    async def main() -> Any:
        pem = load_server_pem(paths)
        assert pem is not None
        handshakes = Handshakes(pem)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
        ours.setblocking(False)
        thread = threading.Thread(target=run, args=(theirs,))
        thread.start()
        try:
            with await handshakes.shake(ours) as tls:
                return tls.version(), tls.selected_alpn_protocol(), tls.getpeercert()
        except (OSError, asyncio.TimeoutError) as error:
            return error
        finally:
            handshakes.close()
            handshakes.close()
            await asyncio.get_running_loop().run_in_executor(None, thread.join)
            theirs.close()

    return asyncio.run(main()), results[0]


def context(certificates: Any, *alpn: str, mutual: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(certificates.directory / "ca.pem")
    made.set_alpn_protocols(list(alpn))
    if mutual:
        made.load_cert_chain(*certificates.client_mutual[1:])
    return made


def connect(made: ssl.SSLContext) -> Client:
    def client(sock: socket.socket) -> Any:
        with made.wrap_socket(sock, server_hostname="127.0.0.1") as tls:
            return tls.selected_alpn_protocol(), tls.recv(1)  # nothing, tickets neither

    return client


def test_both_sides_agree_on_the_protocol(certificates: Any) -> None:
    ours, theirs = shaken(certificates.server, connect(context(certificates, "remote-gym/1", "h2")))
    assert ours[:2] == ("TLSv1.3", "remote-gym/1")
    assert theirs == ("remote-gym/1", b"")


def test_tls_1_2_is_enough_and_1_1_is_not(certificates: Any) -> None:
    old = context(certificates, "remote-gym/1")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shaken(certificates.server, connect(old))[0][0] == "TLSv1.2"
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    assert isinstance(shaken(certificates.server, connect(old))[0], ssl.SSLError)


def test_a_client_without_the_certificate_it_needs_is_refused(certificates: Any) -> None:
    without = connect(context(certificates, "remote-gym/1"))
    assert isinstance(shaken(certificates.server_mutual, without)[0], ssl.SSLError)


def test_a_client_is_known_by_its_certificate(certificates: Any) -> None:
    ours, _ = shaken(certificates.server_mutual, connect(context(certificates, "remote-gym/1", mutual=True)))
    assert ours[2]["subject"]


@pytest.mark.parametrize("alpn", [(), ("h2",)])
def test_who_does_not_agree_is_let_go(certificates: Any, alpn: tuple[str, ...]) -> None:
    ours, _ = shaken(certificates.server, connect(context(certificates, *alpn)))
    assert isinstance(ours, OSError)


def test_what_is_no_tls_is_let_go(certificates: Any) -> None:
    def client(sock: socket.socket) -> bytes:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        return sock.recv(100)

    assert isinstance(shaken(certificates.server, client)[0], ssl.SSLError)


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"])
def test_who_falls_silent_is_let_go(certificates: Any, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(handshake, "HANDSHAKE_SECONDS", 0.1)

    def client(sock: socket.socket) -> bytes:
        sock.sendall(said)
        return sock.recv(100)

    ours, theirs = shaken(certificates.server, client)
    assert isinstance(ours, (TimeoutError, asyncio.TimeoutError))
    assert theirs == b"" or isinstance(theirs, ConnectionError)


def test_many_silent_ones_hold_nobody_up(certificates: Any) -> None:
    async def main() -> None:
        pem = load_server_pem(certificates.server)
        assert pem is not None
        handshakes = Handshakes(pem)
        loop = asyncio.get_running_loop()
        silent: list[socket.socket] = []
        waiting: list[asyncio.Task[Any]] = []
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:

            def accepted() -> socket.socket:
                ours, _ = listener.accept()
                ours.setblocking(False)
                return ours

            for _ in range(50):
                silent.append(socket.create_connection(listener.getsockname()))
                waiting.append(asyncio.ensure_future(handshakes.shake(accepted())))
            theirs = socket.create_connection(listener.getsockname())
            ours = accepted()
        done = loop.run_in_executor(None, connect(context(certificates, "remote-gym/1")), theirs)
        (await asyncio.wait_for(handshakes.shake(ours), 5.0)).close()
        assert await done == ("remote-gym/1", b"")
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for sock in [*silent, theirs]:
            sock.close()
        handshakes.close()

    asyncio.run(main())
