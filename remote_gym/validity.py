"""No I/O: from when until when the certificates of a PEM file are valid (RFC 5280, 4.1.2.5)."""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from typing import NamedTuple

from remote_gym.der import SEQUENCE, VALIDITY, certificate_fields, elements

_CERTIFICATE = re.compile(rb"-----BEGIN (?:X509 )?CERTIFICATE-----(.*?)-----END (?:X509 )?CERTIFICATE-----", re.DOTALL)

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
    tag, content = certificate_fields(der)[VALIDITY]
    if tag != SEQUENCE:
        raise ValueError("no validity where it should be")
    begins, ends = elements(content)
    return Validity(_time(*begins), _time(*ends))


def _time(tag: int, content: bytes) -> datetime.datetime:
    text = content.decode("ascii")
    if tag == _UTC_TIME:  # RFC 5280, 4.1.2.5.1: from 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
