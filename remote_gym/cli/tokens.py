"""The user's terminal: ``remote-gym tokens add | list | revoke``. The tokens of a server, in a file that it watches."""

from __future__ import annotations

import argparse
import os
import re
import time

from remote_gym.cli.configuration import configure
from remote_gym.cli.kinds import NEVER, Kind, choice
from remote_gym.cli.options import BY_NAME
from remote_gym.cli.terminal import UsageError, say
from remote_gym.cli.token_lines import add_line, edited, read_file, without
from remote_gym.errors import MisuseError
from remote_gym.server.tokens import Token, check_name, digest_of, new_token, read_tokens, time_text

DESCRIPTION = (
    "Make, list and revoke the tokens of a server (serve --token-file FILE), which reads the file again when it "
    "changes. `add NAME` prints a new token, once: the file holds only a hash of it. Whoever has it is NAME to the "
    "server. A name may have several; `revoke NAME` takes them all, and their sessions end within seconds."
)

DEFAULT_FILE = "remote-gym.tokens"

_UNITS = {"h": 3_600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
_PERIOD = re.compile(rf"([1-9]\d{{0,5}})([{''.join(_UNITS)}])")


def _seconds(text: str) -> float:
    if text == NEVER:
        return float("inf")
    if (found := _PERIOD.fullmatch(text)) is None:
        raise ValueError
    seconds = int(found[1]) * _UNITS[found[2]]
    if seconds > 100 * _UNITS["y"]:
        raise ValueError("at most 100 years")
    return float(seconds)


PERIOD = Kind("PERIOD", f"a time such as 12h, 90d, 8w or 1y, or {NEVER}", _seconds, _seconds)
ACTION = choice("add", "list", "revoke")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("action", type=ACTION.argument, choices=ACTION.choices, metavar=ACTION.metavar)
    parser.add_argument("name", nargs="?", metavar="NAME", help="who it is for")
    parser.add_argument(
        "--expires", type=PERIOD.argument, metavar=PERIOD.metavar,
        help=f"after which it ends, or {NEVER} (default: 90d)",
    )  # fmt: skip
    parser.add_argument(
        "--file", metavar="FILE", help=f"the server's token file (default: that of its settings, else {DEFAULT_FILE})"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do it."""
    if (arguments.name is None) is not (arguments.action == "list"):
        raise UsageError(f"{arguments.action} {'takes no' if arguments.name is not None else 'needs a'} NAME")
    if arguments.expires is not None and arguments.action != "add":
        raise UsageError("--expires goes with add")
    file = arguments.file or configure({}, os.environ).values.get(BY_NAME["token_file"].name) or DEFAULT_FILE
    path = os.path.realpath(file)
    return {"add": _add, "list": _list, "revoke": _revoke}[arguments.action](path, arguments)


def _add(path: str, arguments: argparse.Namespace) -> int:
    try:
        check_name(arguments.name)
    except ValueError as error:
        raise UsageError(f"NAME {arguments.name!r}: {error}") from None
    seconds = _seconds("90d") if arguments.expires is None else arguments.expires
    expires = None if seconds == float("inf") else float(int(time.time() + seconds))
    text = new_token()
    with edited(path) as file:
        file.text = add_line(file.text, str(Token(arguments.name, digest_of(text), expires)))
    print(text)
    until = "never expires" if expires is None else f"expires at {time_text(expires)}"
    say(
        f"remote-gym tokens: this is {arguments.name}'s token, and is shown this once; it {until}. The client passes "
        f"it as token=, or sets REMOTE_GYM_TOKEN; the server has --token-file {path}"
    )
    return 0


def _list(path: str, _arguments: argparse.Namespace) -> int:
    tokens, wrong = read_tokens(read_file(path))
    width = max((len(token.name) for token in tokens), default=0)
    for token in tokens:
        print(f"{token.name:<{width}}  {token.digest.hex()[:8]}  {time_text(token.expires)}{_state(token)}")
    for line in wrong:
        say(f"remote-gym tokens: {path}: {line}")
    return 1 if wrong else 0


def _state(token: Token) -> str:
    return "  expired" if token.has_expired() else ""


def _revoke(path: str, arguments: argparse.Namespace) -> int:
    read_file(path)  # says if there is none
    with edited(path) as file:
        file.text, count = without(file.text, arguments.name)
        if not count:
            names = sorted({token.name for token in read_tokens(file.text)[0]})
            raise MisuseError(
                f"{path} has no token of {arguments.name!r}; it has those of {', '.join(names) or 'nobody'}"
            )
    say(f"remote-gym tokens: {count} of {arguments.name} {'is' if count == 1 else 'are'} no more")
    return 0
