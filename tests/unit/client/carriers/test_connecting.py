"""A direct connection, from the address to the server's Hello: what each step that fails is told as."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from direct_peer import CA, OTHER_CA, WAIT_SECONDS, Link, client_pem, peer, server_context, tls_peer

from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.connecting import NotDirect, Patience, connect
from remote_gym.client.diagnosis.handshake import SETTINGS
from remote_gym.credentials import ClientPem
from remote_gym.errors import ProtocolError
from remote_gym.wire.direct import ALPN, HEADER, Ended, Hello, framed, pack_ended, pack_hello


def patience(seconds: float = WAIT_SECONDS, is_needed: Callable[[], bool] = lambda: True) -> Patience:
    return Patience(time.monotonic() + seconds, is_needed)


def greet(link: Link) -> None:
    link.greet()
    link.wait_for_end()


def dial(address: Address, seconds: float = WAIT_SECONDS) -> None:
    connect(address, patience(seconds)).close()


@pytest.mark.parametrize("mutual", [False, True])
def test_over_tls(mutual: bool) -> None:
    said: list[Hello] = []

    def script(link: Link) -> None:
        assert isinstance(link.connection, ssl.SSLSocket)
        assert link.connection.selected_alpn_protocol() == ALPN
        said.append(link.hear_hello())
        link.say(pack_hello(Hello()))
        link.wait_for_end()

    with tls_peer(script, mutual) as running:
        dial(running.address)
        dial(replace(running.address, token="secret"))
    assert said == [Hello(), Hello(token="secret")]


def test_in_plaintext_and_at_a_unix_socket(tmp_path: Path) -> None:
    for path in (None, str(tmp_path / "socket")):
        with peer(greet, path=path) as running:
            dial(running.address)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="there are no unix sockets")
def test_a_unix_socket_whose_queue_is_full(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with contextlib.ExitStack() as stack:
            for _ in range(4):
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect_ex(path)
            with pytest.raises(TimeoutError):
                dial(Address(f"unix:{path}", 0, None), 0.2)


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer(greet) as running:
        port = running.address.port
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        dial(Address("somewhere", port, None))


# Who is not reached


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            dial(Address("127.0.0.1", bound.getsockname()[1], None))
    with pytest.raises(FileNotFoundError):
        dial(Address(f"unix:{tmp_path}/none", 0, None))


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "a..b"])
def test_names_that_mean_nothing(host: str) -> None:
    with pytest.raises(socket.gaierror):
        dial(Address(host, 1, None))


@pytest.mark.parametrize("pem", [None, client_pem()])
def test_a_silent_server(pem: ClientPem | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            dial(Address("127.0.0.1", listener.getsockname()[1], pem), 0.3)
        assert time.monotonic() - began < 3


@pytest.mark.parametrize("pem", [None, client_pem()])
def test_nobody_needs_it_any_more(pem: ClientPem | None) -> None:
    needed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        timer = threading.Timer(0.1, needed.set)
        timer.start()
        began = time.monotonic()
        with pytest.raises(CarrierEnded, match="interrupted"):
            connect(Address("127.0.0.1", listener.getsockname()[1], pem), patience(20.0, lambda: not needed.is_set()))
        assert time.monotonic() - began < 3
        timer.join()


# Who is not ours


@pytest.mark.parametrize(("alpn", "speaks_grpc"), [(["h2"], True), ([], False), (["other"], False)])
def test_another_protocol_is_agreed(alpn: list[str], speaks_grpc: bool) -> None:
    running = peer(lambda link: link.wait_for_end(), server_context(alpn=alpn), client_pem())
    with running as there, pytest.raises(NotDirect) as other:
        dial(there.address)
    assert other.value.speaks_grpc is speaks_grpc


@pytest.mark.parametrize(("answer", "speaks_grpc"), [
    (b"\0\0\x18\4\0\0\0\0\0" + bytes(24), True), (SETTINGS, True), (b"HTTP/1.1 400 Bad\r\n", False), (b"SSH-2", False),
    (HEADER.pack(0), False), (HEADER.pack(4_097), False),
])  # fmt: skip
def test_plaintext_that_answers_something_else(answer: bytes, speaks_grpc: bool) -> None:
    with peer(lambda link: link.say(answer)) as running, pytest.raises(NotDirect) as other:
        dial(running.address)
    assert other.value.speaks_grpc is speaks_grpc


def test_either_manner_at_the_others_port() -> None:
    with tls_peer(greet) as running:
        with pytest.raises((CarrierEnded, OSError)) as failed:
            dial(Address("127.0.0.1", running.address.port, None))
        assert not isinstance(failed.value, NotDirect)
    with peer(lambda link: link.answer(bytes(30))) as running, pytest.raises(ssl.SSLError):
        dial(Address("127.0.0.1", running.address.port, client_pem()))


# Certificates


def test_another_authority() -> None:
    with peer(greet, server_context(), client_pem(OTHER_CA)) as running, pytest.raises(ssl.SSLCertVerificationError):
        dial(running.address)


@pytest.mark.parametrize("names", [("elsewhere.example",), ("127.0.0.2",), ("localhost",)])
def test_another_name(names: tuple[str, ...]) -> None:
    with peer(greet, server_context(names), client_pem()) as running, pytest.raises(ssl.SSLCertVerificationError):
        dial(running.address)


@pytest.mark.parametrize("pem", [client_pem(), client_pem(signed_by=OTHER_CA)])
def test_a_client_certificate_that_is_missing_or_anothers(pem: ClientPem) -> None:
    with peer(greet, server_context(mutual=True), pem) as running:
        with pytest.raises(OSError) as failed:  # an alert at the first read, or a mere end
            dial(running.address)
        assert isinstance(failed.value, (ssl.SSLError, ConnectionError))


@pytest.mark.parametrize("host", ["localhost", "localhost.", "LOCALHOST", "127.0.0.1"])
def test_names_are_checked_as_people_write_them(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    look_up = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *given, **more: look_up("127.0.0.1", *given, **more))
    with peer(greet, server_context(), client_pem()) as running:
        dial(Address(host, running.address.port, client_pem()))


@pytest.mark.parametrize("pem", [
    ClientPem(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ClientPem(CA.cert_pem.bytes(), CA.cert_pem.bytes(), b"no key"),
])  # fmt: skip
def test_damaged_files(pem: ClientPem) -> None:
    with peer(greet, server_context()) as running, pytest.raises(ssl.SSLError):
        dial(Address("127.0.0.1", running.address.port, pem))


# Greetings


@pytest.mark.parametrize("cut", range(8))
def test_an_end_before_the_hello(cut: int) -> None:
    with (
        tls_peer(lambda link: (link.hear_hello(), link.say(pack_hello(Hello())[:cut]))) as running,
        pytest.raises(OSError),
    ):
        dial(running.address)


def test_a_server_that_takes_nobody() -> None:
    def script(link: Link) -> None:
        link.hear_hello()
        link.say(pack_ended(Ended(8, "max_connections")))

    with tls_peer(script) as running, pytest.raises(CarrierEnded, match="max_connections") as ended:
        dial(running.address)
    assert ended.value.end is End.OVERSIZE
    assert not isinstance(ended.value, NotDirect)


@pytest.mark.parametrize("hello", [framed(b"\xff" * 9), pack_hello(Hello(99, 99, "9.0\33"))])
def test_hellos_that_fit_nobody(hello: bytes) -> None:
    with tls_peer(lambda link: (link.hear_hello(), link.say(hello))) as running, pytest.raises(ProtocolError) as error:
        dial(running.address)
    assert "\33" not in str(error.value)


def test_nothing_stays_open_after_any_of_it() -> None:
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("nobody tells")
    with tls_peer(greet) as running:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            with pytest.raises(ssl.SSLCertVerificationError):
                dial(Address("127.0.0.1", running.address.port, client_pem(OTHER_CA)))
        deadline = time.monotonic() + WAIT_SECONDS
        while len(os.listdir("/proc/self/fd")) > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(os.listdir("/proc/self/fd")) <= before


def test_64_at_once_do_not_wait_for_one_another() -> None:
    arrived = threading.Barrier(64)

    def script(link: Link) -> None:
        link.hear_hello()
        arrived.wait(WAIT_SECONDS)  # nobody is greeted before all have come
        link.say(pack_hello(Hello()))
        link.wait_for_end()

    with tls_peer(script, mutual=True) as running:
        threads = [threading.Thread(target=dial, args=(running.address,)) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT_SECONDS)
    assert running.dials == 64
    assert not arrived.broken
