"""Child side: limits of a worker, set before anything of an environment is imported; none can be raised again."""

from __future__ import annotations

import resource
from typing import Mapping, Sequence

from remote_gym.hardening import drop_capabilities, forbid_privileges, forbid_reading, landlock_version
from remote_gym.worker.landlock import restrict

LIMITS = {"memory": resource.RLIMIT_DATA, "file": resource.RLIMIT_FSIZE}
"""What the server may limit, in bytes. The memory is what this process alone has: rows are shared with the server and
are not counted. Not the number of processes, which is counted for the whole user."""


def confine(limits: Mapping[str, int], in_a_sandbox: bool, hidden: Sequence[str] = ()) -> None:
    """Limit this process, and whatever it starts.

    Args:
        limits: Bytes, by the keys of `LIMITS`. A lower limit that it has already stays.
        in_a_sandbox: Whether it also leaves no core dumps, has no privileges and gains none, and is closed to others of
            its user.
        hidden: Files and folders to keep it from, by Landlock.

    Raises:
        OSError: They cannot be hidden, though the server has found that they can.
    """
    for name, most in limits.items():
        _limit(LIMITS[name], most)
    if in_a_sandbox:
        _limit(resource.RLIMIT_CORE, 0)
        forbid_privileges()
        drop_capabilities()
        forbid_reading()
    if hidden:
        restrict(hidden, landlock_version())


def _limit(kind: int, most: int) -> None:
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))
