"""No I/O: how a worker ended, in words, and what its owners are told of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from remote_gym.ipc.progress import NO_GROUP


@dataclass(frozen=True)
class WorkerLost:
    """Why a command has no result: the worker is gone."""

    reason: str  # "killed by SIGKILL", "exit code 3", "hung in step"
    env_id: int  # whose turn it was; the last one's if it was idle
    group: int = NO_GROUP  # whose command ran; NO_GROUP if none did
    tails: Mapping[int, str] = field(default_factory=dict)  # group -> the last lines of its own environments

    def tail(self, group: int) -> str:
        """Return the last lines that environments of `group` wrote, and nobody else."""
        return self.tails.get(group, "")


UNKNOWN_CODE = 255
"""What asyncio tells of a process whose end somebody else has taken note of."""


def describe_exit(code: int, through_a_command: bool = False) -> str:
    """Return an exit code of `subprocess` in words.

    Args:
        code: The exit code; minus the signal's number, if one has ended the process.
        through_a_command: Whether it is that of a command that ran the process: such say signals as shells do.
    """
    if through_a_command and 128 < code <= 128 + signal.NSIG:
        code = 128 - code
    if code == UNKNOWN_CODE and signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        return "ended, and how is unknown: the server's process ignores SIGCHLD"
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
