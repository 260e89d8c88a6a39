"""What a server reports, or fails to, as an exception: its type, whom it names, and how much of a peer's text."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import gymnasium
import pytest

from remote_gym import (
    EnvironmentLost,
    EnvironmentRaised,
    MisuseError,
    ProtocolError,
    RefusedError,
    RemoteGymError,
    SessionLost,
    TimedOut,
)
from remote_gym.client.failures import (
    failure_error,
    first_failure,
    late,
    not_taken,
    refusal,
    relocated,
    session_lost,
    unreadable,
)
from remote_gym.messages import Failure, FailureKind, Refused

LONG = "\x1b[2J" + "long " * 10**6


def failure(kind: FailureKind, index: int = 3, **fields: Any) -> Failure:
    return replace(Failure(index, kind, "my.Error", "no", "the detail"), **fields)


# In one environment


@pytest.mark.parametrize(
    "type_, base, kind",
    [
        ("builtins.ValueError", "builtins.ValueError", ValueError),
        ("my.Error", "builtins.KeyError", KeyError),
        ("builtins.ZeroDivisionError", "", ZeroDivisionError),
        ("gymnasium.error.InvalidAction", "", gymnasium.error.InvalidAction),
        ("builtins.StopIteration", "builtins.StopIteration", EnvironmentRaised),
        ("os.system", "os.system", EnvironmentRaised),
        ("builtins.SystemExit", "builtins.KeyboardInterrupt", EnvironmentRaised),
    ],
)
def test_what_an_environment_raised_is_an_error_of_its_type(type_: str, base: str, kind: type[Exception]) -> None:
    error = failure_error(failure(FailureKind.RAISED, type=type_, base=base))
    assert isinstance(error, EnvironmentRaised) and isinstance(error, kind)
    assert not isinstance(error, (StopIteration, SystemExit, KeyboardInterrupt))
    assert (error.env_index, error.remote_type, error.remote_traceback) == (3, type_, "the detail")
    assert str(error).startswith(f"environment 3 raised {type_}: no") and "the detail" in str(error)


@pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.GONE])
@pytest.mark.parametrize(
    "message, text", [("", "environment 3 was lost: my.Error"), ("gone for good", "gone for good")]
)
def test_a_lost_environment(kind: FailureKind, message: str, text: str) -> None:
    error = failure_error(failure(kind, message=message))
    assert isinstance(error, EnvironmentLost) and str(error).startswith(text)
    assert (error.env_index, error.reason, error.stderr_tail) == (3, "my.Error", "the detail")


def test_an_environment_that_needs_a_reset() -> None:
    error = failure_error(failure(FailureKind.NEEDS_RESET))
    assert isinstance(error, gymnasium.error.ResetNeeded) and isinstance(error, EnvironmentRaised)
    assert str(error).startswith("environment 3 needs a reset: no")


def test_a_result_that_does_not_fit() -> None:
    error = failure_error(failure(FailureKind.INVALID))
    assert type(error) is EnvironmentRaised and str(error) == "no" and error.env_index == 3


@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_peers_texts_are_cut(kind: FailureKind) -> None:
    error = failure_error(Failure(0, kind, LONG, LONG, LONG, LONG))
    assert len(str(error)) < 80_000
    assert all(len(str(value)) < 80_000 for value in vars(error).values())


def test_of_several_the_first_is_raised_and_names_the_others() -> None:
    kinds = {5: FailureKind.RAISED, 2: FailureKind.LOST, 9: FailureKind.RAISED}
    error = first_failure([failure(kind, index) for index, kind in kinds.items()])
    assert isinstance(error, EnvironmentLost) and error.env_index == 2
    if sys.version_info >= (3, 11):
        assert error.__notes__ == ["2 more environments failed in the same call: 5, 9"]
    many = first_failure([failure(FailureKind.RAISED, index) for index in range(10_000)])
    assert len("".join(getattr(many, "__notes__", []))) < 300
    assert not hasattr(first_failure([failure(FailureKind.RAISED)]), "__notes__")


def test_one_of_several_servers_counts_from_its_first() -> None:
    moved = relocated(failure(FailureKind.RAISED, 3, message="environment 3 is odd: environment 3"), 10)
    assert (moved.index, moved.message) == (13, "environment 13 is odd: environment 3")
    assert moved.type == "my.Error" and moved.detail == "the detail"


# Of a whole request, or session


@pytest.mark.parametrize(
    "limit, kind",
    [("request", MisuseError), ("space", MisuseError), ("protocol", ProtocolError), ("max_envs", RefusedError),
     ("", RefusedError)],
)  # fmt: skip
def test_a_refusal(limit: str, kind: type[Exception]) -> None:
    error = refusal(Refused(1, limit, "no"))
    assert type(error) is kind and str(error) == "no"
    if isinstance(error, RefusedError):
        assert error.limit == limit


@pytest.mark.parametrize(
    "of, kind",
    [(FailureKind.LOST, EnvironmentLost), (FailureKind.RAISED, EnvironmentRaised), (FailureKind.RAISED, KeyError)],
)
def test_a_refusal_for_what_an_environment_did(of: FailureKind, kind: type[Exception]) -> None:
    error: Any = refusal(Refused(0, "max_envs", "could not be built", failure(of, 1, base="builtins.KeyError")))
    assert isinstance(error, kind) and str(error).startswith("could not be built") and error.env_index == 1


@pytest.mark.parametrize("failed", [None, Failure(0, FailureKind.RAISED, LONG, LONG, LONG, LONG)])
def test_a_refusals_texts_are_cut(failed: Failure | None) -> None:
    error = refusal(Refused(0, LONG, LONG, failed))
    assert len(str(error)) < 80_000 and all(len(str(value)) < 80_000 for value in vars(error).values())


def test_a_lost_session() -> None:
    error = session_lost("EXPIRED", "too long")
    assert isinstance(error, SessionLost) and error.reason == "EXPIRED" and "too long" in str(error)
    cut = session_lost(LONG, LONG)
    assert cut.reason.isprintable() and len(str(cut)) < 10_000


def test_a_timeout_says_that_nothing_is_lost() -> None:
    error = late("step", 0.5)
    assert isinstance(error, TimedOut) and isinstance(error, TimeoutError)
    assert "`step_wait` has timed out after 0.5 second(s)" in str(error) and "Nothing is lost" in str(error)


# What cannot be read


@pytest.mark.parametrize(
    "error, text",
    [
        (KeyError("x"), "KeyError: 'x'"),
        (RemoteGymError("odd"), "odd"),
        (MisuseError("odd"), "odd"),
        (MemoryError(), "MemoryError: "),
        (RecursionError("deep"), "RecursionError: deep"),
    ],
)
def test_whatever_reading_raises_the_server_broke_the_contract(error: Exception, text: str) -> None:
    made = unreadable("host:1", error)
    assert type(made) is ProtocolError and str(made) == f"host:1 sent what the contract does not allow: {text}"
    assert len(str(unreadable("host:1", ValueError(LONG)))) < 1_000


def test_what_a_server_says_of_itself_is_nothing_a_terminal_obeys() -> None:
    assert str(unreadable("host:1", ValueError(LONG))).isprintable()
    assert str(not_taken("host:1", LONG)).isprintable()


def test_a_warning_that_was_made_an_error_stays_one() -> None:
    warning = DeprecationWarning("of NumPy's")
    assert unreadable("host:1", warning) is warning
