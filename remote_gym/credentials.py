"""Both sides, no I/O but reading PEM files: PEM paths, or PEM bytes -> PEM bytes -> gRPC credentials, or ssl's.

What is wrong with a file is said here, with the argument, the file and the mend. gRPC itself would accept nearly any
bytes and fail much later, at the first handshake, without a word about the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import grpc

from remote_gym.errors import MisuseError
from remote_gym.pem import CERTIFICATE_LABELS, KEY_LABELS, kinds, looks, plain

PemPath = Union[str, "os.PathLike[str]"]
Pem = Union[PemPath, bytes]
"""The path of a PEM file, or what such a file holds."""

CLIENT_ARGUMENT = "client_credentials_paths"
SERVER_ARGUMENT = "server_credentials_paths"

_CLIENT_FORM = "(ca.pem[, client.pem, client-key.pem])"
_SERVER_FORM = "(server.pem, server-key.pem[, ca.pem])"
_BEGINS = b"-----BEGIN "


@dataclass(frozen=True)
class ClientPem:
    """What a client proves and trusts, as PEM bytes; hashable, so that a channel can be cached by it.

    Attributes:
        root: Certificates of the authorities whose signature on a server's certificate is trusted.
        certificate: The client's own certificate (chain), or None if it has none.
        private_key: The key of `certificate`, or None. Never part of the repr.
        server_name: What the server's certificate must be for; None: the host that is dialled.
    """

    root: bytes = field(repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None


@dataclass(frozen=True)
class ServerPem:
    """What a server proves and trusts, as PEM bytes.

    Attributes:
        certificate: The server's certificate (chain).
        private_key: The key of `certificate`. Never part of the repr.
        root: Certificates of the authorities that sign client certificates; None if clients need no certificate.
    """

    certificate: bytes = field(repr=False)
    private_key: bytes = field(repr=False)
    root: bytes | None = field(default=None, repr=False)


def load_client_pem(paths: Sequence[Pem | None] | None) -> ClientPem | None:
    """Read and check a client's PEM files.

    Args:
        paths: ``(ca.pem[, client.pem, client-key.pem])``, each a path or the bytes of such a file, where trailing Nones
            count as absent; or None for no TLS.

    Returns:
        The bytes of the files, or None if `paths` is None.

    Raises:
        MisuseError: The tuple has a wrong length or type.
        MisuseError: A file is missing, unreadable, not PEM, or not of the kind its place asks for.
        MisuseError: The client's key does not belong to its certificate.
    """
    if paths is None:
        return None
    given = _path_tuple(CLIENT_ARGUMENT, paths, _CLIENT_FORM, lengths=(1, 3))
    root = _read_certificate(CLIENT_ARGUMENT, given, 0, "the CA certificate")
    _check_authority(CLIENT_ARGUMENT, given[0], root)
    if len(given) == 1:
        return ClientPem(root)
    certificate, private_key = _read_pair(CLIENT_ARGUMENT, given, 1, "client", _CLIENT_FORM)
    return ClientPem(root, certificate, private_key)


def load_server_pem(paths: Sequence[Pem | None] | None) -> ServerPem | None:
    """Read and check a server's PEM files.

    Args:
        paths: ``(server.pem, server-key.pem[, ca.pem])``, each a path or the bytes of such a file, where a trailing
            None counts as absent; or None for no TLS.

    Returns:
        The bytes of the files, or None if `paths` is None.

    Raises:
        MisuseError: The tuple has a wrong length or type.
        MisuseError: A file is missing, unreadable, not PEM, or not of the kind its place asks for.
        MisuseError: The server's key does not belong to its certificate.
    """
    if paths is None:
        return None
    given = _path_tuple(SERVER_ARGUMENT, paths, _SERVER_FORM, lengths=(2, 3))
    certificate, private_key = _read_pair(SERVER_ARGUMENT, given, 0, "server", _SERVER_FORM)
    if len(given) == 2:
        return ServerPem(certificate, private_key)
    root = _read_certificate(SERVER_ARGUMENT, given, 2, "the CA certificate of the clients")
    _check_authority(SERVER_ARGUMENT, given[2], root)
    return ServerPem(certificate, private_key, root)


def absolute(pem: Pem) -> str | bytes:
    """Return a path as it is whatever the working directory will be; bytes as they are."""
    return pem if isinstance(pem, bytes) else os.path.abspath(pem)


def file_stamp(path: str | bytes) -> tuple[int, ...] | None:
    """Return what differs once the file at `path` was written or replaced; None where there is none, and for bytes."""
    if isinstance(path, bytes):
        return None
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp_of(status)


def stamp_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs once the file of that status was written or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def channel_credentials(pem: ClientPem) -> grpc.ChannelCredentials:
    """Make the credentials of a client's channel."""
    return grpc.ssl_channel_credentials(pem.root, pem.private_key, pem.certificate)


class TlsSocket(ssl.SSLSocket):
    """What the contexts here make of a socket.

    Where the peer has reset the connection already, `SSLContext.wrap_socket` raises and leaves a socket behind that has
    the descriptor but no TLS, and that its caller never gets: nobody could close it.
    """

    def __del__(self) -> None:
        """Close what has no TLS, not yet or no longer; of any other one the base says that it was left open."""
        if getattr(self, "_sslobj", None) is None:
            self.close()
        super().__del__()  # type: ignore[misc]


def client_context(pem: ClientPem, protocols: Sequence[str]) -> ssl.SSLContext:
    """Make what a client needs for TLS without gRPC; it trusts and checks what gRPC does.

    By hand, as `ssl.create_default_context` is stricter from Python 3.13 on: a certificate must not depend on the
    carrier, nor on the Python.

    Args:
        pem: What it proves and trusts.
        protocols: What it offers to speak (ALPN), its favourite first.

    Raises:
        ssl.SSLError: A certificate or key is damaged, or too weak for this OpenSSL.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies the chain, and that it is for the host
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate authority may be trusted alone
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.load_verify_locations(cadata=pem.root.decode("ascii", "ignore"))
    if pem.certificate is not None and pem.private_key is not None:
        load_pair(context, pem.certificate, pem.private_key)
    context.set_alpn_protocols(list(protocols))
    return context


def server_credentials(pem: ServerPem, current: Callable[[], ServerPem] | None = None) -> grpc.ServerCredentials:
    """Make the credentials of a server's port; with a `root`, clients need a certificate signed by it.

    Args:
        pem: What holds at first, and for good whether clients need a certificate.
        current: Says what holds for a connection that is new; called in a thread of gRPC's. None: still `pem`.
    """
    given = pem

    def renewed() -> Any:
        nonlocal given
        now = given if current is None else current()
        if now is given:
            return None  # no change
        given = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(_configuration(pem), renewed, pem.root is not None)


def _configuration(pem: ServerPem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.private_key, pem.certificate)], pem.root)


def server_context(pem: ServerPem, alpn: str) -> ssl.SSLContext:
    """Make what a server's own TLS handshakes need: TLS 1.2 or later, and what gRPC's check of clients trusts.

    Raises:
        ssl.SSLError: OpenSSL's policy, on the size of keys for instance, is stricter than that of gRPC's library.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([alpn])
    context.num_tickets = 0  # a ticket makes the client's socket readable without data; a session resumes by itself
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    load_pair(context, pem.certificate, pem.private_key)
    if pem.root is not None:
        context.load_verify_locations(cadata=pem.root.decode("ascii", "ignore"))
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # as gRPC: whoever is named is trusted, a root or not
    return context


def _path_tuple(argument: str, paths: object, form: str, lengths: tuple[int, int]) -> tuple[Pem, ...]:
    """Return `paths` without trailing Nones, after checking that it is a tuple of paths of a right length."""
    if isinstance(paths, bytes) or not isinstance(paths, Sequence):
        raise MisuseError(f"{argument}: give a tuple of paths, {form}, not a {type(paths).__name__}")
    if isinstance(paths, (str, os.PathLike)):
        raise MisuseError(f"{argument}={paths!r}: give a tuple of paths, {form}, not a {type(paths).__name__}")
    given = list(paths)
    while given and given[-1] is None:
        given.pop()
    if len(paths) > 3 or len(given) not in lengths:
        raise MisuseError(
            f"{argument} holds {len(given)} path(s) where {lengths[0]} or {lengths[1]} are needed: "
            f"give {form}, or None for a connection without TLS"
        )
    for index, path in enumerate(given):
        if isinstance(path, bytes):
            if _BEGINS not in path:
                raise MisuseError(f"{argument}[{index}] is bytes, but no PEM: give a path, or what such a file holds")
        elif not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
            raise MisuseError(f"{argument}[{index}]={path!r} is not a path: give {form}")
    return tuple(given)


def _read_pair(argument: str, paths: Sequence[Pem], first: int, owner: str, form: str) -> tuple[bytes, bytes]:
    """Read a certificate and, next to it, its key, and check that they belong together."""
    certificate_path, key_path = paths[first], paths[first + 1]
    one, other = (kinds(_read(argument, index, paths[index])) for index in (first, first + 1))
    if one <= KEY_LABELS and one and other <= CERTIFICATE_LABELS and other:
        raise MisuseError(
            f"{argument}: {_called(certificate_path)} looks like a private key and {_called(key_path)} like a "
            f"certificate, so the two are swapped: the order is {form}"
        )
    certificate = _read_certificate(argument, paths, first, f"the {owner} certificate")
    private_key = _read_key(argument, paths, first + 1, f"the {owner} private key")
    _check_pair(argument, certificate_path, key_path, certificate, private_key)
    return certificate, private_key


def _read_certificate(argument: str, paths: Sequence[Pem], index: int, role: str) -> bytes:
    data = _read(argument, index, paths[index])
    if not kinds(data) & CERTIFICATE_LABELS:
        mend = "give the file whose first line is -----BEGIN CERTIFICATE-----"
        raise MisuseError(f"{_place(argument, index, paths[index])} should be {role}, but {looks(data)}: {mend}")
    if data.count(b"-----BEGIN ") != data.count(b"-----END "):  # OpenSSL would take the certificates before
        raise MisuseError(f"{_place(argument, index, paths[index])} is cut off: its last certificate has no end")
    return data


def _read_key(argument: str, paths: Sequence[Pem], index: int, role: str) -> bytes:
    data = _read(argument, index, paths[index])
    found = kinds(data)
    if "ENCRYPTED PRIVATE KEY" in found or b"Proc-Type: 4,ENCRYPTED" in data:
        mend = "write one without: openssl pkey -in encrypted-key.pem -out key.pem"
        raise MisuseError(f"{_place(argument, index, paths[index])} is a private key behind a password: {mend}")
    if not found & KEY_LABELS:
        mend = "give the file whose first line is -----BEGIN PRIVATE KEY----- (or EC/RSA PRIVATE KEY)"
        raise MisuseError(f"{_place(argument, index, paths[index])} should be {role}, but {looks(data)}: {mend}")
    return data


def _read(argument: str, index: int, path: Pem) -> bytes:
    if isinstance(path, bytes):
        return plain(path)
    try:
        with open(path, "rb") as file:
            return plain(file.read())
    except FileNotFoundError:
        reason = f"does not exist (looked for {os.path.abspath(path)!r}); mend the path or run `remote-gym certs`"
    except PermissionError:
        reason = "cannot be read by this user; change its owner or mode, or run as its owner"
    except IsADirectoryError:
        reason = "is a folder; name the .pem file in it"
    except (OSError, ValueError) as error:
        reason = f"cannot be read: {error}"
    raise MisuseError(f"{_place(argument, index, path)} {reason}")


def _check_authority(argument: str, path: Pem, root: bytes) -> None:
    """Check that every certificate in `root` can be parsed."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=root.decode("ascii", "ignore"))
    except ssl.SSLError as error:
        raise MisuseError(f"{argument}: the certificate in {_called(path)} is damaged ({_reason(error)})") from None


def _check_pair(argument: str, certificate_path: Pem, key_path: Pem, certificate: bytes, private_key: bytes) -> None:
    """Check that both files can be parsed and that the key is the certificate's."""
    files = f"{_called(certificate_path)} and {_called(key_path)}"
    try:
        load_pair(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate, private_key)
    except ssl.SSLError as error:
        if "MISMATCH" in (error.reason or ""):
            raise MisuseError(
                f"{argument}: {files} do not belong together, the key is another certificate's; give the key written "
                f"together with the certificate"
            ) from None
        if re.search("TOO_SMALL|TOO_WEAK", error.reason or ""):
            return  # OpenSSL's policy on key sizes; gRPC brings a TLS library with a policy of its own.
        raise MisuseError(f"{argument}: {files}: one of the two is damaged ({_reason(error)})") from None


def load_pair(context: ssl.SSLContext, certificate: bytes, private_key: bytes) -> None:
    """Give a pair to `context` through files that only this user can read: ssl takes no bytes.

    Raises:
        ssl.SSLError: They cannot be read, or do not belong together.
    """
    with _file(certificate) as certificate_path, _file(private_key) as key_path:
        # A password is never asked for on the terminal: _read_key has refused keys that need one.
        context.load_cert_chain(certificate_path, key_path, password="")


@contextlib.contextmanager
def _file(data: bytes) -> Iterator[str]:
    """Have `data` in a file for a moment; on Linux one in memory, without a name."""
    if sys.platform == "linux":
        with open(os.memfd_create("remote_gym"), "wb") as file:
            file.write(data)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile(prefix="remote-gym-") as file:
            file.write(data)
            file.flush()
            yield file.name


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "not readable as PEM").replace("_", " ").lower()


def _called(pem: Pem) -> str:
    """Return what to call it: a path, and never what a file holds, which may be a key."""
    return f"the {len(pem)} bytes given" if isinstance(pem, bytes) else repr(os.fspath(pem))


def _place(argument: str, index: int, pem: Pem) -> str:
    return f"{argument}[{index}]" if isinstance(pem, bytes) else f"{argument}[{index}]={_called(pem)}"
