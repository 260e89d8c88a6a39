"""The user's terminal: ``remote-gym top``. What servers do, live: who is there, how fast, what is slow."""

from __future__ import annotations

from remote_gym.cli.top.command import DESCRIPTION, add_arguments, run, words

__all__ = ["DESCRIPTION", "add_arguments", "run", "words"]
