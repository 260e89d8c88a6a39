"""How a worker ended, in words."""

from __future__ import annotations

import pytest

from remote_gym.pool.exits import WorkerLost, describe_exit


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-11, "killed by SIGSEGV"), (-9, "killed by SIGKILL (out of memory?)")],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_an_unknown_signal_in_words() -> None:
    assert describe_exit(-63) == "killed by signal 63"


def test_last_words_are_told_to_their_own_group_only() -> None:
    lost = WorkerLost("exit code 3", 0, 1, {1: "mine"})
    assert (lost.tail(1), lost.tail(2)) == ("mine", "")


@pytest.mark.parametrize(
    ("code", "words"), [(139, "killed by SIGSEGV"), (3, "exit code 3"), (-15, "killed by SIGTERM")]
)
def test_a_command_in_between_says_signals_as_shells_do(code: int, words: str) -> None:
    assert describe_exit(code, through_a_command=True) == words
