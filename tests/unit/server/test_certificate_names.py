"""Whom a certificate names, whatever kind of text the name is, and that damaged ones are refused."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.name import _ASN1Type as Kind
from hypothesis import given
from hypothesis import strategies as st
from signing import common_name, sign, uri

from remote_gym.server.certificate_names import certificate_name

ORGANISATION = x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Lab")


def der(folder: Path, *args: Any) -> bytes:
    certificate, _ = sign(folder, *args)
    return bytes(certificate.public_bytes(Encoding.DER))


@pytest.mark.parametrize(
    ("names", "others", "named"),
    [
        ([common_name("alice")], [], "alice"),
        ([ORGANISATION, common_name("alice"), common_name("bob")], [uri("spiffe://lab/x")], "alice"),
        ([common_name("zoë 中")], [], "zoë 中"),
        ([common_name("zoe", Kind.PrintableString)], [], "zoe"),
        ([common_name("zoë", Kind.BMPString)], [], "zoë"),
        ([common_name("zoë", Kind.UniversalString)], [], "zoë"),
        ([common_name("alice\0.example")], [], "alice\0.example"),  # what gRPC says of it is alice
        ([ORGANISATION], [x509.DNSName("x.lab"), uri("spiffe://lab/x"), uri("spiffe://lab/y")], "spiffe://lab/x"),
        ([common_name("")], [uri("spiffe://lab/x")], "spiffe://lab/x"),
        ([ORGANISATION], [x509.DNSName("x.lab"), x509.RFC822Name("x@lab.example")], None),
        ([], [], None),
        ([common_name("long" * 50)], [], "long" * 50),
    ],
)
def test_the_name(certificates: Certificates, names: Any, others: Any, named: str | None) -> None:
    assert certificate_name(der(certificates.directory, names, others)) == named


def test_the_name_of_what_the_command_writes(certificates: Certificates) -> None:
    pem = (certificates.directory / "client.pem").read_text()
    assert certificate_name(ssl.PEM_cert_to_DER_cert(pem)) == "remote-gym client"


@pytest.fixture(scope="module")
def whole(certificates: Certificates) -> bytes:
    return der(certificates.directory, [common_name("alice")], [uri("spiffe://lab/x")])


@given(share=st.floats(0, 1), changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3))
def test_what_is_damaged_is_read_or_refused(whole: bytes, share: float, changes: list[tuple[float, int]]) -> None:
    damaged = bytearray(whole[: round(share * len(whole))])
    for at, byte in changes:
        if damaged:
            damaged[int(at * (len(damaged) - 1))] = byte
    with contextlib.suppress(ValueError):
        assert isinstance(certificate_name(bytes(damaged)), (str, type(None)))
