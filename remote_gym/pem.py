"""No I/O: what the bytes of a file that should be PEM look like, and how PEM's readers take them."""

from __future__ import annotations

import codecs
import re

_PEM_LABEL = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----")
CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
KEY_LABELS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"})


def plain(data: bytes) -> bytes:
    """Return PEM as its readers take it: editors and shells put a byte order mark before it, or CRs into it."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        data = data.decode("utf-16", "replace").encode()
    # Also in the middle: a chain may be several files, one after the other.
    return data.replace(codecs.BOM_UTF8, b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def kinds(data: bytes) -> frozenset[str]:
    """Return what the blocks of `data` are, by their labels."""
    return frozenset(label.decode("ascii") for label in _PEM_LABEL.findall(data))


def looks(data: bytes) -> str:
    """Say what a file that is not what its place asks for looks like."""
    found = kinds(data)
    if found & (KEY_LABELS | {"ENCRYPTED PRIVATE KEY"}):
        return "it looks like a private key"
    if found & CERTIFICATE_LABELS:
        return "it looks like a certificate"
    if any("REQUEST" in kind for kind in found):
        return "it looks like a certificate request (.csr), which a CA has yet to sign"
    if found:
        return f"it holds only {', '.join(sorted(found))}"
    if data[:1] == b"\x30":
        return "it looks like DER, which `openssl x509 -inform der -in FILE -out FILE.pem` turns into PEM"
    return "it is empty" if not data.strip() else "it is not a PEM file"
