"""Who travels next to a worker for which several commands wait."""

from __future__ import annotations

from collections import deque
from typing import Any

from remote_gym.ipc.commands import AttachRows, BuildGroup, BuildMore, CloseGroup, Command, HostingOptions, StepGroup
from remote_gym.pool.rounds import next_round


def build(group: int, rebuilt: bool = False) -> BuildGroup:
    return BuildGroup(group, "x", b"", b"", None, [group], 0, HostingOptions(""), None, False, None, rebuilt)


def rounds(*commands: Command) -> list[list[Command]]:
    """Return the rounds in which these travel if nothing else comes."""
    waiting: deque[Any] = deque((command, None) for command in commands)
    found = []
    while waiting:
        chosen, waiting = next_round(waiting)
        found.append([command for command, _ in chosen])
    return found


def test_what_is_quick_travels_together_in_order() -> None:
    quick = [StepGroup(2, None, b""), CloseGroup(3), AttachRows(1, 1, 1), StepGroup(1, None, b"")]
    assert rounds(*quick) == [quick]


def test_of_what_is_built_for_opening_one_travels_last() -> None:
    step, close = StepGroup(9, None, b""), CloseGroup(8)
    assert rounds(build(1), step, build(2), BuildMore(3), close) == [
        [step, close, build(1)],
        [build(2)],
        [BuildMore(3)],
    ]


def test_what_is_built_again_keeps_its_place_before_what_is_asked_of_it() -> None:
    again = [build(1, rebuilt=True), AttachRows(1, 1, 1), StepGroup(1, None, b"")]
    assert rounds(build(2), *again) == [[*again, build(2)]]
