"""Which carrier a session gets."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from direct_peer import CA, OTHER_CA, WAIT_SECONDS, Link, client_pem, peer, server_context, tls_peer

from remote_gym.client.carriers import dialing
from remote_gym.client.carriers.carrier import Carrier, CarrierEnded, Dialer, End
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.dialing import TRANSPORTS, AutoDialer, DirectDialer, dialer_for
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.client.carriers.grpc import GrpcCarrier, GrpcDialer
from remote_gym.credentials import ClientPem, ServerPem, server_credentials
from remote_gym.errors import ConnectError, ProtocolError, RefusedError
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD
from remote_gym.wire.direct import Ended, Hello, pack_ended, pack_hello

PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "_grpc_only", {})
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


Dial = Callable[..., Dialer]


@pytest.fixture
def dial() -> Iterator[Dial]:
    dialers: list[Dialer] = []

    def make(address: Address, transport: str = "auto") -> Dialer:
        dialers.append(dialer_for(address, transport))
        return dialers[-1]

    yield make
    for dialer in dialers:
        dialer.close()


def landing(size: int) -> memoryview:
    return memoryview(bytearray(size))


def echo(link: Link) -> None:
    link.greet()
    while True:
        link.answer(link.frame())


def echoes(carrier: Carrier) -> bool:
    carrier.send(b"there and back")
    answer = bytes(carrier.receive(landing))
    carrier.close()
    return answer == b"there and back"


@contextlib.contextmanager
def grpc_server(pem: ServerPem | None = None, port: int = 0) -> Iterator[int]:
    """What an older server is: gRPC alone."""
    server = grpc.server(futures.ThreadPoolExecutor(4))
    service, method = SESSION_METHOD[1:].split("/")
    describe = grpc.unary_unary_rpc_method_handler(lambda _request, _context: b"")
    session = grpc.stream_stream_rpc_method_handler(lambda requests, _context: requests)
    handlers = {method: session, DESCRIBE_METHOD.split("/")[2]: describe}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    where = f"127.0.0.1:{port}"
    port = server.add_insecure_port(where) if pem is None else server.add_secure_port(where, server_credentials(pem))
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()


def server_pem(mutual: bool = False) -> ServerPem:
    leaf = CA.issue_cert("localhost", "127.0.0.1")
    root = CA.cert_pem.bytes() if mutual else None
    return ServerPem(leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes(), root)


def test_each_transport_has_a_dialer() -> None:
    address = Address("127.0.0.1", 1, None)
    kinds = [type(dialer_for(address, transport)) for transport in TRANSPORTS]
    assert kinds == [AutoDialer, DirectDialer, GrpcDialer]
    assert type(dialer_for(address)) is AutoDialer


@pytest.mark.parametrize("transport", ["auto", "direct"])
def test_direct_where_it_is_spoken(dial: Dial, transport: str) -> None:
    with tls_peer(echo, mutual=True) as running:
        dialer = dial(running.address, transport)
        dialer.wait_until_ready(WAIT_SECONDS)
        assert running.dials == 1
        for dials in (1, 2):  # the connection that was made is the first carrier
            carrier = dialer.begin()
            assert type(carrier) is DirectCarrier
            assert echoes(carrier)
            assert running.dials == dials


@pytest.mark.parametrize("mutual", [None, False, True])
def test_an_older_server_is_reached_by_grpc_at_once(dial: Dial, caplog: Any, mutual: bool | None) -> None:
    caplog.set_level(logging.INFO, "remote_gym.client")
    pem = None if mutual is None else client_pem(signed_by=CA if mutual else None)
    with grpc_server(None if mutual is None else server_pem(mutual)) as port:
        began = time.monotonic()
        for _ in range(2):
            dialer = dial(Address("127.0.0.1", port, pem))
            dialer.wait_until_ready(WAIT_SECONDS)
            carrier = dialer.begin()
            assert type(carrier) is GrpcCarrier
            assert echoes(carrier)
        assert type(dialer.begin()) is GrpcCarrier  # it comes back
        assert time.monotonic() - began < 4
    assert [record.message for record in caplog.records if "using gRPC" in record.message] == [
        record.message for record in caplog.records
    ]
    assert len(caplog.records) == 1


def test_many_at_once_say_it_once(caplog: Any, dial: Dial) -> None:
    caplog.set_level(logging.INFO, "remote_gym.client")
    with grpc_server() as port, futures.ThreadPoolExecutor(16) as threads:
        dialers = [dial(Address("127.0.0.1", port, None)) for _ in range(16)]
        list(threads.map(lambda dialer: dialer.wait_until_ready(WAIT_SECONDS), dialers))
    assert len(caplog.records) == 1


def test_direct_insists(dial: Dial) -> None:
    with grpc_server() as port:
        dialer = dial(Address("127.0.0.1", port, None), "direct")
        with pytest.raises(ConnectError, match=r"not its direct carrier(.|\n)*--grpc-only"):
            dialer.wait_until_ready(WAIT_SECONDS)
        with pytest.raises(CarrierEnded):
            dialer.begin()


def test_a_reconnect_may_change_carriers(dial: Dial) -> None:
    with grpc_server() as port:
        dialer = dial(Address("127.0.0.1", port, None))
        dialer.wait_until_ready(WAIT_SECONDS)
        assert echoes(dialer.begin())
        assert ("127.0.0.1", port) in dialing._grpc_only
    with pytest.raises(CarrierEnded):
        dialer.begin().receive(landing)
    with socket.create_server(("127.0.0.1", port)) as listener:  # upgraded

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                echo(Link(connection))

        thread = threading.Thread(target=serve)
        thread.start()
        carrier = dialer.begin()
        assert type(carrier) is DirectCarrier
        assert echoes(carrier)
        thread.join()
        assert not dialing._grpc_only
    with grpc_server(port=port):  # and back
        carrier = dialer.begin()
        assert type(carrier) is GrpcCarrier
        assert echoes(carrier)


@pytest.mark.parametrize("transport", ["auto", "direct"])
@pytest.mark.parametrize(("pem", "context", "said"), [
    (client_pem(OTHER_CA), {}, "not signed by the given CA"),
    (client_pem(), {"names": ("elsewhere.example",)}, "lacks the IP 127.0.0.1"),
    (client_pem(), {"mutual": True}, "requires a client certificate"),
])  # fmt: skip
def test_a_certificate_is_no_reason_for_grpc(
    dial: Dial, transport: str, pem: ClientPem, context: dict[str, Any], said: str
) -> None:
    def script(link: Link) -> None:
        if link.connection.selected_alpn_protocol() == "h2":  # type: ignore[attr-defined]
            link.say(b"\0\0\0\4\0\0\0\0\0")
        link.wait_for_end()

    with peer(script, server_context(**context), pem) as running:
        began = time.monotonic()
        with pytest.raises(ConnectError, match=said):
            dial(running.address, transport).wait_until_ready(WAIT_SECONDS)
        assert time.monotonic() - began < 3
    assert not dialing._grpc_only


def test_either_manner_at_the_others_port(dial: Dial) -> None:
    with tls_peer(echo) as running, pytest.raises(ConnectError, match="wants TLS"):
        dial(Address("127.0.0.1", running.address.port, None)).wait_until_ready(WAIT_SECONDS)
    with grpc_server() as port, pytest.raises(ConnectError, match="speaks plaintext"):
        dial(Address("127.0.0.1", port, client_pem())).wait_until_ready(WAIT_SECONDS)


def test_a_server_that_comes_late(dial: Dial) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    ready: list[BaseException | None] = []
    dialer = dial(Address("127.0.0.1", port, None))

    def wait() -> None:
        dialer.wait_until_ready(WAIT_SECONDS)
        ready.append(None)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.3)
    with socket.create_server(("127.0.0.1", port)) as listener:
        connection, _ = listener.accept()
        with connection:
            Link(connection).greet()
            thread.join(1.0)
    assert ready == [None]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nobody_there(dial: Dial, transport: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        dialer = dial(Address("127.0.0.1", bound.getsockname()[1], None), transport)
        began = time.monotonic()
        with pytest.raises(ConnectError, match="refused the connection"):
            dialer.wait_until_ready(0.6)
        assert 0.5 < time.monotonic() - began < 4
        if transport != "grpc":
            with pytest.raises(CarrierEnded):
                dialer.begin()


def test_a_server_that_is_full_says_so_at_once(dial: Dial) -> None:
    def script(link: Link) -> None:
        link.hear_hello()
        link.say(pack_ended(Ended(8, "max_connections=4")))

    with tls_peer(script) as running, pytest.raises(ConnectError, match="max_connections=4"):
        dial(running.address).wait_until_ready(WAIT_SECONDS)


def test_a_server_that_does_not_know_us_is_asked_once(dial: Dial) -> None:
    def script(link: Link) -> None:
        link.hear_hello()
        link.say(pack_ended(Ended(16, "this server asks for a token")))

    with tls_peer(script) as running:
        with pytest.raises(RefusedError, match="takes no connection of ours: this server asks for a token") as caught:
            dial(running.address).wait_until_ready(WAIT_SECONDS)
        assert caught.value.limit == "authentication"
        assert running.dials == 1
        with pytest.raises(CarrierEnded) as ended:
            dial(running.address).begin()
        assert ended.value.end is End.STRANGER


def test_another_version_of_the_contract(dial: Dial) -> None:
    def script(link: Link) -> None:
        link.hear_hello()
        link.say(pack_hello(Hello(7, 8)))

    with tls_peer(script) as running, pytest.raises(ProtocolError, match="upgrade remote_gym on the client"):
        dial(running.address).wait_until_ready(WAIT_SECONDS)


@pytest.mark.parametrize("transport", ["auto", "direct"])
def test_an_interrupt_ends_dialing(dial: Dial, transport: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dialer = dial(Address("127.0.0.1", listener.getsockname()[1], None), transport)
        timer = threading.Timer(0.2, dialer.interrupt)
        timer.start()
        began = time.monotonic()
        with pytest.raises(CarrierEnded):
            dialer.wait_until_ready(WAIT_SECONDS)
        assert time.monotonic() - began < 3
        timer.join()


def test_where_only_a_proxy_leads(dial: Dial, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    asked: list[float] = []
    monkeypatch.setattr(GrpcDialer, "wait_until_ready", lambda _self, seconds: asked.append(seconds))
    dialer = dial(Address("farm.invalid", 1234, None))
    began = time.monotonic()
    dialer.wait_until_ready(WAIT_SECONDS)
    assert time.monotonic() - began < 15
    assert len(asked) == 1
    assert not dialing._grpc_only
    with pytest.raises(ConnectError):
        dial(Address("farm.invalid", 1234, None), "direct").wait_until_ready(1.0)


def test_nothing_is_left_open(dial: Dial) -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("nobody tells")
    with tls_peer(echo) as running:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            dialer = dial(running.address)
            dialer.wait_until_ready(WAIT_SECONDS)
            dialer.close()
            dialer.close()
        deadline = time.monotonic() + WAIT_SECONDS
        while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before
