"""Certificates of any names, signed by the CA of a folder that `write_certificates` has written."""

from __future__ import annotations

import datetime
import hashlib
import ssl
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def common_name(text: str, kind: Any = None) -> x509.NameAttribute:
    """A common name, of any text; `kind` is one of cryptography's kinds of text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its length
        return x509.NameAttribute(NameOID.COMMON_NAME, text, *([kind] if kind else []), _validate=False)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def sign(ca: Path, names: Sequence[x509.NameAttribute] = (), others: Sequence[x509.GeneralName] = ()) -> Any:
    """Return a new certificate for a client, and its key."""
    issuer = x509.load_pem_x509_certificate((ca / "ca.pem").read_bytes())
    issuer_key: Any = serialization.load_pem_private_key((ca / "ca-key.pem").read_bytes(), None)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(x509.Name(names)).issuer_name(issuer.subject)
    builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    if others:
        builder = builder.add_extension(x509.SubjectAlternativeName(others), critical=False)
    return builder.sign(issuer_key, hashes.SHA256()), key


def sign_to(
    folder: Path, ca: Path, names: Sequence[x509.NameAttribute] = (), others: Sequence[x509.GeneralName] = ()
) -> tuple[Path, Path, Path]:
    """Write a new certificate; return what a client is given as its credentials."""
    certificate, key = sign(ca, names, others)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "client.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "client-key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ca / "ca.pem", folder / "client.pem", folder / "client-key.pem"


def fingerprint(certificate: Path) -> str:
    """Return the SHA-256 of a certificate's DER, as hexadecimal digits."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
