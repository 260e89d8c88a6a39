"""The first bytes of a connection: cut anywhere, in any records, or garbage."""

from __future__ import annotations

import random
import ssl

import pytest

from remote_gym.server.carriers.client_hello import MAX_HELLO_BYTES, in_plaintext, over_tls
from remote_gym.wire.direct import ALPN, MAGIC


def client_hello(*protocols: str, name: str | None = None, newest: ssl.TLSVersion | None = None) -> bytes:
    """What OpenSSL says first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if newest is not None:
        context.maximum_version = newest
    if protocols:
        context.set_alpn_protocols(list(protocols))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_records(hello: bytes, size: int) -> bytes:
    """The same message in records of `size` bytes."""
    message = hello[5:]
    pieces = [message[i : i + size] for i in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


@pytest.mark.parametrize(
    ("protocols", "verdict"),
    [
        ((ALPN,), True),
        (("h2", ALPN), True),
        ((), False),
        (("h2",), False),
        (("h2", "http/1.1"), False),
        (("remote-gym/2",), False),
        (("remote-gym/", "remote-gym/11"), False),
    ],
)
def test_who_offers_the_protocol_is_direct(protocols: tuple[str, ...], verdict: bool) -> None:
    for hello in (
        client_hello(*protocols),
        client_hello(*protocols, name="host.example"),
        client_hello(*protocols, newest=ssl.TLSVersion.TLSv1_2),
    ):
        assert over_tls(hello) is verdict
        assert over_tls(hello + b"what follows") is verdict


@pytest.mark.parametrize("size", [40, 100, 1_000])
def test_nothing_is_said_before_the_message_is_whole(size: int) -> None:
    for protocol in (ALPN, "h2"):
        hello = in_records(client_hello(protocol), size)
        assert [over_tls(hello[:end]) for end in range(1, len(hello))] == [None] * (len(hello) - 1)
        assert over_tls(hello) is (protocol == ALPN)


def test_what_is_no_client_hello_is_told_by_its_first_wrong_byte() -> None:
    hello = client_hello(ALPN)
    for garbage in (b"PRI * HTTP/2.0", b"\x15", b"\x16\x02", b"\x16\x03\x01\x00\x00", b"\x80\x2e\x01"):
        assert over_tls(garbage) is False
    assert over_tls(hello[:5] + b"\x02") is False  # another message
    assert over_tls(hello[:5] + b"\x01\xff\xff\xff") is False  # longer than any
    assert over_tls(in_records(b"12345" + b"\x01\x00\x3f\x00" + bytes(20_000), 2_000)[:MAX_HELLO_BYTES]) is False
    assert over_tls(in_records(hello, 1)) is False  # in more records than anybody would use


def test_no_damage_raises_and_none_waits_for_ever() -> None:
    hello = client_hello("h2", ALPN, name="host.example")
    chosen = random.Random(14)
    for _ in range(3_000):
        damaged = bytearray(hello)
        for _ in range(chosen.randrange(1, 5)):
            damaged[chosen.randrange(len(damaged))] = chosen.randrange(256)
        if over_tls(bytes(damaged)) is None:
            # It says that it is longer.
            assert over_tls(bytes(damaged) + bytes(MAX_HELLO_BYTES)) is not None
    for end in range(len(hello) - 9):
        # Whole, by its length, and yet cut.
        cut = b"\x01" + end.to_bytes(3, "big") + hello[9 : 9 + end]
        assert over_tls(b"\x16\x03\x01" + len(cut).to_bytes(2, "big") + cut) in (True, False)


def test_without_tls_the_magic_decides() -> None:
    assert [in_plaintext(MAGIC[:end]) for end in range(1, len(MAGIC))] == [None] * (len(MAGIC) - 1)
    assert in_plaintext(MAGIC) is True
    assert in_plaintext(MAGIC + b"\x04\x00\x00\x00") is True
    for other in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"remote-gym/2\n", b"GET /", b"\x16\x03\x01"):
        assert in_plaintext(other) is False
