"""The user's terminal: its colours, and a parser whose errors are one command's own and say what was meant."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import sys
from collections.abc import Iterable
from typing import IO, Any, NoReturn

from remote_gym.errors import MisuseError

RED, GREEN, YELLOW, BOLD = "31", "32", "33", "1"


class UsageError(MisuseError):
    """A flag, a variable or a file of settings says what cannot be; the command has done nothing yet."""


class Parser(argparse.ArgumentParser):
    """A parser of whole flags: an abbreviation would mean something else once there is another flag like it."""

    def __init__(self, **options: Any) -> None:
        """Take what `argparse.ArgumentParser` takes."""
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Print this command's usage and what is wrong, and exit with 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{paint(f'{self.prog}: error:', RED, sys.stderr)} {message}\n")

    def refuse(self, unknown: list[str]) -> NoReturn:
        """Say of what nobody knows, flags or arguments, what it may have meant."""
        flag = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
        if flag is None:
            self.error(f"unexpected argument {unknown[0]!r}")
        known = [name for action in self._actions for name in action.option_strings]
        self.error(f"there is no flag {flag}{did_you_mean(flag, known) or f'; see {self.prog} --help'}")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the rest of a sentence that proposes what is like `word`, empty if nothing is."""
    names = list(known)
    begun = [name for name in names if name.startswith(word) and len(word.strip("-")) > 1]
    like = difflib.get_close_matches(word, names, n=2)
    meant = begun[:4] or like
    return f"; did you mean {' or '.join(meant)}?" if meant else ""


def hyphens(arguments: Iterable[str]) -> list[str]:
    """Return a command line with each flag as the parser spells it: ``--server_certificate`` has hyphens there."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return [_hyphens(word) if word.startswith("--") else word for word in words[:end]] + words[end:]


def _hyphens(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value


def say(text: str) -> None:
    """Write a line to stderr, if there is one (`print` would take stdout) and it is not broken."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)


def paint(text: str, colour: str, stream: IO[str] | None) -> str:
    """Return `text` in a colour, where `stream` is a terminal and https://no-color.org does not forbid it."""
    return f"\x1b[{colour}m{text}\x1b[0m" if has_colours(stream) else text


def has_colours(stream: IO[str] | None) -> bool:
    """Tell whether what is written to `stream` may be coloured."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream is not None and not stream.closed and stream.isatty()
