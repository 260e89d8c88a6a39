"""The user's terminal: ``remote-gym certs``. Writes certificates for a server and its clients."""

from __future__ import annotations

import argparse

from remote_gym.certificates import MAX_DAYS
from remote_gym.cli.certificates import write_certificates
from remote_gym.cli.client_certificates import write_client_certificate
from remote_gym.cli.kinds import integer
from remote_gym.cli.terminal import UsageError
from remote_gym.cli.wording import Word, phrase

DESCRIPTION = (
    "Write ca.pem, server.pem, server-key.pem, client.pem and client-key.pem to DIR. The server's certificate is good "
    "for localhost, this machine's name, and every --host. With --client NAME --ca DIR: "
    "NAME.pem and NAME-key.pem alone, for one more client, whom the server knows by that name."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "directory", metavar="DIR", nargs="?",
        help="where the files go; is made if it does not exist (default with --client: that of the CA)",
    )  # fmt: skip
    parser.add_argument("--client", metavar="NAME", help="write a certificate for this client alone")
    parser.add_argument("--ca", metavar="DIR", help="with --client: the folder of the CA that signs it, and of its key")
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
        phrase("client '", "--client '"),
        phrase("ca='", "--ca '"),
    ]


def run(arguments: argparse.Namespace) -> int:
    """Write them and say what to do with them."""
    if arguments.client is not None or arguments.ca is not None:
        return _run_for_client(arguments)
    if arguments.directory is None:
        raise UsageError("the following arguments are required: DIR")
    paths = write_certificates(arguments.directory, arguments.host, days=arguments.days, overwrite=arguments.overwrite)
    for path in paths:
        print(path)
    print(
        "\nServer: server.pem, server-key.pem, and ca.pem to require client certificates.\n"
        "Client: ca.pem, and client.pem with client-key.pem where the server requires them.\n"
        "Keep ca-key.pem away from both: it signs new certificates."
    )
    return 0


def _run_for_client(arguments: argparse.Namespace) -> int:
    if arguments.client is None or arguments.ca is None:
        raise UsageError("--client and --ca belong together: who it is for, and the folder of the CA that signs it")
    if arguments.host:
        raise UsageError("--host is of a server's certificate, and --client makes none")
    paths = write_client_certificate(
        arguments.client, arguments.ca, arguments.directory, days=arguments.days, overwrite=arguments.overwrite
    )
    for path in paths:
        print(path)
    print(f"\nClient: both, and ca.pem. To the server it is {arguments.client!r}.")
    return 0
