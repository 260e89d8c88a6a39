"""User's terminal: write a certificate for one more client, signed by a CA that is there already."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path
from typing import Any

from remote_gym.cli.certificates import (
    MAX_DAYS,
    _key_pem,
    _leaf,
    _name,
    _refuse_existing,
    _sign,
    _write,
)
from remote_gym.distribution import install
from remote_gym.errors import MisuseError
from remote_gym.server.principals import unfit

MAX_CHARACTERS = 64
"""Of a common name (RFC 5280, A.1: ub-common-name)."""

_TAKEN = re.compile(r"(ca|server|.*-key)", re.IGNORECASE)
"""What files of certificates are called that are no client's."""


def write_client_certificate(
    name: str,
    ca: str | os.PathLike[str],
    directory: str | os.PathLike[str] | None = None,
    *,
    days: int = 365,
    overwrite: bool = False,
) -> list[Path]:
    """Write a certificate for the client `name`, and its key.

    Args:
        name: Who it is to a server: the common name.
        ca: The folder of ``ca.pem`` and ``ca-key.pem``.
        directory: Where the files go; None: `ca`.
        days: How many days from now it is valid; it ends with the CA at the latest.
        overwrite: Replace files of an earlier call: a renewed certificate is the same client.

    Returns:
        The paths of ``NAME.pem`` and ``NAME-key.pem``, which is 0600.

    Raises:
        MisuseError: The name cannot be a client's; says why.
        MisuseError: `days` is not an integer within 1..36500.
        MisuseError: The CA's files cannot be read, do not belong together, or it has expired.
        MisuseError: One of the files exists and `overwrite` is False, or the files cannot be written.
        MisuseError: The package `cryptography` is not installed.
    """
    stem = _stem(name)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
        raise MisuseError(f"days={days!r}: give an integer within 1..{MAX_DAYS}")
    folder = Path(ca if directory is None else directory)
    paths = folder / f"{stem}.pem", folder / f"{stem}-key.pem"
    if not overwrite:
        _refuse_existing(paths)
    certificate, key = _make(name, *_read_ca(Path(ca)), days)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(path, content, overwrite) for path, content in zip(paths, (certificate, key), strict=True)]
    except OSError as error:
        raise MisuseError(f"cannot write certificates to {str(folder)!r}: {error}") from error


def _stem(name: str) -> str:
    """Return what a client's files are called."""
    wrong = unfit(name)
    if wrong is None and len(name) > MAX_CHARACTERS:
        wrong = f"a common name has at most {MAX_CHARACTERS} characters"
    if wrong is not None:
        raise MisuseError(f"client {name!r}: {wrong}")
    stem = re.sub(r"[^\w.@+-]", "_", name).lstrip(".") or "_"
    if _TAKEN.fullmatch(stem):
        raise MisuseError(f"client {name!r}: {stem}.pem is what another file is called; give another name")
    return stem


def _read_ca(folder: Path) -> tuple[Any, Any]:
    """Return the certificate of the CA in `folder`, and its key."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise MisuseError(f"making certificates needs the package cryptography: {install('server')}") from error

    there = []
    for file in ("ca.pem", "ca-key.pem"):
        try:
            there.append((folder / file).read_bytes())
        except OSError as error:
            raise MisuseError(
                f"ca={str(folder)!r}: {file} cannot be read ({error.strerror}): give the folder that `remote-gym "
                f"certs` has written, with the key of its CA"
            ) from None
    try:
        certificate = x509.load_pem_x509_certificate(there[0])
        key: Any = serialization.load_pem_private_key(there[1], None)
    except (ValueError, TypeError) as error:
        raise MisuseError(f"ca={str(folder)!r}: the CA's certificate or key cannot be read: {error}") from error
    if certificate.public_key() != key.public_key():
        raise MisuseError(f"ca={str(folder)!r}: ca-key.pem is not the key of ca.pem")
    return certificate, key


def _make(name: str, ca: Any, ca_key: Any, days: int) -> tuple[bytes, bytes]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = datetime.datetime.now(datetime.timezone.utc)
    left = (ca.not_valid_after_utc - now).total_seconds() / 86_400
    if left < 1:
        raise MisuseError("the CA has expired, or will within a day: make a new one with `remote-gym certs`")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _leaf(_name(name), ca.subject, key, ca_key, min(days, int(left)))
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    return _sign(builder, ca_key), _key_pem(key)
