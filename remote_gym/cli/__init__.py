"""The user's terminal: ``remote-gym serve | certs | check | bench | check-connection | demo``.

Each command imports what it needs only when it runs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from remote_gym.errors import RemoteGymError
from remote_gym.version import __version__

COMMANDS = {
    "serve": "host environments until stopped",
    "certs": "write a CA, a server and a client certificate",
    "check": "compare an environment with itself, served",
    "bench": "try workers, environments and batch sizes for an environment",
    "check-connection": "tell which step of a connection to a server fails",
    "demo": "serve CartPole over TLS and step it, as a first look",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(prog="remote-gym", description="Gymnasium environments that run somewhere else.")
    parser.add_argument("--version", action="version", version=f"remote-gym {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        module = importlib.import_module(f"remote_gym.cli.{name.replace('-', '_')}")
        command = commands.add_parser(name, help=summary, description=module.DESCRIPTION)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; errors go to stderr in words, without a traceback."""
    parsed = build_parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        return code
    except (RemoteGymError, OSError) as error:
        print(f"remote-gym {parsed.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
