"""Both sides, no I/O: which of this package's processes this one is, and on how many cores it may run."""

from __future__ import annotations

import os
import sys

from remote_gym.errors import MisuseError

WORKER_MODULE = "remote_gym.worker.main"
"""What a worker runs as its `__main__`."""

LOCAL_READY, LOCAL_FAILED = "ready", "failed "
"""How the one line of output of a trainer's own server begins: it listens, or why it does not."""


def usable_cores() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def refuse_in_a_worker() -> None:
    """Refuse to start a server in a worker, which has imported a script that starts servers, and so on without end.

    Raises:
        MisuseError: This is a worker; says what to do.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if getattr(spec, "name", "") == WORKER_MODULE:
        raise MisuseError(
            "no server is created in a worker: the worker of another one has imported this as its entrypoint. Put what "
            'starts a server, and all else that only a script does, under `if __name__ == "__main__":`'
        )
