"""The user's terminal, and the dashboard's process: ``remote-gym dashboard``. A live page of one server or several.

Unlike ``serve --dashboard-port`` it may run anywhere that reaches the servers, and sees what its certificate or token
lets it see.
"""

from __future__ import annotations

import argparse
import importlib.util
import secrets
import sys

from remote_gym.addresses import is_loopback, join_address, split_address, unix_path
from remote_gym.cli.kinds import PORT
from remote_gym.cli.terminal import BOLD, UsageError, paint, say
from remote_gym.cli.wording import Word, words_of_a_client
from remote_gym.distribution import install
from remote_gym.errors import MisuseError
from remote_gym.server.admin_places import candidates
from remote_gym.server.dashboard import LIBRARIES, TOKEN_BYTES, hosts, shown_host
from remote_gym.server.sockets import listen_tcp

DESCRIPTION = (
    "Show a live page of one server or several: sessions, workers, pictures of environments. It prints a link with a "
    "token, which opens it in a browser on this machine. What it shows is what this user may see: on a server's Unix "
    "socket, or as an operator, everybody's. The token for servers is that of REMOTE_GYM_TOKEN."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "address", nargs="+", metavar="ADDRESS", help="a server: HOST, HOST:PORT (default port: 56765) or unix:PATH"
    )
    parser.add_argument("--root-certificate", metavar="PEM", help="CA that signed the servers' certificates")
    parser.add_argument("--client-certificate", metavar="PEM", help="certificate of this client, for mutual TLS")
    parser.add_argument("--client-private-key", metavar="PEM", help="its private key")
    parser.add_argument("--allow-insecure", action="store_true", help="permit plaintext that others can read")
    parser.add_argument(
        "--port", "-p", type=PORT.argument, default=0, metavar=PORT.metavar, help="of the page (default: any free one)"
    )
    parser.add_argument(
        "--url", "-u", default="127.0.0.1", metavar="HOST", help="address of the page (default: %(default)s)"
    )
    parser.add_argument(
        "--admin", action="store_true",
        help="let the page end sessions, and have servers drain: those on this machine that this user runs",
    )  # fmt: skip


def words(_arguments: argparse.Namespace) -> list[Word]:
    """Return what this command calls the arguments of a client."""
    return words_of_a_client()


def run(arguments: argparse.Namespace) -> int:
    """Show the page until Ctrl-C."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise MisuseError(f"the dashboard needs {' and '.join(missing)}: {install('dashboard')}")
    from remote_gym.dashboard.main import run as show
    from remote_gym.dashboard.settings import Settings, Watched

    url, port = split_address(arguments.url, arguments.port)
    if unix_path(url) is not None or (not is_loopback(url) and not arguments.allow_insecure):
        raise UsageError(
            f"the page travels in plaintext, so {url} takes --allow-insecure; better reach 127.0.0.1 through `ssh -L`"
        )
    options = {"client_credentials_paths": _credentials(arguments), "allow_insecure": arguments.allow_insecure}
    servers = []
    for address in dict.fromkeys(arguments.address):
        host, number = split_address(address)
        places = candidates(host, number) if arguments.admin and is_loopback(host) else []
        label = join_address(host, number)
        servers.append(Watched(label, label, tuple(places), options))
    listening, port = listen_tcp(url, port)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    say("remote-gym dashboard: in a browser on this machine:")
    link = f"http://{join_address(shown_host(url), port)}/?token={token}"
    print(paint(link, BOLD, sys.stdout), flush=True)
    show(Settings(tuple(servers), token, tuple(hosts(url)), arguments.admin), listening)
    return 0


def _credentials(arguments: argparse.Namespace) -> list[str] | None:
    """Return the paths as clients take them; None: none was given.

    Raises:
        UsageError: One is missing.
    """
    pair = [arguments.client_certificate, arguments.client_private_key]
    if arguments.root_certificate is None:
        if any(pair):
            raise UsageError("--client-certificate goes with --root-certificate")
        return None
    if any(pair) and not all(pair):
        raise UsageError("--client-certificate and --client-private-key belong together")
    return [arguments.root_certificate, *filter(None, pair)]
