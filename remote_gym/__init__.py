"""Gymnasium environments that run somewhere else: served by a pool of workers, used as if they were local.

General layout: a folder is a process, or the wire between two. `client` runs in the trainer, `server` and `pool` in the
process that listens, `worker` in its subprocesses; `wire` is between the first two, `ipc` between the last. The modules
beside this one have no I/O and are shared by all. Names are loaded on first use: a client imports no server, a worker
imports no gRPC.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from remote_gym.distribution import warn_of_the_original as _warn_of_the_original
from remote_gym.registration import register as _register
from remote_gym.version import __version__

if TYPE_CHECKING:
    from remote_gym.arguments import RemoteArgs
    from remote_gym.client.environment import RemoteEnvironment
    from remote_gym.client.vector import RemoteVectorEnv
    from remote_gym.custom_spaces import register_space
    from remote_gym.errors import (
        CodecError,
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
    )
    from remote_gym.server.create import create_remote_environment_server
    from remote_gym.server.server import RemoteEnvironmentServer

__all__ = [
    "CodecError",
    "ConnectError",
    "EnvironmentLost",
    "EnvironmentNeedsReset",
    "EnvironmentRaised",
    "MisuseError",
    "ProtocolError",
    "RefusedError",
    "RemoteArgs",
    "RemoteEnvironment",
    "RemoteEnvironmentServer",
    "RemoteGymError",
    "RemoteVectorEnv",
    "SessionLost",
    "TimedOut",
    "__version__",
    "create_remote_environment_server",
    "register_space",
]

_HOMES = {
    "RemoteEnvironment": "remote_gym.client.environment",
    "RemoteVectorEnv": "remote_gym.client.vector",
    "RemoteEnvironmentServer": "remote_gym.server.server",
    "create_remote_environment_server": "remote_gym.server.create",
    "RemoteArgs": "remote_gym.arguments",
    "register_space": "remote_gym.custom_spaces",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'remote_gym' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES.get(name, "remote_gym.errors")), name)
    globals()[name] = value
    return value


_register()
_warn_of_the_original()


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
