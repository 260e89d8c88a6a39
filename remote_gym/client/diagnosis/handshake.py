"""No I/O: what the first bytes of a server tell: an HTTP/2 greeting, or a TLS handshake that asks for a certificate."""

from __future__ import annotations

SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
"""An empty HTTP/2 SETTINGS frame (RFC 9113, 6.5). Its length is that of any frame's header."""
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SETTINGS
"""What a client sends first (RFC 9113, 3.4)."""

_HANDSHAKE_RECORD = 22
_CERTIFICATE_REQUEST, _SERVER_HELLO_DONE = 13, 14


def is_settings(answer: bytes | None) -> bool:
    """Tell whether `answer` is the header of an HTTP/2 SETTINGS frame: length a multiple of 6, type 4, stream 0."""
    if answer is None or len(answer) < len(SETTINGS):
        return False
    return int.from_bytes(answer[:3], "big") % 6 == 0 and answer[3] == 4 and answer[5:9] == bytes(4)


def asks_for_certificate(flight: bytes) -> bool | None:
    """Tell whether a TLS 1.2 server's first flight holds a CertificateRequest; None if it is not complete yet."""
    messages = b""
    while len(flight) >= 5 and len(flight) >= 5 + int.from_bytes(flight[3:5], "big"):
        size = int.from_bytes(flight[3:5], "big")
        if flight[0] != _HANDSHAKE_RECORD:  # but an alert
            return False
        messages += flight[5 : 5 + size]
        flight = flight[5 + size :]
    while len(messages) >= 4:
        if messages[0] in (_CERTIFICATE_REQUEST, _SERVER_HELLO_DONE):
            return messages[0] == _CERTIFICATE_REQUEST
        messages = messages[4 + int.from_bytes(messages[1:4], "big") :]
    return None
