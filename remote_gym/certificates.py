"""Both sides, no I/O: an authority of one's own and the certificates it signs, in memory.

For programs that start servers themselves, on machines whose names nobody knows beforehand: one authority for a fleet,
a certificate for each server and each client, all of them bytes that are handed on as they are::

    authority = Authority.new()
    server = authority.server(["node-1"])
    client = authority.client("trainer")
    create_remote_environment_server({...}, server_credentials_paths=server.server_credentials(clients=authority))
    RemoteVectorEnv(address, client_credentials_paths=client.client_credentials(servers=authority), tls_name="node-1")

`remote-gym certs` writes the same into files. `cryptography` is imported inside functions: only who makes certificates
needs it installed (the extra ``server``).
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remote_gym.distribution import install
from remote_gym.errors import MisuseError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

ALWAYS_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Names and IPs that every server certificate holds, so that it also works on its own machine."""

DAYS = 365
"""How long a certificate is valid, unless told otherwise."""

MAX_DAYS = 36_500
"""One century, well before the year 9999 at which X.509 dates end."""

CA_DAYS = 3_650
"""So much longer than the first certificates does an authority live: it signs those that follow them."""

MAX_NAME_CHARACTERS = 64
"""Of a common name (RFC 5280, A.1: ub-common-name)."""

_BACKDATE = datetime.timedelta(hours=1)  # so that a client whose clock is late finds the certificate valid already
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)  # RFC 1123, and the underscore of container names


@dataclass(frozen=True)
class Leaf:
    """A certificate that signs handshakes and no other certificate, and its key.

    Attributes:
        certificate: PEM.
        private_key: PEM, without a password. Never part of the repr; part of a pickle, as is the certificate.
    """

    certificate: bytes
    private_key: bytes = field(repr=False)

    def server_credentials(self, clients: Authority | None = None) -> tuple[bytes, ...]:
        """Return what `create_remote_environment_server` takes as `server_credentials_paths`.

        Args:
            clients: Who signs the certificates that clients must show; None: clients need none.
        """
        return (self.certificate, self.private_key, *([clients.certificate] if clients is not None else []))

    def client_credentials(self, servers: Authority) -> tuple[bytes, ...]:
        """Return what the clients take as `client_credentials_paths`; `servers` signs the servers' certificates."""
        return servers.certificate, self.certificate, self.private_key


@dataclass(frozen=True)
class Authority:
    """Whoever it signs is trusted by whoever trusts it. Equal ones sign for each other.

    Attributes:
        certificate: PEM, for everybody.
        private_key: PEM, without a password, for nobody else. Never part of the repr; part of a pickle.
    """

    certificate: bytes
    private_key: bytes = field(repr=False)

    @classmethod
    def new(cls, *, days: int = DAYS + CA_DAYS) -> Authority:
        """Make one.

        Args:
            days: How many days from now it is valid; no certificate outlives the one that signed it.

        Raises:
            MisuseError: `days` is not an integer within 1..40150.
            MisuseError: The package `cryptography` is not installed.
        """
        check_days(days, MAX_DAYS + CA_DAYS)
        x509, ec = _library()
        key = ec.generate_private_key(ec.SECP256R1())
        # The random part tells two authorities apart when a certificate turns out to be signed by the wrong one.
        name = _name(f"remote-gym CA {secrets.token_hex(4)}")
        builder = _builder(name, name, key, key, _after(days))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
        return cls(_sign(builder, key), _key_pem(key))

    def server(self, hosts: Iterable[str] = (), *, days: int = DAYS) -> Leaf:
        """Sign a certificate for a server.

        Args:
            hosts: DNS names and IPs under which clients dial it, without ports, or which they give as `tls_name`.
                `ALWAYS_HOSTS` are always added.
            days: How many days from now it is valid; it ends with the authority at the latest.

        Raises:
            MisuseError: A host is empty, holds a port, or is neither a DNS name nor an IP that a client can dial.
            MisuseError: `days` is not an integer within 1..36500, or the authority ends within a day.
            MisuseError: The authority's certificate or key cannot be read, or they do not belong together.
            MisuseError: The package `cryptography` is not installed.
        """
        names = server_names(hosts)
        x509, _ = _library()
        alternatives = x509.SubjectAlternativeName([_general_name(name) for name in names])
        return self._leaf("remote-gym server", days, x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, name: str = "remote-gym client", *, days: int = DAYS) -> Leaf:
        """Sign a certificate for a client.

        Args:
            name: Who it is to a server: the common name.
            days: As for `server`.

        Raises:
            MisuseError: The name is no text that can be printed, or is longer than 64 characters.
            MisuseError: As for `server`.
        """
        if not isinstance(name, str) or not name.isprintable() or name != name.strip() or not name:
            raise MisuseError(f"client {name!r:.80}: a name is text that can be printed, with no space around it")
        if len(name) > MAX_NAME_CHARACTERS:
            raise MisuseError(f"client {name!r:.80}: a common name has at most {MAX_NAME_CHARACTERS} characters")
        x509, _ = _library()
        return self._leaf(name, days, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH)

    def _leaf(self, name: str, days: int, usage: Any, alternatives: Any = None) -> Leaf:
        check_days(days)
        x509, ec = _library()
        issuer, issuer_key = self._loaded()
        end = min(_after(days), issuer.not_valid_after_utc)
        if end - _now() < datetime.timedelta(days=1):
            raise MisuseError("the CA has expired, or will within a day: make a new one with `remote-gym certs`")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(name), issuer.subject, key, issuer_key, end)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if alternatives is not None:
            builder = builder.add_extension(alternatives, critical=False)
        return Leaf(_sign(builder, issuer_key), _key_pem(key))

    def _loaded(self) -> tuple[Any, Any]:
        """Return the library's certificate and key."""
        x509, _ = _library()
        from cryptography.hazmat.primitives import serialization

        try:
            certificate = x509.load_pem_x509_certificate(self.certificate)
            key: Any = serialization.load_pem_private_key(self.private_key, None)
        except (ValueError, TypeError) as error:
            raise MisuseError(f"the CA's certificate or key cannot be read: {error}") from error
        if certificate.public_key() != key.public_key():
            raise MisuseError("the CA's key is not the key of its certificate")
        return certificate, key


def check_days(days: int, most: int = MAX_DAYS) -> None:
    """Refuse what is no number of days.

    Raises:
        MisuseError: It is not an integer within 1..`most`.
    """
    if isinstance(days, bool) or not isinstance(days, int) or not 1 <= days <= most:
        raise MisuseError(f"days={days!r}: give an integer within 1..{most}")


def server_names(hosts: Iterable[str]) -> list[str]:
    """Return the checked hosts as they go into a certificate, then those always added, each once.

    Raises:
        MisuseError: As for `Authority.server`.
    """
    if isinstance(hosts, (str, bytes)):
        raise MisuseError(f"hosts={hosts!r}: give a list of names and IPs, e.g. [{hosts!r}]")
    return list(dict.fromkeys([*map(check_host, hosts), *ALWAYS_HOSTS]))


def check_host(host: str) -> str:
    """Return a host as it goes into a certificate: a lower-case DNS name or the canonical text of an IP.

    Raises:
        MisuseError: It is neither.
    """
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


def _library() -> tuple[Any, Any]:
    """Return the modules `x509` and `ec` of `cryptography`."""
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
    except ImportError as error:
        raise MisuseError(f"making certificates needs the package cryptography: {install('server')}") from error
    return x509, ec


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _after(days: int) -> datetime.datetime:
    return _now() + datetime.timedelta(days=days)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    end: datetime.datetime,
) -> x509.CertificateBuilder:
    """Start a certificate with what all of them have (RFC 5280, 4.1 and 4.2.1.1-2)."""
    from cryptography import x509

    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(_now() - _BACKDATE).not_valid_after(end)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return builder.add_extension(authority, critical=False)


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
