"""The user's terminal: ``remote-gym completion bash | zsh``. Prints a script with which a shell completes the commands.

The script is made once, by `shtab`, of the parser itself. It then needs neither `shtab` nor Python: nothing is run
while somebody types.
"""

from __future__ import annotations

import argparse

from remote_gym.cli.kinds import choice
from remote_gym.distribution import install
from remote_gym.errors import MisuseError

DESCRIPTION = "Print a script that lets a shell complete commands, flags and files."
FILES = ("DIR", "ENTRYPOINT", "FILE", "PATH", "PEM")
"""What stands in ``--help`` for what may be a file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    kind = choice("bash", "zsh")
    parser.add_argument("shell", type=kind.argument, choices=kind.choices, metavar=kind.metavar, help="which shell")


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    try:
        import shtab
    except ImportError:
        raise MisuseError(f"completion needs shtab: {install('completion')}") from None
    from remote_gym.cli import build_parser

    print(shtab.complete(_with_files(build_parser(), shtab.FILE), arguments.shell))
    return 0


def _with_files(parser: argparse.ArgumentParser, files: object) -> argparse.ArgumentParser:
    """Mark what takes the path of a file."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _with_files(command, files)
        elif action.metavar in FILES:
            action.complete = files  # type: ignore[attr-defined]
    return parser
