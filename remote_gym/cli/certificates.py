"""User's terminal: write a private CA and the certificates it signs, for `remote-gym certs`.

The files are those that cfssl makes of the `ssl` folder. `cryptography` is imported inside functions: only who makes
certificates needs it installed.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import secrets
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from remote_gym.distribution import install
from remote_gym.errors import MisuseError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ALWAYS_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Names and IPs that every server certificate holds, so that it also works on its own machine."""

_BACKDATE = datetime.timedelta(hours=1)  # so that a client whose clock is late finds the certificate valid already
MAX_DAYS = 36_500  # one century, well before the year 9999 at which X.509 dates end
CA_DAYS = 3_650  # so much longer than the first leaves does a CA live: it signs those that follow them
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)  # RFC 1123, and the underscore of container names


def write_certificates(
    directory: str | os.PathLike[str], hosts: Iterable[str] = (), *, days: int = 365, overwrite: bool = False
) -> list[Path]:
    """Write a new CA, and a server and a client certificate signed by it.

    The CA's key signs nothing else and can be deleted, unless `cfssl` or `openssl` should sign more with it.

    Args:
        directory: Where the files go; made if it does not exist.
        hosts: DNS names and IPs under which clients dial the server, without ports. `ALWAYS_HOSTS` and the machine's
            own host name are always added.
        days: How many days from now the server's and the client's certificates are valid. The CA lives `CA_DAYS`
            longer: it signs their successors, and no certificate outlives the one that signed it.
        overwrite: Replace files of an earlier call; clients then need the new ``ca.pem``.

    Returns:
        The paths of ``ca.pem, ca-key.pem, server.pem, server-key.pem, client.pem, client-key.pem``; keys are 0600.

    Raises:
        MisuseError: A host is empty, holds a port, or is neither a DNS name nor an IP that a client can dial.
        MisuseError: `days` is not an integer within 1..36500.
        MisuseError: One of the files exists and `overwrite` is False, or the files cannot be written.
        MisuseError: The package `cryptography` is not installed.
    """
    names = _server_names(hosts)
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= MAX_DAYS:
        raise MisuseError(f"days={days!r}: give an integer within 1..{MAX_DAYS}")
    folder = Path(directory)
    if not overwrite:
        _refuse_existing([folder / name for name in _file_names()])
    contents = _make_certificates(names, days)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(folder / name, contents[name], overwrite) for name in _file_names()]
    except OSError as error:
        raise MisuseError(f"cannot write certificates to {str(folder)!r}: {error}") from error


def _file_names() -> list[str]:
    return [f"{owner}{suffix}.pem" for owner in ("ca", "server", "client") for suffix in ("", "-key")]


def _refuse_existing(paths: Iterable[Path]) -> None:
    for path in paths:
        if os.path.lexists(path):
            raise MisuseError(f"{str(path)!r} exists; name another folder, or overwrite it on purpose (overwrite=True)")


def _write(path: Path, content: bytes, overwrite: bool) -> Path:
    """Write one file that nobody else can read at any moment if it is a key."""
    if overwrite:
        path.unlink(missing_ok=True)  # a file that is opened again would keep its old, perhaps wider, mode
    mode = 0o600 if path.stem.endswith("-key") else 0o644
    try:
        # O_EXCL: neither a file nor a link put here since the check is ever written through.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        _refuse_existing([path])
        raise
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    return path


def _server_names(hosts: Iterable[str]) -> list[str]:
    """Return the checked hosts, then those always added, each once."""
    if isinstance(hosts, (str, bytes)):
        raise MisuseError(f"hosts={hosts!r}: give a list of names and IPs, e.g. [{hosts!r}]")
    names = [_check_host(host) for host in hosts]
    with contextlib.suppress(MisuseError):  # a machine may have a host name that no certificate can hold
        names.append(_check_host(socket.gethostname()))
    return list(dict.fromkeys([*names, *ALWAYS_HOSTS]))


def _check_host(host: str) -> str:
    """Return a host as it goes into a certificate: a lower-case DNS name or the canonical text of an IP."""
    if not isinstance(host, str) or not host.strip():
        raise MisuseError(f"host {host!r} is empty or not text: give a DNS name or an IP, such as gpu-box.local")
    text = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return _check_name(host)
    if address.is_unspecified:
        raise MisuseError(f"host {host!r} is where a server listens; give the names and IPs that clients dial")
    if "%" in text:
        raise MisuseError(f"host {host!r}: a certificate holds no zone; give the address without '%...'")
    return str(address)


def _check_name(host: str) -> str:
    labels = host.rstrip(".").removeprefix("*.").split(".")
    mend = None
    if re.search(r"[/\[\]\s,]", host):
        mend = "give one name or IP at a time, without scheme, path or white space"
    elif ":" in host:
        mend = "leave the port away"
    elif not host.isascii():
        mend = "write the name in ASCII, as DNS has it (xn--...)"
    elif len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        mend = "give a DNS name such as gpu-box.local"
    elif labels[-1].isdigit():
        mend = "it looks like an IPv4 address, which has four numbers within 0..255"
    if mend is not None:
        raise MisuseError(f"host {host!r} is neither a DNS name nor an IP: {mend}")
    return host.rstrip(".").lower()


def _make_certificates(names: Sequence[str], days: int) -> dict[str, bytes]:
    """Return file name -> PEM bytes of a new CA, a server and a client."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import ExtendedKeyUsageOID
    except ImportError as error:
        raise MisuseError(f"making certificates needs the package cryptography: {install('server')}") from error

    ca_key, server_key, client_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    # The random part tells two CAs apart when a certificate turns out to be signed by the wrong one.
    ca_name = _name(f"remote-gym CA {secrets.token_hex(4)}")
    sign_server = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    sign_client = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])

    ca = _builder(ca_name, ca_name, ca_key, ca_key, days + CA_DAYS)
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    ca = ca.add_extension(_key_usage(signs_certificates=True), critical=True)
    server = _leaf(_name("remote-gym server"), ca_name, server_key, ca_key, days)
    server = server.add_extension(sign_server, critical=False)
    server = server.add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
    # The space keeps the common name from ever passing as a host name.
    client = _leaf(_name("remote-gym client"), ca_name, client_key, ca_key, days)
    client = client.add_extension(sign_client, critical=False)
    return {
        "ca.pem": _sign(ca, ca_key),
        "ca-key.pem": _key_pem(ca_key),
        "server.pem": _sign(server, ca_key),
        "server-key.pem": _key_pem(server_key),
        "client.pem": _sign(client, ca_key),
        "client-key.pem": _key_pem(client_key),
    }


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.CertificateBuilder:
    """Start a certificate with what all of them have (RFC 5280, 4.1 and 4.2.1.1-2)."""
    from cryptography import x509

    now = datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - _BACKDATE).not_valid_after(now + datetime.timedelta(days=days))
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(authority, critical=False)


def _leaf(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: int,
) -> x509.CertificateBuilder:
    """Start a certificate that signs handshakes and no other certificate."""
    from cryptography import x509

    builder = _builder(subject, issuer, key, issuer_key, days)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    return builder.add_extension(_key_usage(signs_certificates=False), critical=True)


def _key_usage(signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(host: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _sign(builder: x509.CertificateBuilder, issuer_key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import hashes, serialization

    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
