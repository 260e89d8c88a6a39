"""The user's terminal: ``remote-gym certs``. Writes certificates for a server and its clients."""

from __future__ import annotations

import argparse

from remote_gym.cli.certificates import MAX_DAYS, write_certificates
from remote_gym.cli.kinds import integer
from remote_gym.cli.wording import Word, phrase

DESCRIPTION = (
    "Write ca.pem, server.pem, server-key.pem, client.pem and client-key.pem to DIR. The server's certificate is good "
    "for localhost, this machine's name, and every --host."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("directory", metavar="DIR", help="is made if it does not exist")
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME_OR_IP", help="how clients reach the server; may repeat"
    )
    parser.add_argument(
        "--days", type=integer(1, MAX_DAYS).argument, default=365, metavar="N",
        help="how long they are valid, the CA ten years longer (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")


def words(_arguments: argparse.Namespace) -> list[Word]:
    """Return what this command calls the arguments of `write_certificates`."""
    return [
        phrase("overwrite it on purpose (overwrite=True)", "replace it with --overwrite"),
        phrase("host '", "--host '"),
    ]


def run(arguments: argparse.Namespace) -> int:
    """Write them and say what to do with them."""
    paths = write_certificates(arguments.directory, arguments.host, days=arguments.days, overwrite=arguments.overwrite)
    for path in paths:
        print(path)
    print(
        "\nServer: server.pem, server-key.pem, and ca.pem to require client certificates.\n"
        "Client: ca.pem, and client.pem with client-key.pem where the server requires them.\n"
        "Keep ca-key.pem away from both: it signs new certificates."
    )
    return 0
