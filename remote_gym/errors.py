"""No I/O: every error a user of the package can meet, as one tree.

::

    RemoteGymError
    ├── ConnectError          could not reach a server at host:port; lists the likely causes
    ├── RefusedError          the server answered no; `limit` names which of its limits or rules
    ├── EnvironmentRaised     an environment raised; env index and remote traceback
    │   └── EnvironmentNeedsReset   (also gymnasium.error.ResetNeeded)
    ├── EnvironmentLost       the worker of an environment died or hung; exit code or signal, stderr tail
    ├── SessionLost           the server no longer holds this session; `reason` says why
    ├── ProtocolError         the peer sent something the contract does not allow (a bug, or another version)
    └── MisuseError           the caller passed something wrong (also a ValueError)
        └── CodecError        a value that cannot travel, named by its path

Where Gymnasium has an error of its own for a misuse (``AlreadyPendingCallError``, ``NoAsyncCallError``,
``ClosedEnvironmentError``, ``ResetNeeded``), that one is raised.
"""

from __future__ import annotations

from collections.abc import Sequence

from remote_gym.gym import ResetNeeded


class RemoteGymError(Exception):
    """Base of every error this package raises on purpose."""


class ConnectError(RemoteGymError):
    """The server could not be reached, or the TLS handshake with it failed.

    Attributes:
        address: ``host:port`` that was tried.
        causes: Likely causes, most likely first.
    """

    def __init__(self, address: str, summary: str, causes: Sequence[str] = ()) -> None:
        """State the address, what happened and what to look at."""
        self.address = address
        self.summary = summary
        self.causes = tuple(causes)
        lines = [f"cannot connect to {address}: {summary}"]
        lines += [f"  - {cause}" for cause in self.causes]
        super().__init__("\n".join(lines))


class RefusedError(RemoteGymError):
    """The server refused a request; nothing was executed and the session, if there was one, goes on.

    Attributes:
        limit: Name of the limit or rule that refused, e.g. ``"max_envs"``, ``"row_memory"`` or ``"draining"``.
    """

    def __init__(self, message: str, limit: str = "") -> None:
        """State what was refused and by which limit."""
        self.limit = limit
        super().__init__(message)


class EnvironmentRaised(RemoteGymError):
    """An environment raised an exception in its worker; the worker and all other environments go on.

    Attributes:
        env_index: Row of the environment in the client's batch.
        remote_type: Qualified name of the exception type, e.g. ``"builtins.ZeroDivisionError"``.
        remote_traceback: The traceback as the worker printed it.
    """

    def __init__(self, message: str, env_index: int = 0, remote_type: str = "", remote_traceback: str = "") -> None:
        """State what the environment raised, where, and the remote traceback."""
        self.env_index = env_index
        self.remote_type = remote_type
        self.remote_traceback = remote_traceback
        super().__init__(f"{message}\n\nRemote traceback:\n{remote_traceback}" if remote_traceback else message)


class EnvironmentNeedsReset(EnvironmentRaised, ResetNeeded):
    """An environment was stepped or rendered before the reset it needs."""


class EnvironmentLost(RemoteGymError):
    """The worker process of an environment died or was killed for hanging.

    Attributes:
        env_index: Row of the environment in the client's batch.
        reason: Exit code or signal, e.g. ``"killed by SIGKILL"``, ``"exit code 3"``, ``"hung in step"``.
        stderr_tail: The last lines the worker wrote, oldest first.
    """

    def __init__(self, message: str, env_index: int = 0, reason: str = "", stderr_tail: str = "") -> None:
        """State which environment was lost, how its worker ended and what it last said."""
        self.env_index = env_index
        self.reason = reason
        self.stderr_tail = stderr_tail
        super().__init__(f"{message}\n\nLast output of the worker:\n{stderr_tail}" if stderr_tail else message)


class SessionLost(RemoteGymError):
    """The server no longer holds this session, so its environments are gone.

    Attributes:
        reason: ``"SERVER_RESTARTED"``, ``"EXPIRED"``, ``"FENCED"``, ``"CLOSED"``, ``"UNREACHABLE"`` or ``"BROKEN"``.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        """State the exact reason and what it means."""
        self.reason = reason
        super().__init__(f"session lost: {reason}" + (f" ({detail})" if detail else ""))


class ProtocolError(RemoteGymError):
    """The peer sent a message that the contract does not allow, or speaks no common protocol version."""


class MisuseError(RemoteGymError, ValueError):
    """The caller passed something wrong; nothing was sent and the next good call works."""


class CodecError(MisuseError):
    """A value cannot travel.

    Attributes:
        path: Where the value sits, e.g. ``"info['contacts'][3]"``.
    """

    def __init__(self, message: str, path: str = "") -> None:
        """State where the value sits and why it cannot travel."""
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)
