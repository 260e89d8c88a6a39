"""Trainer process: the one place where what the server reports, or fails to, becomes an exception.

Its text is a peer's: cut to a sane length here, whatever it claims to be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.errors import (
    ConnectError,
    EnvironmentLost,
    EnvironmentNeedsReset,
    EnvironmentRaised,
    MisuseError,
    ProtocolError,
    RefusedError,
    RemoteGymError,
    SessionLost,
    TimedOut,
    also,
    raised,
)
from remote_gym.messages import Failure, FailureKind, Refused
from remote_gym.texts import MAX_DETAIL_CHARACTERS, MAX_NAME_BYTES, printable, shortened

_MISUSE_LIMITS = frozenset({"request", "space"})
"""Refusals of what the caller asked for, not of how much."""

_ATTRIBUTE_LIMITS = frozenset({"allow_call", "allow_set"})
"""Refusals of names that the server's owner has not listed."""


MAX_LINE = 400
"""Characters of what a server says where no environment of ours has said it: it goes to terminals, as one line."""

AUTHENTICATION = "authentication"
"""The rule by which a server refuses who connects, as `RefusedError.limit` has it."""


def unreadable(peer: object, error: Exception) -> Exception:
    """Return the exception for an answer of `peer` that could not be read; `error` is what reading it has raised.

    What a server sends may provoke anything in msgpack, NumPy or here. Whatever it was: the server broke the contract,
    and it is a `ProtocolError`. Only a warning stays one: whoever turns those into errors wants to see them.
    """
    if isinstance(error, Warning):
        return error
    text = str(error) if isinstance(error, RemoteGymError) else f"{type(error).__name__}: {error}"
    return ProtocolError(f"{peer} sent what the contract does not allow: {printable(text, MAX_LINE)}")


def not_opened(peer: object, ended: CarrierEnded) -> RemoteGymError:
    """Return the exception for a session that could not be opened, as the carrier has `ended`."""
    if ended.end is End.STRANGER:
        return not_taken(peer, str(ended))
    if ended.end is End.FOREIGN:
        return ProtocolError(f"{peer} is a gRPC server, but not one of remote_gym: {ended}")
    if ended.end is End.MISUNDERSTOOD:
        return ProtocolError(f"{peer} did not understand us: {ended}")
    return ConnectError(str(peer), f"the connection broke while the session was opened: {ended}")


def failure_error(failure: Failure) -> RemoteGymError:
    """Return the exception for what went wrong in one environment."""
    index, kind = failure.index, shortened(failure.type, MAX_NAME_BYTES)
    message, detail = shortened(failure.message), shortened(failure.detail, MAX_DETAIL_CHARACTERS)
    if failure.kind in (FailureKind.LOST, FailureKind.GONE):
        return EnvironmentLost(message or f"environment {index} was lost: {kind}", index, kind, detail)
    if failure.kind is FailureKind.NEEDS_RESET:
        return EnvironmentNeedsReset(f"environment {index} needs a reset: {message}", index, kind, detail)
    if failure.kind is FailureKind.INVALID:
        return _raised(failure)(message, index)
    return _raised(failure)(f"environment {index} raised {kind}: {message}", index, kind, detail)


def _raised(failure: Failure) -> type[EnvironmentRaised]:
    """Return the type of error for what an environment has raised: one of ours, whatever a peer names."""
    return raised(failure.base or failure.type)


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
    message, limit = shortened(refused.message), shortened(refused.limit, MAX_NAME_BYTES)
    if refused.failure is not None:
        failure = refused.failure
        kind, detail = shortened(failure.type, MAX_NAME_BYTES), shortened(failure.detail, MAX_DETAIL_CHARACTERS)
        error = EnvironmentLost if failure.kind is FailureKind.LOST else _raised(failure)
        return error(message, failure.index, kind, detail)
    if limit == "protocol":
        return ProtocolError(message)
    if limit in _MISUSE_LIMITS:
        return MisuseError(message)
    # To whoever asks for it, an attribute that is not listed is not there.
    error_type = also(RefusedError, AttributeError) if limit in _ATTRIBUTE_LIMITS else RefusedError
    return error_type(message, limit)


def not_taken(peer: object, detail: str) -> RefusedError:
    """Return the exception for a server that takes nobody by what was shown: no retry will do."""
    return RefusedError(f"{peer} takes no connection of ours: {printable(detail, MAX_LINE)}", AUTHENTICATION)


def late(name: str, timeout: float | None) -> TimedOut:
    """Return the exception for a `timeout` while waiting for what `name` began, in Gymnasium's words."""
    return TimedOut(
        f"The call to `{name}_wait` has timed out after {timeout} second(s). Nothing is lost: the next `{name}_wait` "
        f"gets the result."
    )


def session_lost(reason: str, detail: str) -> SessionLost:
    """Return the exception for a session of which the server says that it is gone."""
    return SessionLost(printable(reason), shortened(detail))


def used_within() -> RemoteGymError:
    """Return the exception for whoever waits for what a call waits for that a signal's handler has interrupted."""
    return RemoteGymError(
        "the environments were used by a signal's handler in the middle of a call that waits for them, and which goes "
        "on afterwards: only `close` may be called there"
    )
