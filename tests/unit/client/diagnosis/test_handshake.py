"""What the first bytes of a server tell."""

from __future__ import annotations

import contextlib
import ssl

import pytest
import trustme

from remote_gym.client.diagnosis.handshake import SETTINGS, asks_for_certificate, is_settings

CA = trustme.CA()


@pytest.mark.parametrize(
    "answer, expected",
    [
        (SETTINGS, True),
        (SETTINGS + b"more", True),
        (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", True),  # three settings of 6 bytes
        (b"\x00\x00\x05\x04\x00\x00\x00\x00\x00", False),  # a length that is none of settings
        (b"\x00\x00\x00\x06\x00\x00\x00\x00\x00", False),  # a PING
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x01", False),  # of a stream
        (SETTINGS[:8], False),
        (b"HTTP/1.1 400 Bad Request", False),
        (b"\x15\x03\x03\x00\x02\x02\x28\x00\x00", False),  # a TLS alert
        (b"", False),
        (None, False),
    ],
)
def test_a_greeting_of_http2(answer: bytes | None, expected: bool) -> None:
    assert is_settings(answer) is expected


def first_flight(mutual: bool) -> bytes:
    """What a TLS 1.2 server answers to a greeting."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CA.issue_cert("localhost").configure_cert(context)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
        CA.configure_trust(context)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    hello, flight, nothing = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
    for one in (ours.wrap_bio(nothing, hello), context.wrap_bio(hello, flight, server_side=True)):
        with contextlib.suppress(ssl.SSLWantReadError):
            one.do_handshake()
    return flight.read()


@pytest.mark.parametrize("mutual", [True, False])
def test_a_real_server_asks_or_not_and_until_then_nothing_is_known(mutual: bool) -> None:
    flight = first_flight(mutual)
    assert asks_for_certificate(flight) is mutual
    known = [asks_for_certificate(flight[:size]) for size in range(len(flight))]
    seen = known.index(mutual) if mutual in known else len(flight)
    assert known[:seen] == [None] * seen and set(known[seen:]) <= {mutual}


def record(content: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 3]) + len(content).to_bytes(2, "big") + content


def message(kind: int, content: bytes = b"") -> bytes:
    return bytes([kind]) + len(content).to_bytes(3, "big") + content


HELLO, CERTIFICATE, ASKS, DONE = message(2, b"h" * 70), message(11, b"c" * 900), message(13, b"r" * 20), message(14)


@pytest.mark.parametrize(
    "flight, expected",
    [
        (record(HELLO + CERTIFICATE + ASKS + DONE), True),
        (record(HELLO) + record(CERTIFICATE) + record(DONE), False),
        (record((HELLO + CERTIFICATE + ASKS)[:500]) + record((HELLO + CERTIFICATE + ASKS)[500:]), True),
        (record(HELLO + CERTIFICATE), None),
        (record(HELLO) + record(CERTIFICATE + DONE)[:-1], None),
        (record(b"\x02\x28", kind=21), False),  # an alert
        (record(HELLO) + record(b"\x02\x28", kind=21), False),
        (b"", None),
        (b"\x16\x03", None),
    ],
)
def test_messages_lie_in_records_as_they_like(flight: bytes, expected: bool | None) -> None:
    assert asks_for_certificate(flight) is expected
