"""Server process, no I/O: which sessions may share workers, and so delays, crashes and what environments can read."""

from __future__ import annotations

from typing import Final, Literal

from remote_gym.pool import WARM_SECONDS

Isolation = Literal["principal", "session", "shared"]
"""Workers are shared by the sessions of one principal, by nobody, or by all."""

ISOLATIONS: Final = ("principal", "session", "shared")


def tenant_of(isolation: Isolation, principal_name: str, session_id: bytes) -> str:
    """Return what the sessions that share workers have in common; the pool knows no principals.

    Args:
        isolation: The server's.
        principal_name: Whose session it is.
        session_id: Which one it is.
    """
    if isolation == "shared":
        return ""
    return session_id.hex() if isolation == "session" else principal_name


def warm_seconds(isolation: Isolation) -> float:
    """Return how long workers are kept for a tenant that hosts nothing any more: a session does not come back."""
    return 0.0 if isolation == "session" else WARM_SECONDS
