"""The user's terminal: ``remote-gym trace``. One recorded step, or another call, as a waterfall."""

from __future__ import annotations

import argparse
from pathlib import Path

from remote_gym.cli.terminal import UsageError, say
from remote_gym.cli.waterfall import aligned, as_svg, as_text, chosen, read_spans, roots, summary
from remote_gym.texts import printable

DESCRIPTION = (
    "Draw what was recorded of one step by client, server and workers: of `remote_gym.otel.to_file` in the trainer and "
    "`serve --trace-file` files of JSON lines. Give both."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("files", metavar="FILE", nargs="+", help="JSON lines of OTLP; those of all processes")
    parser.add_argument(
        "--which", default="slowest", metavar="WHICH",
        help="slowest, median, last, or how the id of a trace begins (default: slowest)",
    )  # fmt: skip
    parser.add_argument("--name", default="step", help="of calls whose names end with it (default: step)")
    parser.add_argument("--svg", metavar="FILE", help="write it as a picture")
    parser.add_argument("--dark", action="store_true", help="for a dark page")
    parser.add_argument("--summary", action="store_true", help="print what all spans took, by kind, instead of one")


def run(arguments: argparse.Namespace) -> int:
    """Read, and draw."""
    spans = []
    for file in arguments.files:
        try:
            with open(file, encoding="utf-8") as lines:
                spans += read_spans(lines)
        except (OSError, ValueError) as error:
            raise UsageError(f"{file}: {error}") from error
    if not spans:
        raise UsageError("nothing was recorded in these files")
    if arguments.summary:
        print(_shown(summary(roots(spans), arguments.name)))
        return 0
    top = chosen(roots(spans), arguments.name, arguments.which)
    if aligned(top):
        say("remote-gym trace: the machines' clocks differ: spans of another one stand in the middle of what waited")
    print(_shown(as_text(top)))
    if arguments.svg is not None:
        Path(arguments.svg).write_text(as_svg(top, arguments.dark), encoding="utf-8")
    return 0


def _shown(text: str) -> str:
    return "\n".join(printable(line, 400) for line in text.splitlines())
