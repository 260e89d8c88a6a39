"""User's terminal: write a certificate for one more client, signed by a CA that is there already."""

from __future__ import annotations

import os
import re
from pathlib import Path

from remote_gym.certificates import MAX_NAME_CHARACTERS, Authority, check_days
from remote_gym.cli.certificates import refuse_existing, write
from remote_gym.errors import MisuseError
from remote_gym.server.principals import unfit

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
    check_days(days)
    folder = Path(ca if directory is None else directory)
    paths = folder / f"{stem}.pem", folder / f"{stem}-key.pem"
    if not overwrite:
        refuse_existing(paths)
    try:
        leaf = _read_ca(Path(ca)).client(name, days=days)
    except MisuseError as error:
        raise MisuseError(f"ca={os.fspath(ca)!r}: {error}") from error
    return write(paths, (leaf.certificate, leaf.private_key), overwrite)


def _stem(name: str) -> str:
    """Return what a client's files are called."""
    wrong = unfit(name)
    if wrong is None and len(name) > MAX_NAME_CHARACTERS:
        wrong = f"a common name has at most {MAX_NAME_CHARACTERS} characters"
    if wrong is not None:
        raise MisuseError(f"client {name!r}: {wrong}")
    stem = re.sub(r"[^\w.@+-]", "_", name).lstrip(".") or "_"
    if _TAKEN.fullmatch(stem):
        raise MisuseError(f"client {name!r}: {stem}.pem is what another file is called; give another name")
    return stem


def _read_ca(folder: Path) -> Authority:
    """Return the CA in `folder`."""
    there = []
    for file in ("ca.pem", "ca-key.pem"):
        try:
            there.append((folder / file).read_bytes())
        except OSError as error:
            raise MisuseError(
                f"{file} cannot be read ({error.strerror}): give the folder that `remote-gym certs` has written, with "
                f"the key of its CA"
            ) from None
    return Authority(*there)
