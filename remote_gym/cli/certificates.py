"""User's terminal: write a private CA and the certificates it signs, for `remote-gym certs`.

The files are those that cfssl makes of the `ssl` folder.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from remote_gym.certificates import CA_DAYS, Authority, check_days, check_host, server_names
from remote_gym.errors import MisuseError


def write_certificates(
    directory: str | os.PathLike[str], hosts: Iterable[str] = (), *, days: int = 365, overwrite: bool = False
) -> list[Path]:
    """Write a new CA, and a server and a client certificate signed by it.

    The CA's key signs nothing else and can be deleted, unless `cfssl` or `openssl` should sign more with it.

    Args:
        directory: Where the files go; made if it does not exist.
        hosts: DNS names and IPs under which clients dial the server, without ports. `certificates.ALWAYS_HOSTS` and the
            machine's own host name are always added.
        days: How many days from now the server's and the client's certificates are valid. The CA lives
            `certificates.CA_DAYS` longer: it signs their successors, and no certificate outlives its signer.
        overwrite: Replace files of an earlier call; clients then need the new ``ca.pem``.

    Returns:
        The paths of ``ca.pem, ca-key.pem, server.pem, server-key.pem, client.pem, client-key.pem``; keys are 0600.

    Raises:
        MisuseError: A host is empty, holds a port, or is neither a DNS name nor an IP that a client can dial.
        MisuseError: `days` is not an integer within 1..36500.
        MisuseError: One of the files exists and `overwrite` is False, or the files cannot be written.
        MisuseError: The package `cryptography` is not installed.
    """
    names = server_names(hosts)
    with contextlib.suppress(MisuseError):  # a machine may have a host name that no certificate can hold
        names.append(check_host(socket.gethostname()))
    check_days(days)
    folder = Path(directory)
    files = [f"{owner}{suffix}.pem" for owner in ("ca", "server", "client") for suffix in ("", "-key")]
    paths = [folder / file for file in files]
    if not overwrite:
        refuse_existing(paths)
    authority = Authority.new(days=days + CA_DAYS)
    pairs = authority, authority.server(names, days=days), authority.client(days=days)
    return write(paths, [content for pair in pairs for content in (pair.certificate, pair.private_key)], overwrite)


def refuse_existing(paths: Iterable[Path]) -> None:
    """Refuse to write where something is.

    Raises:
        MisuseError: One of `paths` exists.
    """
    for path in paths:
        if os.path.lexists(path):
            raise MisuseError(f"{str(path)!r} exists; name another folder, or overwrite it on purpose (overwrite=True)")


def write(paths: Iterable[Path], contents: Iterable[bytes], overwrite: bool) -> list[Path]:
    """Write files of one folder, which is made; nobody else can read one that is a key at any moment.

    Raises:
        MisuseError: That is not possible.
    """
    written = list(paths)
    folder = written[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in zip(written, contents, strict=True):
            _write(path, content, overwrite)
    except OSError as error:
        raise MisuseError(f"cannot write certificates to {str(folder)!r}: {error}") from error
    return written


def _write(path: Path, content: bytes, overwrite: bool) -> None:
    if overwrite:
        path.unlink(missing_ok=True)  # a file that is opened again would keep its old, perhaps wider, mode
    mode = 0o600 if path.stem.endswith("-key") else 0o644
    try:
        # O_EXCL: neither a file nor a link put here since the check is ever written through.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError:
        refuse_existing([path])
        raise
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
