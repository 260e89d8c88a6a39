"""No I/O: which of the commands that wait for a worker travel in its next round."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from remote_gym.ipc.commands import BuildGroup, BuildMore, Command

Waiting = tuple[Command, Callable[[Any], None]]
"""A command, and who is to be told its result."""


def next_round(waiting: deque[Waiting]) -> tuple[deque[Waiting], deque[Waiting]]:
    """Return what travels next, in order, and what waits on.

    All travel together, but of those that build for sessions being opened only the first, as the last of the round:
    whoever steps waits for one slice of building, however many sessions are opened.
    """
    opening = deque(one for one in waiting if _opens(one[0]))
    if not opening:
        return waiting, opening
    chosen = deque(one for one in waiting if not _opens(one[0]))
    chosen.append(opening.popleft())
    return chosen, opening


def _opens(command: Command) -> bool:
    """Return whether `command` is for a session being opened: nothing else about its group comes before the answer."""
    return type(command) is BuildMore or (type(command) is BuildGroup and not command.rebuilt)
