"""The elements of certificates, and data that is none."""

from __future__ import annotations

import ssl

import pytest
from conftest import Certificates

from remote_gym.der import ISSUER, SEQUENCE, SUBJECT, VALIDITY, certificate_fields, elements


def test_lengths_are_short_and_long() -> None:
    long = b"x" * 300
    assert list(elements(b"\x04\x01a\x05\x00\x04\x82\x01\x2c" + long)) == [(4, b"a"), (5, b""), (4, long)]
    assert list(elements(b"")) == []


@pytest.mark.parametrize("data", [b"\x04", b"\x04\x02a", b"\x04\x82\x01", b"\x04\x84\xff\xff\xff\xff", b"\x05\x00\x04"])
def test_what_ends_in_the_middle_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="too early"):
        list(elements(data))


def test_the_fields_of_a_certificate(certificates: Certificates) -> None:
    fields = certificate_fields(ssl.PEM_cert_to_DER_cert((certificates.directory / "ca.pem").read_text()))
    assert fields[ISSUER] == fields[SUBJECT]  # it has signed itself
    assert fields[VALIDITY][0] == SEQUENCE and len(list(elements(fields[VALIDITY][1]))) == 2


@pytest.mark.parametrize("data", [b"", b"\x30\x00", b"\x30\x03\x30\x05x"])
def test_what_is_no_certificate_has_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="too early"):
        certificate_fields(data)
