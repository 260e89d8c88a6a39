"""The user's terminal: ``remote-gym top``. What servers do: live, as text, or as JSON."""

from __future__ import annotations

import argparse
import contextlib
import queue
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial

from remote_gym.cli.dialing import add_credentials, address_or_variable, credentials_paths, words_of_who_dials
from remote_gym.cli.kinds import SECONDS
from remote_gym.cli.live import columns, plain
from remote_gym.cli.live.board import Board
from remote_gym.cli.live.feed import Feed, Lost, News
from remote_gym.cli.terminal import UsageError, say
from remote_gym.cli.wording import Word, translated
from remote_gym.client.servers import addresses_of, checked_name
from remote_gym.client.watching import watch
from remote_gym.distribution import install
from remote_gym.errors import MisuseError
from remote_gym.figures import MAX_PERIOD_SECONDS, MIN_PERIOD_SECONDS

DESCRIPTION = (
    "Show what servers do, live: sessions with their steps per second and returns, workers with how busy they are and "
    "how long steps take, and how workers have ended. Shows what the server lets this client see: its own sessions, or "
    "all of them to an operator. Without an ADDRESS, or without certificates, it takes those of a client's variables, "
    "as a trainer does, and the token of REMOTE_GYM_TOKEN."
)

PLAIN_WIDTH = 160
"""Cells of a line where there is no terminal whose width is known."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "addresses", nargs="*", default=[], metavar="ADDRESS",
        help="a server: HOST, HOST:PORT (default port: 56765) or unix:/PATH (default: $REMOTE_GYM_URL)",
    )  # fmt: skip
    add_credentials(parser)
    parser.add_argument("--allow-insecure", action="store_true", help="permit plaintext to other machines")
    parser.add_argument(
        "--period", type=SECONDS.argument, default=1.0, metavar=SECONDS.metavar,
        help=f"between two looks, {MIN_PERIOD_SECONDS:g} to {MAX_PERIOD_SECONDS:g} (default: %(default)g)",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="print what there is as plain text, and end")
    parser.add_argument("--json", action="store_true", help="print it as JSON, a line for each server, and end")
    parser.add_argument(
        "--timeout", type=SECONDS.argument, default=10.0, metavar=SECONDS.metavar,
        help="of --once and --json: how long servers may take (default: %(default)g)",
    )  # fmt: skip


def words(arguments: argparse.Namespace) -> list[Word]:
    """Return what this command calls the arguments of a client."""
    return words_of_who_dials(arguments, arguments.addresses)


def run(arguments: argparse.Namespace) -> int:
    """Show it until somebody quits, or print it."""
    if not MIN_PERIOD_SECONDS <= arguments.period <= MAX_PERIOD_SECONDS:
        raise UsageError(f"--period must be from {MIN_PERIOD_SECONDS:g} to {MAX_PERIOD_SECONDS:g} seconds")
    addresses = _addresses(arguments)
    if arguments.once or arguments.json:
        return _print(arguments, addresses)
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("this is no terminal: --once prints what there is, --json prints it for programs")
    _show(arguments, addresses)
    return 0


def _addresses(arguments: argparse.Namespace) -> list[str]:
    """Return the servers, each once.

    Raises:
        MisuseError: An address, or a file, is wrong; or one would be reached without TLS that must not be.
    """
    urls = arguments.addresses or [address_or_variable(None)]
    name = checked_name(arguments.tls_name)
    _, found = addresses_of(urls, None, credentials_paths(arguments), name, None, arguments.allow_insecure)
    return list(dict.fromkeys(map(str, found)))


@contextlib.contextmanager
def _feeding(arguments: argparse.Namespace, addresses: Sequence[str], news: queue.SimpleQueue[News]) -> Iterator[None]:
    """Let `news` come of all servers, until this is left."""
    watching = partial(
        watch, client_credentials_paths=credentials_paths(arguments), period_seconds=arguments.period,
        allow_insecure=arguments.allow_insecure, tls_name=arguments.tls_name,
    )  # fmt: skip
    feeds = [Feed(address, partial(watching, address), news) for address in addresses]
    try:
        yield
    finally:
        for feed in feeds:
            feed.close()


def _show(arguments: argparse.Namespace, addresses: Sequence[str]) -> None:
    try:
        from remote_gym.cli.live.screen import Top
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("textual", "rich"):
            raise
        raise MisuseError(f"the live screen needs Textual: {install('top')}; --once and --json do without") from None
    news: queue.SimpleQueue[News] = queue.SimpleQueue()
    with _feeding(arguments, addresses, news):
        Top(Board(addresses), news).run()


def _print(arguments: argparse.Namespace, addresses: Sequence[str]) -> int:
    """Print what there is; return 1 if a server has not told it."""
    news: queue.SimpleQueue[News] = queue.SimpleQueue()
    board = Board(addresses)
    with _feeding(arguments, addresses, news):
        failed = _looked(arguments, board, addresses, news)
    if not arguments.json:
        text = plain.text(board.view(), _width(), _blocks())
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "backslashreplace").decode(encoding))
    for address, reason in failed.items():
        say(f"remote-gym top: {address}: {translated(reason, words(arguments))}")
    return 1 if failed else 0


def _looked(
    arguments: argparse.Namespace, board: Board, addresses: Sequence[str], news: queue.SimpleQueue[News]
) -> dict[str, str]:
    """Look at every server, twice, as rates need two totals, but once for JSON. Return who has failed, and why."""
    left = dict.fromkeys(addresses, 1 if arguments.json else 2)
    failed: dict[str, str] = {}
    deadline = time.monotonic() + arguments.timeout
    while left:
        try:
            one = news.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            failed |= dict.fromkeys(left, f"it has told nothing for {arguments.timeout:g} s")
            break
        if one.address not in left:
            continue
        if isinstance(one, Lost):
            failed[one.address] = one.reason
            del left[one.address]
            continue
        board.take(one.address, one.snapshot)
        left[one.address] -= 1
        if arguments.json:
            print(plain.json_line(one.address, one.snapshot), flush=True)
        if not left[one.address]:
            del left[one.address]
    for address, reason in failed.items():
        board.lost(address, reason)
    return failed


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PLAIN_WIDTH


def _blocks() -> str:
    try:
        columns.BLOCKS.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return columns.ASCII_BLOCKS
    return columns.BLOCKS
