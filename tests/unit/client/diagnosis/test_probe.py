"""Connections by hand: what a server shows, over pairs of sockets in place of a network."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from remote_gym.client.diagnosis import probe as module
from remote_gym.client.diagnosis.handshake import PREFACE, SETTINGS
from remote_gym.client.diagnosis.probe import Probe, load_client_certificate, tls_context
from remote_gym.credentials import ClientPem

CA, OTHER_CA = trustme.CA(), trustme.CA()
Handle = Callable[[socket.socket], object]


@pytest.fixture
def dialling(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Probe]]:
    """Make a probe whose every connection leads to `handle`, in a thread; None: to nobody who would answer."""
    ends: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def make(handle: Handle | None, timeout_seconds: float = 10.0) -> Probe:
        def serve(end: socket.socket) -> None:
            assert handle is not None
            with end, contextlib.suppress(OSError):
                handle(end)

        def dial(share: float = 1.0) -> socket.socket:
            ours, theirs = socket.socketpair()
            ends.append(theirs)
            ours.settimeout(probe._left_seconds(share))
            if handle is not None:
                threads.append(threading.Thread(target=serve, args=(theirs,)))
                threads[-1].start()
            return ours

        probe = Probe("localhost", 1, timeout_seconds)
        monkeypatch.setattr(probe, "dial", dial)
        return probe

    yield make
    for thread in threads:
        thread.join(10.0)
    for end in ends:
        end.close()


def says(*data: bytes) -> Handle:
    """Read the greeting, and answer in pieces."""

    def handle(end: socket.socket) -> None:
        assert end.recv(len(PREFACE)) == PREFACE
        for piece in data:
            end.sendall(piece)

    return handle


def speaks_tls(*, mutual: bool = False, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> Handle:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(context)
    context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)

    def handle(end: socket.socket) -> None:
        with context.wrap_socket(end, server_side=True) as tls:
            tls.recv(1)  # until the client goes

    return handle


# Where to


def test_a_host_has_each_endpoint_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, port: int, type: int) -> list[Any]:
        assert (host, port, type) == ("gpu-box", 5, socket.SOCK_STREAM)
        one = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 5))
        return [one, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 5, 0, 0)), one]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    probe = Probe("gpu-box", 5, 10.0)
    assert probe.look_up() == [(socket.AF_INET, ("10.0.0.7", 5)), (socket.AF_INET6, ("::1", 5, 0, 0))]
    assert probe.address == "gpu-box:5"


@pytest.mark.parametrize(
    "error", [socket.gaierror(-2, "unknown"), UnicodeError("label too long"), OverflowError("port")]
)
def test_a_host_that_has_none(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(type(error)) as raised:
        Probe("gpu-box", 5, 10.0).look_up()
    assert raised.value is error


def test_a_look_up_that_hangs_is_left_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(10.0))
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        Probe("gpu-box", 5, 0.01).look_up()
    release.set()


def test_a_unix_socket_is_looked_up_nowhere_and_dialled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a path may be no longer than some hundred bytes
    probe = Probe("unix:s", 0, 10.0)
    ((family, path),) = probe.look_up()
    assert (family, path) == (socket.AF_UNIX, "s")
    probe.endpoint = family, path
    with pytest.raises(FileNotFoundError):
        probe.dial()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        with probe.dial(0.5) as connection:
            timeout = connection.gettimeout()
            assert timeout is not None and 0 < timeout <= 5.0


def test_when_the_time_is_up_a_wait_is_short_but_neither_none_nor_for_ever() -> None:
    assert Probe("localhost", 1, -5.0)._left_seconds() == module._SHORTEST_WAIT_SECONDS
    assert 0 < Probe("localhost", 1, 10.0)._left_seconds(0.25) <= 2.5


# What it says in plaintext


@pytest.mark.parametrize(
    "pieces, answer",
    [
        ([SETTINGS], SETTINGS),
        ([SETTINGS[:4], SETTINGS[4:]], SETTINGS),
        ([SETTINGS + b"and more"], SETTINGS),
        ([b"SSH"], b"SSH"),
        ([], b""),
    ],
)
def test_how_a_plaintext_answer_begins(dialling: Any, pieces: list[bytes], answer: bytes) -> None:
    assert dialling(says(*pieces)).plaintext_answer() == answer


def test_who_keeps_silent(dialling: Any) -> None:
    began = time.monotonic()
    assert dialling(None, 0.05).plaintext_answer() is None
    assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("error, answer", [(TimeoutError(), None), (ConnectionRefusedError(), b"")])
def test_who_is_not_there_any_more(monkeypatch: pytest.MonkeyPatch, error: Exception, answer: bytes | None) -> None:
    def fail(_share: float = 1.0) -> socket.socket:
        raise error

    probe = Probe("localhost", 1, 10.0)
    monkeypatch.setattr(probe, "dial", fail)
    assert probe.plaintext_answer() == answer
    assert probe.answers_tls() is False and probe.unverified_certificate() == {}
    assert probe.asks_for_client_certificate() is False


# What it shows of TLS


def alert(end: socket.socket) -> None:
    end.recv(65536)
    end.sendall(b"\x15\x03\x03\x00\x02\x02\x28")  # handshake failure


@pytest.mark.parametrize(
    "handle, answers",
    [
        (speaks_tls(), True),
        (speaks_tls(version=ssl.TLSVersion.TLSv1_2), True),
        (speaks_tls(mutual=True), True),
        (alert, True),
        (lambda end: end.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), False),
        (lambda end: None, False),
    ],
)
def test_who_answers_with_tls_were_it_an_alert(dialling: Any, handle: Handle, answers: bool) -> None:
    assert dialling(handle).answers_tls() is answers


def test_a_handshake_closes_what_it_opened(dialling: Any) -> None:
    probe = dialling(speaks_tls())
    with probe.handshake(tls_context(CA.cert_pem.bytes().decode())) as tls:
        assert tls.selected_alpn_protocol() == "h2" and tls.getpeercert()
    assert tls.fileno() == -1
    with pytest.raises(ssl.SSLCertVerificationError), probe.handshake(tls_context(OTHER_CA.cert_pem.bytes().decode())):
        pass


def test_a_certificate_that_does_not_verify_is_read_all_the_same(dialling: Any) -> None:
    certificate = dialling(speaks_tls()).unverified_certificate()
    assert ("DNS", "localhost") in certificate["subjectAltName"]


@pytest.mark.parametrize("handle", [alert, lambda end: None])
def test_no_certificate_is_to_be_had(dialling: Any, handle: Handle) -> None:
    assert dialling(handle).unverified_certificate() == {}


@pytest.mark.parametrize(
    "handle, asks",
    [
        (speaks_tls(mutual=True), True),
        (speaks_tls(mutual=False), False),
        (speaks_tls(mutual=True, version=ssl.TLSVersion.TLSv1_2), True),
        (alert, False),
        (lambda end: end.recv(65536), False),
    ],
)
def test_who_asks_for_a_client_certificate(dialling: Any, handle: Handle, asks: bool) -> None:
    assert dialling(handle).asks_for_client_certificate() is asks


def test_who_never_ends_its_first_flight_is_not_waited_for(dialling: Any) -> None:
    """Records without end, none of which holds a message."""

    def endless(end: socket.socket) -> None:
        while True:
            end.sendall(b"\x16\x03\x03\x00\x00")

    began = time.monotonic()
    assert dialling(endless, 0.05).asks_for_client_certificate() is False
    assert time.monotonic() - began < 5.0


# Contexts


def test_nothing_is_trusted_that_was_not_given() -> None:
    assert tls_context().verify_mode is ssl.CERT_NONE
    context = tls_context(CA.cert_pem.bytes().decode())
    assert context.verify_mode is ssl.CERT_REQUIRED and len(context.get_ca_certs()) == 1
    assert not context.check_hostname, "`certificate_names` does that, in gRPC's way"
    with pytest.raises(ssl.SSLError):
        tls_context("nonsense")


def test_a_client_certificate_is_loaded_if_there_is_one() -> None:
    leaf = CA.issue_cert("client@example.org")
    certificate, key = leaf.cert_chain_pems[0].bytes(), leaf.private_key_pem.bytes()
    load_client_certificate(tls_context(), ClientPem(b"root"))
    load_client_certificate(tls_context(), ClientPem(b"root", certificate, key))
    other = OTHER_CA.issue_cert("client@example.org").private_key_pem.bytes()
    for pem in (ClientPem(b"root", b"nonsense", key), ClientPem(b"root", certificate, other)):
        with pytest.raises(ssl.SSLError):
            load_client_certificate(tls_context(), pem)
