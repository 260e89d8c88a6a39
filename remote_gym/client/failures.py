"""Trainer process: the one place where what the server reports becomes an exception."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remote_gym.batches import Failure, FailureKind, Refused
from remote_gym.errors import (
    EnvironmentLost,
    EnvironmentNeedsReset,
    EnvironmentRaised,
    MisuseError,
    ProtocolError,
    RefusedError,
    RemoteGymError,
)

_MISUSE_LIMITS = frozenset({"request", "space"})
"""Refusals of what the caller asked for, not of how much."""


def failure_error(failure: Failure) -> RemoteGymError:
    """Return the exception for what went wrong in one environment."""
    index = failure.index
    if failure.kind in (FailureKind.LOST, FailureKind.GONE):
        return EnvironmentLost(
            failure.message or f"environment {index} was lost: {failure.type}", index, failure.type, failure.detail
        )
    if failure.kind is FailureKind.NEEDS_RESET:
        return EnvironmentNeedsReset(
            f"environment {index} needs a reset: {failure.message}", index, failure.type, failure.detail
        )
    if failure.kind is FailureKind.INVALID:
        return EnvironmentRaised(failure.message, index)
    return EnvironmentRaised(
        f"environment {index} raised {failure.type}: {failure.message}", index, failure.type, failure.detail
    )


def relocated(failure: Failure, first: int) -> Failure:
    """Return `failure` with the env index of the whole batch, for the server whose first environment is `first`."""
    theirs, ours = f"environment {failure.index}", f"environment {first + failure.index}"
    return replace(failure, index=first + failure.index, message=failure.message.replace(theirs, ours, 1))


def first_failure(failures: Sequence[Failure]) -> RemoteGymError:
    """Return the exception for the failure with the lowest env index; it names the others."""
    ordered = sorted(failures, key=lambda failure: failure.index)
    error = failure_error(ordered[0])
    if len(ordered) > 1 and hasattr(error, "add_note"):
        others = ", ".join(str(failure.index) for failure in ordered[1:21])
        error.add_note(f"{len(ordered) - 1} more environments failed in the same call: {others}")
    return error


def refusal(refused: Refused) -> RemoteGymError:
    """Return the exception for a refused opening or request."""
    if refused.failure is not None and refused.failure.kind is FailureKind.LOST:
        return EnvironmentLost(refused.message, refused.failure.index, refused.failure.type, refused.failure.detail)
    if refused.failure is not None:
        failure = refused.failure
        return EnvironmentRaised(refused.message, failure.index, failure.type, failure.detail)
    if refused.limit == "protocol":
        return ProtocolError(refused.message)
    if refused.limit in _MISUSE_LIMITS:
        return MisuseError(refused.message)
    return RefusedError(refused.message, refused.limit)
