"""Server process: ``remote-gym serve``. Stdout carries one line, when the server is ready; all else goes to stderr."""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from remote_gym.cli.announcing import READY_LINE, announcement
from remote_gym.cli.configuration import DEFAULT_FILE, Configuration, configure
from remote_gym.cli.entrypoints import check_file
from remote_gym.cli.options import BY_NAME, PEM_NAMES, VARIABLE_PREFIX, add_flags, server_arguments
from remote_gym.cli.terminal import UsageError, say
from remote_gym.cli.unread import LAST_WORDS_SECONDS, UnreadHandler, Writer
from remote_gym.cli.wording import Word, translated, words_of_a_server

if TYPE_CHECKING:
    from remote_gym import RemoteEnvironmentServer

DESCRIPTION = (
    "Host environments until stopped. SIGTERM or Ctrl-C drains; a second one stops at once. Settings are flags, else "
    f"environment variables, {VARIABLE_PREFIX}NUM_WORKERS say, else keys of {DEFAULT_FILE}, num_workers under [serve]."
)

WAKE_SECONDS = 0.2
"""How often the main thread looks up: the kernel may give a signal to another thread, which does not wake it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = "remote-gym serve [-h] [ENTRYPOINT] [FLAG ...]"
    add_flags(parser)
    parser.add_argument(
        "--config", metavar="FILE", help=f"read settings from it (default: {DEFAULT_FILE}, if there is one)"
    )
    parser.add_argument(
        "--show-settings",
        action="store_true",
        help="print what holds and who said it, as such a file, and serve nothing",
    )


def words(arguments: argparse.Namespace) -> list[Word]:
    """Return what this command calls the arguments of a server."""
    return words_of_a_server(arguments.configuration)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    configuration = arguments.configuration = configure(vars(arguments), os.environ, arguments.config)
    for note in _notes(configuration):
        say(f"remote-gym serve: {note}")
    if arguments.show_settings:
        print("\n".join(configuration.lines()))
        return 0
    arguments.entrypoint = _checked_entrypoint(configuration)
    _check_credentials(configuration)
    _host(arguments)
    return 0


def _host(arguments: argparse.Namespace) -> None:
    from remote_gym.pool import hold_standard_descriptors
    from remote_gym.server.private_folder import remove_all

    hold_standard_descriptors()
    out, log = Writer(1), Writer(2)
    handler = UnreadHandler(log)
    own_words = OwnWords(words(arguments))
    handler.addFilter(own_words)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        handlers=[handler],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.captureWarnings(True)
    warnings.simplefilter("always", UserWarning)
    warnings.formatwarning = lambda message, *_args, **_options: str(message)

    def last_words() -> None:
        for writer in (out, log):
            writer.flush(LAST_WORDS_SECONDS)

    def exit_at_once(code: int) -> None:
        last_words()
        remove_all()
        os._exit(code)

    def announce(address: str) -> None:
        own_words.ready = True
        out.put(READY_LINE.format(address=address) + "\n")
        out.flush(LAST_WORDS_SECONDS)  # in a terminal it comes first
        log.put(announcement(address, arguments.configuration.values, sys.stderr))

    try:
        _serve(arguments.configuration, announce, exit_at_once)
    finally:
        last_words()


def _notes(configuration: Configuration) -> list[str]:
    """Return what there is to say of where the settings are from."""
    return [*([] if configuration.file is None else [f"settings from {configuration.file}"]), *configuration.notes]


def _checked_entrypoint(configuration: Configuration) -> str:
    """Return what to host.

    Raises:
        UsageError: Nobody has named it, or there is no such file.
    """
    entrypoint = configuration.values.get("entrypoint")
    setting = BY_NAME["entrypoint"]
    if entrypoint is None:
        raise UsageError(
            f"nothing to host: give an ENTRYPOINT, as in `remote-gym serve CartPole-v1`, or set {setting.variable}, or "
            f"entrypoint in {configuration.file or DEFAULT_FILE}"
        )
    check_file(entrypoint, configuration.origin(setting).name)
    return str(entrypoint)


def _check_credentials(configuration: Configuration) -> None:
    """Look whether what belongs together is there.

    Raises:
        UsageError: It is not.
    """
    certificate, key, root = (BY_NAME[name] for name in PEM_NAMES)
    there = [setting for setting in (certificate, key, root) if setting.name in configuration.values]
    missing = [setting.flag for setting in (certificate, key) if setting not in there]
    if there and missing:
        raise UsageError(
            f"{configuration.origin(there[0]).name} needs {' and '.join(missing)}: certificate and key of the server "
            f"belong together"
        )


class OwnWords(logging.Filter):
    """Lets the log say what this command says.

    Warnings call settings what the command calls them; a server that does not come up is no server that drains.

    Attributes:
        ready: Whether the server is up.
    """

    def __init__(self, own: list[Word]) -> None:
        """Translate by `own`."""
        super().__init__()
        self._own = own
        self.ready = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether the record is to be written."""
        if record.name == "py.warnings":
            record.msg, record.args = translated(record.getMessage(), self._own), ()
        return self.ready or record.levelno != logging.INFO or not str(record.msg).startswith("draining")


def _serve(configuration: Configuration, announce: Callable[[str], None], exit_at_once: Callable[[int], None]) -> None:
    # While nothing is served yet there is nothing to drain, and a build may take for ever.
    _on_signals(lambda number: exit_at_once(128 + number))
    server = _create_server(configuration)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    _on_signals(signals.put)
    announce(server.address)
    while signals.empty():
        server.wait_for_termination(WAKE_SECONDS)
    signals.get()
    logging.getLogger("remote_gym.server").info("draining; a second signal stops at once")
    stopper = threading.Thread(target=server.stop, daemon=True)
    stopper.start()
    while not server.wait_for_termination(0.05):
        if not signals.empty():
            exit_at_once(1)
    stopper.join()


def _on_signals(handle: Callable[[int], object]) -> None:
    """Give SIGTERM and SIGINT to `handle`. It may end this process at once: the kernel then kills the workers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: handle(received))


def _create_server(configuration: Configuration) -> RemoteEnvironmentServer:
    from remote_gym import create_remote_environment_server

    args, options = server_arguments(configuration.values)
    return create_remote_environment_server(args, **options)
