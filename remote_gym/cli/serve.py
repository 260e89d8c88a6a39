"""Server process: ``remote-gym serve``. Stdout carries one line, when the server is ready; all else goes to stderr."""

from __future__ import annotations

import argparse
import logging
import os
import queue
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from remote_gym.cli.announcing import READY_LINE, announcement
from remote_gym.cli.configuration import DEFAULT_FILE, Configuration, configure
from remote_gym.cli.entrypoints import check_file
from remote_gym.cli.options import BY_NAME, PEM_NAMES, VARIABLE_PREFIX, add_flags, server_arguments
from remote_gym.cli.terminal import UsageError, say
from remote_gym.cli.unread import DROPPED, LAST_WORDS_SECONDS, LineFormatter, UnreadHandler, Writer
from remote_gym.cli.wording import Word, translated, words_of_a_server
from remote_gym.server.json_lines import FIELDS, JsonFormatter, json_line, utc

if TYPE_CHECKING:
    from remote_gym import RemoteEnvironmentServer

logger = logging.getLogger("remote_gym.server")

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""Of the log for people."""

JSON = "json"

DESCRIPTION = (
    "Host environments until stopped. SIGTERM or Ctrl-C drains; a second one stops at once. Settings are flags, else "
    f"environment variables, {VARIABLE_PREFIX}NUM_WORKERS say, else keys of {DEFAULT_FILE}, num_workers under [serve]."
)

TOGETHER_SECONDS = 1.0
"""SIGTERM again within it is the same one: schedulers signal a whole step, and what has started it passes theirs on."""

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
    is_json = is_in_json(configuration) and not arguments.show_settings
    for note in [] if is_json else _notes(configuration):
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
    from remote_gym.server.announced import withdraw_all
    from remote_gym.server.private_folder import remove_all
    from remote_gym.server.socket_files import remove_all_files

    hold_standard_descriptors()
    is_json = is_in_json(arguments.configuration)
    out, log = Writer(1), Writer(2, _dropped_in_json) if is_json else Writer(2)
    handler = UnreadHandler(log)
    handler.setFormatter(JsonFormatter() if is_json else LineFormatter(FORMAT))
    handler.addFilter(OwnWords(words(arguments)))
    logging.basicConfig(level=logging.DEBUG if arguments.verbose else logging.INFO, handlers=[handler])
    if is_json:
        _hook_tracebacks()
    logging.captureWarnings(True)
    warnings.simplefilter("always", UserWarning)
    warnings.formatwarning = lambda message, *_args, **_options: str(message)

    for note in _notes(arguments.configuration) if is_json else ():
        logger.info("%s", note)

    def last_words() -> None:
        for writer in (out, log):
            writer.flush(LAST_WORDS_SECONDS)

    def exit_at_once(code: int) -> None:
        last_words()
        withdraw_all()
        remove_all()
        remove_all_files()
        os._exit(code)

    def announce(address: str, dashboard: str | None) -> None:
        out.put(READY_LINE.format(address=address) + "\n")
        out.flush(LAST_WORDS_SECONDS)  # in a terminal it comes first
        if is_json:
            told = {"event": "ready", "address": address} | ({} if dashboard is None else {"dashboard": dashboard})
            logger.info("ready on %s", address, extra={FIELDS: told})
        else:
            log.put(announcement(address, arguments.configuration.values, sys.stderr, dashboard))

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


def is_in_json(configuration: Configuration) -> bool:
    """Tell whether all that is written to stderr is to be JSON, an object per line."""
    return configuration.values.get("log_format") == JSON


def _hook_tracebacks() -> None:
    """Have Python log what it would print of errors that nobody catches."""

    def of_thread(about: threading.ExceptHookArgs) -> None:
        name = None if about.thread is None else about.thread.name
        value = about.exc_value or about.exc_type()
        logger.error("thread %s failed", name, exc_info=(about.exc_type, value, about.exc_traceback))

    def of_nobody(about: sys.UnraisableHookArgs) -> None:
        value = about.exc_value or about.exc_type()
        said = about.err_msg or "an error was ignored"
        logger.error("%s: %r", said, about.object, exc_info=(about.exc_type, value, about.exc_traceback))

    threading.excepthook = of_thread
    sys.unraisablehook = of_nobody


def _dropped_in_json(count: int) -> str:
    fields = {"time": utc(time.time()), "level": "WARNING", "logger": logger.name, "event": "dropped"}
    return json_line({**fields, "message": (DROPPED % count).strip(), "lines": count}) + "\n"


def report(arguments: argparse.Namespace, text: str, error: Exception) -> bool:
    """Tell of the error that ends this command, if that is to be JSON; return whether it was told."""
    if not hasattr(arguments, "configuration") or not is_in_json(arguments.configuration):
        return False
    record = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 0, text, (), None, extra={FIELDS: {"event": "failed"}}
    )
    if arguments.verbose:
        record.exc_info = (type(error), error, error.__traceback__)
    say(JsonFormatter().format(record))
    return True


class OwnWords(logging.Filter):
    """Lets warnings call settings what this command calls them."""

    def __init__(self, own: list[Word]) -> None:
        """Translate by `own`."""
        super().__init__()
        self._own = own

    def filter(self, record: logging.LogRecord) -> bool:
        """Translate the record; it is to be written."""
        if record.name == "py.warnings":
            record.msg, record.args = translated(record.getMessage(), self._own), ()
        return True


def _serve(
    configuration: Configuration, announce: Callable[[str, str | None], None], exit_at_once: Callable[[int], None]
) -> None:
    # While nothing is served yet there is nothing to drain, and a build may take for ever.
    _on_signals(lambda number: exit_at_once(128 + number))
    server = _create_server(configuration)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    _on_signals(signals.put)
    announce(server.address, server.dashboard_link)
    while signals.empty():
        if server.wait_for_termination(WAKE_SECONDS):
            return  # its owner has had it drained, over the admin socket
    signals.get()
    began = time.monotonic()
    logger.info("draining; a second signal stops at once")
    stopper = threading.Thread(target=server.stop, daemon=True)
    stopper.start()
    while not server.wait_for_termination(0.05):
        if not signals.empty() and (signals.get() != signal.SIGTERM or time.monotonic() - began > TOGETHER_SECONDS):
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
