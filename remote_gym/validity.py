"""No I/O: from when until when the certificates of a PEM file are valid, without a library for certificates.

`ssl` tells the dates of a peer's certificate alone, and `cryptography` is in an extra. Dates stand at a fixed place of
a certificate (RFC 5280, 4.1), and only the way to that place is read here, from data that OpenSSL has parsed before.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from typing import NamedTuple

_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)

_SEQUENCE, _VERSION = 0x30, 0xA0
_UTC_TIME = 0x17  # with two digits for the year; anything else is a GeneralizedTime, with four


class Validity(NamedTuple):
    """When a certificate is valid, both ends included, in UTC."""

    begins: datetime.datetime
    ends: datetime.datetime


def validities(pem: bytes) -> list[Validity]:
    """Return when each certificate in `pem` is valid, in their order; one that cannot be read is left out."""
    found = []
    for encoded in _CERTIFICATE.findall(pem):
        try:
            found.append(_validity(base64.b64decode(encoded)))
        except (binascii.Error, ValueError, IndexError):
            continue
    return found


def _validity(der: bytes) -> Validity:
    """Read Certificate -> tbsCertificate -> [version], serialNumber, signature, issuer, validity."""
    _, certificate, _ = _element(der)
    _, fields, _ = _element(certificate)
    tag, _, after_version = _element(fields)
    rest = after_version if tag == _VERSION else fields
    for _ in ("serialNumber", "signature", "issuer"):
        _, _, rest = _element(rest)
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("no validity where it should be")
    begins_tag, begins, rest = _element(validity)
    ends_tag, ends, _ = _element(rest)
    return Validity(_time(begins_tag, begins), _time(ends_tag, ends))


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Return tag and content of the first element, and what follows it."""
    length, begin = der[1], 2
    if length & 0x80:
        begin += length & 0x7F
        length = int.from_bytes(der[2:begin], "big")
    if len(der) < begin + length:
        raise ValueError("it ends in the middle")
    return der[0], der[begin : begin + length], der[begin + length :]


def _time(tag: int, content: bytes) -> datetime.datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280, 4.1.2.5.1: from 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
