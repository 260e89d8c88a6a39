"""Server process: file descriptors, which run out before anything else where the limit is the usual 1,024.

A connection takes one, a session two, a worker seven. Connections and sessions leave each other room; what a new worker
in place of a dead one needs, the pool holds back for it.
"""

from __future__ import annotations

import os

from remote_gym.server.refusals import RefusalError

RESERVED = 32
"""Left over by sessions: their rows travel to the workers as descriptors, and logs and the like want some too."""


def connection_limit() -> int | None:
    """Return how many connections a server may hold: half of what the process may open; None if that is not limited."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(1, soft // 2)


def check_descriptors() -> None:
    """Refuse a session if it would take the last descriptors.

    Raises:
        RefusalError: It would.
    """
    held: list[int] = []
    try:
        held += (os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVED))
    except OSError as error:
        raise RefusalError(
            "descriptors",
            f"the server has no file descriptors left for another session ({error.strerror}): its owner may raise the "
            f"limit (ulimit -n), or others may close theirs",
        ) from error
    finally:
        for descriptor in held:
            os.close(descriptor)
