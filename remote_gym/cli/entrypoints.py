"""The user's terminal: the environment that a command is to try or to serve."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from remote_gym.cli.options import BY_NAME, add_flag
from remote_gym.cli.terminal import UsageError, did_you_mean


def add_entrypoint(parser: argparse.ArgumentParser) -> None:
    """Declare what a command that tries an environment takes: which, and its keyword arguments."""
    add_flag(parser, BY_NAME["entrypoint"], "entrypoint")
    kwargs = BY_NAME["entrypoint_kwargs"]
    add_flag(parser, kwargs, *kwargs.others, kwargs.flag, dest=kwargs.name, default={})


def check_file(entrypoint: str, said_by: str) -> None:
    """Look whether an entrypoint that names a file has one.

    Raises:
        UsageError: It has none; proposes those that are like it.
    """
    if entrypoint.endswith(".py") and not os.path.isfile(entrypoint):
        folder = os.path.dirname(entrypoint)
        scripts = [os.path.join(folder, path.name) for path in Path(folder).glob("*.py")]
        raise UsageError(
            f"{said_by}: {entrypoint!r} does not exist (looked for {os.path.abspath(entrypoint)})"
            f"{did_you_mean(entrypoint, scripts)}"
        )
