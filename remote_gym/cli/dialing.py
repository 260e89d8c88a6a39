"""The user's terminal: the flags of commands that dial servers, or the variables that trainers have in their stead."""

from __future__ import annotations

import argparse
import os

from remote_gym.cli.terminal import UsageError
from remote_gym.cli.wording import Word, of_flag, of_variable, words_of_a_client
from remote_gym.client.servers import CredentialsPaths

URL_VARIABLE = "REMOTE_GYM_URL"
CREDENTIALS = ("root_certificate", "client_certificate", "client_private_key")
"""Names of flags, and of the variables that clients read who are given no paths."""


def add_credentials(parser: argparse.ArgumentParser) -> None:
    """Declare the flags by which a server is proven to be it, and who dials to be who it is."""
    parser.add_argument("--root-certificate", metavar="PEM", help="CA that signed the server's certificate")
    parser.add_argument("--client-certificate", metavar="PEM", help="certificate of this client, for mutual TLS")
    parser.add_argument("--client-private-key", metavar="PEM", help="its private key")
    parser.add_argument(
        "--tls-name", metavar="NAME", help="what the server's certificate must be for (default: the host of ADDRESS)"
    )


def credentials_paths(arguments: argparse.Namespace) -> CredentialsPaths | None:
    """Return the paths that the flags name, None without any.

    Raises:
        UsageError: Only some of the flags that belong together are there.
    """
    root, certificate, key = (getattr(arguments, name) for name in CREDENTIALS)
    if root is None and certificate is None and key is None:
        return None
    if root is None or (certificate is None) is not (key is None):
        raise UsageError("--client-certificate and --client-private-key belong together, and with --root-certificate")
    return (root, certificate, key)


def address_or_variable(address: str | None) -> str:
    """Return `address`, or that of a client's variable.

    Raises:
        UsageError: There is none anywhere.
    """
    address = address or os.environ.get(URL_VARIABLE)
    if not address:
        raise UsageError(f"no server was named: give an ADDRESS, or set {URL_VARIABLE}")
    return address


def words_of_who_dials(arguments: argparse.Namespace, address: object) -> list[Word]:
    """Return what a command calls the arguments of a client: the flags, or the variables where it read those."""
    flags = [getattr(arguments, name) for name in CREDENTIALS]
    return words_of_a_client(
        of_flag("ADDRESS") if address else of_variable(URL_VARIABLE),
        [
            of_flag(f"--{name.replace('_', '-')}") if any(flags) else of_variable(f"REMOTE_GYM_{name.upper()}")
            for name in CREDENTIALS
        ],
    )
