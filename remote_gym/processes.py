"""Both sides, no I/O: which of this package's processes this one is, on how many cores it may run, how a child ends."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from remote_gym.errors import MisuseError

WORKER_MODULE = "remote_gym.worker.main"
"""What a worker runs as its `__main__`."""

LOCAL_READY, LOCAL_FAILED = "ready", "failed "
"""How the one line of output of a trainer's own server begins: it listens, or why it does not."""


SERVING: set[int] = set()
"""Threads, by `threading.get_ident`, that run a server: whoever waits in one for an answer of that server gets none."""


def usable_cores() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def wait_or_kill(process: subprocess.Popen[Any], seconds: float) -> None:
    """Return when a child that was told to end has ended: within `seconds`, as it is killed after that."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


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
