"""No I/O: the first bytes of a connection -> whether its client wants the direct carrier.

A client asks for it in the TLS handshake, whose first message names the protocols it offers (ALPN: RFC 7301; the
message: RFC 8446, 4.1.2), or, where there is no TLS, by the first bytes themselves. Bytes are looked at, never trusted:
what is no such thing, in whatever way, is for gRPC.
"""

from __future__ import annotations

from collections.abc import Callable

from remote_gym.wire.direct import ALPN, MAGIC

MAX_HELLO_BYTES = 16_384
"""Of a ClientHello with all its records: a usual one has some 500 bytes, one with post-quantum keys 1,800."""

MAX_RECORDS = 16
"""In which it comes: a usual one has one. Each costs a little time whenever it is looked at."""

Verdict = bool | None
"""Whether this is a direct connection's beginning; None: more bytes must tell."""

Judge = Callable[[bytes], Verdict]

_CLIENT_HELLO, _ALPN_EXTENSION = 1, 16
_RECORD_HEADER_BYTES, _MESSAGE_HEADER_BYTES = 5, 4
_FIXED_BYTES = 2 + 32  # version and random


def in_plaintext(data: bytes) -> Verdict:
    """Judge by the magic."""
    if data.startswith(MAGIC):
        return True
    return None if MAGIC.startswith(data) else False


def over_tls(data: bytes) -> Verdict:
    """Judge by the protocols that a ClientHello offers."""
    message = _message(data)
    if message is None:
        return None
    try:
        return ALPN.encode() in _offered(message)
    except _MalformedError:
        return False


def _message(data: bytes) -> bytes | None:
    """Join the records' parts of the first message; b"" if it is no ClientHello, None if it has not come whole."""
    joined, place = bytearray(), 0
    for _ in range(MAX_RECORDS):
        header = data[place : place + _RECORD_HEADER_BYTES]
        if header[:1] not in (b"", b"\x16") or header[1:2] not in (b"", b"\x03"):
            return b""
        if joined and joined[0] != _CLIENT_HELLO:
            return b""
        if len(header) < _RECORD_HEADER_BYTES:
            return None if len(data) < MAX_HELLO_BYTES else b""
        length = int.from_bytes(header[3:], "big")
        if not length:  # 5.1: not allowed in a handshake
            return b""
        place += _RECORD_HEADER_BYTES
        joined += data[place : place + length]
        place += length
        if len(joined) >= _MESSAGE_HEADER_BYTES:
            whole = _MESSAGE_HEADER_BYTES + int.from_bytes(joined[1:4], "big")
            if joined[0] != _CLIENT_HELLO or whole > MAX_HELLO_BYTES:
                return b""
            if len(joined) >= whole:
                return bytes(joined[_MESSAGE_HEADER_BYTES:whole])
    return b""


class _MalformedError(Exception):
    """This is no ClientHello."""


class _Reader:
    """Takes fields off the front of bytes; raises `_MalformedError` where they end too early."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._place = 0

    def __bool__(self) -> bool:
        return self._place < len(self.data)

    def take(self, count: int) -> bytes:
        end = self._place + count
        if end > len(self.data):
            raise _MalformedError
        taken, self._place = self.data[self._place : end], end
        return taken

    def number(self, num_bytes: int) -> int:
        return int.from_bytes(self.take(num_bytes), "big")

    def vector(self, num_bytes: int) -> _Reader:
        """Take a length of so many bytes, and what it is the length of."""
        return _Reader(self.take(self.number(num_bytes)))


def _offered(message: bytes) -> list[bytes]:
    """Return the protocols that a ClientHello offers.

    Raises:
        _MalformedError: It is none.
    """
    fields = _Reader(message)
    fields.take(_FIXED_BYTES)
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    extensions = fields.vector(2) if fields else fields  # TLS 1.2 may have none
    while extensions:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _ALPN_EXTENSION:
            names, offered = content.vector(2), []
            while names:
                offered.append(names.vector(1).data)
            return offered
    return []
