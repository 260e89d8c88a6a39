"""Calls, attributes and frames: each environment has its own result, and its own failure."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

from remote_gym import values
from remote_gym.failures import FailureKind
from remote_gym.ipc import progress
from remote_gym.ipc.progress import SIZE_BYTES, Board
from remote_gym.worker import calls


class Env:
    """Has what a wrapped environment has for those who ask it."""

    def __init__(self, level: Any) -> None:
        self.level = level

    def raised(self, by: int = 1) -> Any:
        return self.level + by

    def get_wrapper_attr(self, name: str) -> Any:
        return getattr(self, name)

    def set_wrapper_attr(self, name: str, new: Any) -> None:
        setattr(self, name, new)

    def render(self) -> Any:
        return f"frame {self.level}"


def ask(run: Any, *levels: Any) -> tuple[list[Any], list[tuple[int, FailureKind]]]:
    """What environments of these levels, from env index 4 on, answer; None where a failure stands for it."""
    envs: list[Any] = [(4 + at, 10 + at, Env(level)) for at, level in enumerate(levels)]
    result = calls.each(envs, Board(bytearray(SIZE_BYTES)), progress.CALL, run, "result")
    told = [values.unpack(packed) if packed else None for packed in result.values]
    return told, [(failure.index, failure.kind) for failure in result.failures]


def test_a_method_is_called_and_an_attribute_read() -> None:
    assert ask(calls.caller("raised", ([], {"by": 2})), 1, 5) == ([3, 7], [])
    assert ask(calls.caller("level", ([], {})), 1, 5) == ([1, 5], [])


def test_without_arguments_nothing_is_called() -> None:
    assert ask(calls.caller("raised", None), 1) == ([{"callable": True}], [])
    assert ask(calls.caller("level", None), 1) == ([{"value": 1}], [])


def test_each_is_set_to_its_own() -> None:
    env: Any = Env(0)
    calls.setter("level", [7, 8])(env, 1)
    assert env.level == 8


def test_what_raises_or_cannot_travel_fails_alone() -> None:
    told, failures = ask(calls.caller("raised", ([], {})), 1, "text", 3)
    assert (told, failures) == ([2, None, 4], [(5, FailureKind.RAISED)])
    told, failures = ask(calls.caller("level", ([], {})), object(), 2)
    assert (told, failures) == ([None, 2], [(4, FailureKind.INVALID)])


def test_results_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "MAX_RESULTS_BYTES", 20)
    told, failures = ask(calls.render, 1, 2, 3)
    assert (told, failures) == (["frame 1", "frame 2", None], [(6, FailureKind.INVALID)])


def test_the_board_shows_whose_turn_it_is() -> None:
    board, seen = Board(bytearray(SIZE_BYTES)), []
    envs: list[Any] = [(0, 10, Env(1)), (1, 11, Env(1))]
    calls.each(envs, board, progress.RENDER, lambda *_: seen.append(board.read()), "frame")
    assert seen == [(1, 10, "render"), (2, 11, "render")]


def test_wrappers_are_told_by_the_types_they_are_of() -> None:
    class Outer(gym.wrappers.TimeLimit):
        pass

    env = Outer(gym.wrappers.OrderEnforcing(gym.Env()), 5)
    assert calls.wrapper_types(env)[:2] == [f"{__name__}:{Outer.__qualname__}", "gymnasium.wrappers.common:TimeLimit"]
    assert "gymnasium.wrappers.common:OrderEnforcing" in calls.wrapper_types(env)
    assert calls.wrapper_types(env.unwrapped) == []
    assert calls.caller(calls.WRAPPERS, ([], {}), calls.WRAPPERS)(env, 0) == calls.wrapper_types(env)
