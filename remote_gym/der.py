"""No I/O: certificates as DER (X.690), as far as their names and dates need it, without a library for certificates.

`ssl` tells these of a peer's certificate alone and gRPC tells them cut short, while `cryptography` is in an extra. What
comes here was parsed by OpenSSL before; whatever else it is ends in ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator

Element = tuple[int, bytes]
"""Tag and content."""

SEQUENCE = 0x30

_VERSION = 0xA0


def elements(data: bytes) -> Iterator[Element]:
    """Yield the elements of `data`, one after the other.

    Raises:
        ValueError: It ends in the middle of one.
    """
    at = 0
    while at < len(data):
        try:
            tag, size = data[at], data[at + 1]
        except IndexError:
            raise ValueError("it ends too early") from None
        at += 2
        if size & 0x80:  # the next bytes say it
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        if at + size > len(data):
            raise ValueError("it ends too early")
        yield tag, data[at : at + size]
        at += size


def certificate_fields(certificate: bytes) -> list[Element]:
    """Return the fields of a certificate's signed part, but for the version, which may be missing (RFC 5280, 4.1).

    Raises:
        ValueError: It has none.
    """
    signed = _first(_first(certificate))
    return [element for element in elements(signed) if element[0] != _VERSION]


def _first(data: bytes) -> bytes:
    for _, content in elements(data):
        return content
    raise ValueError("it ends too early")


SERIAL_NUMBER, SIGNATURE, ISSUER, VALIDITY, SUBJECT = range(5)
"""Places in `certificate_fields`."""
