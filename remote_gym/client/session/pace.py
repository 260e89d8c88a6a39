"""Trainer process, no I/O: how often, and for how long, a session looks for its server."""

from __future__ import annotations

from remote_gym.client.jitter import around

BACK_OFF_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Waits before the attempts to attach again, the last one repeated; each is jittered by half."""

MAX_UNHEARD = 3
"""How often a session may be taken back from whoever has fenced it: two clients must not fight over it for ever."""

STANDS_SECONDS = 1.0
"""A carrier that ends sooner, without having brought an answer, counts as an attempt to attach that failed."""

MIN_PATIENCE_SECONDS = 0.1
"""Even without any patience one attempt to attach is made, and given this long."""

ATTACHES_TO_CLOSE_SECONDS = 1.0
"""For how long a session that is to be closed, and whose carrier has ended, is attached again only to be closed. A
server that is there is found within this; one that is not must not delay the end of every program."""

ORPHANED_SECONDS = 60.0
"""For how much longer than its lease a session is looked for that was given up: the server may have missed its client
later than we have missed the server."""

ORPHANED_PAUSE_SECONDS = 1.0
"""Between attempts to find it."""


def back_off(attempt: int) -> float:
    """Return the seconds to wait before an attempt, counted from 0."""
    return around(BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)])


def seconds_to_close(orphaned_lease_seconds: float | None) -> float:
    """Return for how long a session that is to end is attached again only to be closed.

    Of one that was given up, its lease says so; None: it is another one.
    """
    return ATTACHES_TO_CLOSE_SECONDS if orphaned_lease_seconds is None else orphaned_lease_seconds + ORPHANED_SECONDS
