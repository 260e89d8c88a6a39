from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from remote_gym.cli.certificates import write_certificates
from remote_gym.validity import Validity, validities

UTC = datetime.timezone.utc


def certificate(begins: datetime.datetime, ends: datetime.datetime, long_name: str = "x", key_bits: int = 0) -> bytes:
    key = rsa.generate_private_key(65537, key_bits) if key_bits else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.ORGANIZATION_NAME, long_name)])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begins).not_valid_after(ends)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("key_bits", [0, 2048])
@pytest.mark.parametrize("long_name", ["x", "y" * 60])
@pytest.mark.parametrize("years", [(1951, 1999), (2000, 2049), (2025, 2050), (2049, 2125), (2050, 9999)])
def test_dates_are_those_of_the_certificate(years: tuple[int, int], long_name: str, key_bits: int) -> None:
    first, last = (datetime.datetime(year, 12, 31, 23, 59, 58, tzinfo=UTC) for year in years)
    assert validities(certificate(first, last, long_name, key_bits)) == [Validity(first, last)]


def test_every_certificate_of_a_file_counts(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    pem = [(tmp_path / name).read_bytes() for name in ("server.pem", "ca.pem", "client.pem")]
    read = [x509.load_pem_x509_certificate(one) for one in pem]
    expected = [Validity(one.not_valid_before_utc, one.not_valid_after_utc) for one in read]
    assert validities(b"a remark\n".join(pem)) == expected


def test_what_is_no_certificate_has_no_dates(tmp_path: Path) -> None:
    write_certificates(tmp_path)
    whole = (tmp_path / "server.pem").read_bytes()
    assert validities((tmp_path / "server-key.pem").read_bytes()) == []
    assert validities(b"") == []
    assert validities(whole[: len(whole) // 2]) == []
    broken = b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    assert len(validities(broken + whole)) == 1
