"""The user's terminal: ``remote-gym serve | farm | certs | tokens | check | bench | demo | sessions | …``.

Each command imports what it needs only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback
from collections.abc import Sequence

from remote_gym.cli.hints import hint
from remote_gym.cli.terminal import RED, Parser, UsageError, did_you_mean, hyphens, paint, say
from remote_gym.cli.wording import MORE, Word, brief, translated
from remote_gym.errors import RemoteGymError
from remote_gym.version import __version__

COMMANDS = {
    "serve": "host environments until stopped",
    "farm": "keep servers up on a Ray cluster until stopped",
    "certs": "write a CA, a server and a client certificate",
    "tokens": "make, list and revoke the tokens of a server",
    "check": "compare an environment with itself, served",
    "bench": "try workers, environments and batch sizes for an environment",
    "check-connection": "tell which step of a connection to a server fails",
    "demo": "serve CartPole over TLS and step it, as a first look",
    "sessions": "list the sessions of a server of yours, or end some",
    "completion": "print what lets a shell complete these commands",
}


def build_parser(names: Sequence[str] = tuple(COMMANDS)) -> Parser:
    """Return a parser of all commands; only those of `names` know their arguments, which imports them."""
    parser = Parser(prog="remote-gym", description="Gymnasium environments that run somewhere else.")
    parser.add_argument("--version", action="version", version=f"remote-gym {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if name in names:
            _add_arguments(command, name)
    return parser


def _add_arguments(command: Parser, name: str) -> None:
    module = importlib.import_module(f"remote_gym.cli.{name.replace('-', '_')}")
    command.description = module.DESCRIPTION
    module.add_arguments(command)
    command.add_argument("--verbose", action="store_true", help="log more, and show the tracebacks of errors")
    command.set_defaults(
        run=module.run,
        words=getattr(module, "words", _no_words),
        report=getattr(module, "report", _not_reported),
        parser=command,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 2 for what cannot be read. Errors go to stderr, in words."""
    typed = hyphens(sys.argv[1:] if arguments is None else arguments)
    name = next((word for word in typed if not word.startswith("-")), "")
    parser = build_parser([name])
    if name and name not in COMMANDS:
        parser.error(f"there is no command {name!r}{did_you_mean(name, COMMANDS) or f'; there are {_listed()}'}")
    parsed, unknown = parser.parse_known_args(typed)
    if unknown:
        parsed.parser.refuse(unknown)
    return _run(parsed)


def _not_reported(_parsed: argparse.Namespace, _text: str, _error: Exception) -> bool:
    return False


def _no_words(_parsed: argparse.Namespace) -> list[Word]:
    return []


def _listed() -> str:
    return ", ".join(COMMANDS)


def _run(parsed: argparse.Namespace) -> int:
    try:
        code: int = parsed.run(parsed)
        return code
    except UsageError as error:
        parsed.parser.error(str(error))
    except KeyboardInterrupt:
        return 130
    except (RemoteGymError, OSError) as error:
        _print_error(parsed, error, translated(str(error), parsed.words(parsed)))
    except Exception as error:
        _print_error(parsed, error, f"{type(error).__name__}: {error}; this should not happen: --verbose shows where")
    return 1


def _print_error(parsed: argparse.Namespace, error: Exception, text: str) -> None:
    text = brief(text, "" if parsed.verbose else MORE)
    remedy = hint(text, getattr(parsed, "entrypoint", None) or "")
    text = f"{text}{f'; {remedy}' if remedy else ''}"
    if parsed.report(parsed, text, error):
        return
    if parsed.verbose:
        traceback.print_exception(error)
    say(f"{paint(f'remote-gym {parsed.command}:', RED, sys.stderr)} {text}")
