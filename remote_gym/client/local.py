"""Trainer process: a server of its own, for who wants workers on this machine: a child behind a private unix socket."""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any, Protocol, TypeVar, Union

from remote_gym.addresses import UNIX
from remote_gym.errors import ConnectError, MisuseError
from remote_gym.processes import LOCAL_FAILED, LOCAL_READY, refuse_in_a_worker, usable_cores, wait_or_kill


class _Remote(Protocol):
    """A `RemoteVectorEnv`, as far as it is of interest here."""

    _remote: Any


Envs = TypeVar("Envs", bound=_Remote)
Entrypoint = Union[str, "os.PathLike[str]", Callable[..., Any]]

END_SECONDS = 10.0
"""How long a server may take to end, its workers with it, before it is killed."""

# The child finds what this process finds, and is not told by PYTHONPATH, which the environments would see.
_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from remote_gym.server.local import main
main(sys.argv[2])
"""


def local(
    kind: Callable[..., Envs],
    entrypoint: Entrypoint,
    num_envs: int = 1,
    *,
    entrypoint_kwargs: Mapping[str, Any] | None = None,
    num_workers: int | None = None,
    vectorization_mode: str | None = None,
    reconnect_timeout_seconds: float = 5.0,
    **options: Any,
) -> Envs:
    """Make environments whose server is a child of this process, reached by nobody else: no port, no certificates.

    The server ends with them, and with this process, however that ends. Its workers find what this process finds: the
    same interpreter, working directory and ``sys.path``. A script is imported again only if its function is asked for.

    Args:
        kind: `RemoteVectorEnv`, or a subclass.
        entrypoint: What to host: a Gymnasium id, ``module:Id-v0``, ``module:function``, ``file.py`` with
            `create_environment`, or a function that stands at the top of a module.
        num_envs: How many.
        entrypoint_kwargs: For the entrypoint; any values that travel, see `remote_gym.values`.
        num_workers: Processes that share the environments; None: one for each core, and none that would be left without
            environments.
        vectorization_mode: ``"vector_entry_point"`` to host the id's own vector environment.
        reconnect_timeout_seconds: How long to try again if the connection is lost, which here means the server's end.
        options: Other arguments of `RemoteVectorEnv`.

    Raises:
        MisuseError: An argument is wrong, or this is a worker itself.
        ConnectError: The server did not start.
    """
    if num_workers is None and isinstance(num_envs, Integral) and num_envs > 0:  # else it is refused below
        num_workers = min(int(num_envs), usable_cores())
    server = LocalServer(entrypoint, num_workers, vectorization_mode)
    try:
        args = {"entrypoint_kwargs": dict(entrypoint_kwargs)} if entrypoint_kwargs else None
        made = kind(
            server.url, num_envs=num_envs, remote_args=args, reconnect_timeout_seconds=reconnect_timeout_seconds,
            **options,
        )  # fmt: skip
    except BaseException:
        server.close()
        raise
    made._remote.local = server
    return made


class LocalServer:
    """A server that is reached by this user alone, and lives and dies with this process.

    Closing contract: `close` returns when it has ended, may be called twice; so does the garbage collector, and the end
    of the interpreter. Killed, this process takes it along as well: its standard input ends.

    Attributes:
        url: ``unix:/path`` of its socket.
    """

    def __init__(self, entrypoint: Entrypoint, num_workers: int | None, vectorization_mode: str | None) -> None:
        """Start it; returns when it listens.

        Raises:
            MisuseError: The entrypoint is of no use, or what the server says of the arguments.
            ConnectError: It ended before it listened; what it said is on standard error.
        """
        refuse_in_a_worker()
        args = {"entrypoint": entrypoint_text(entrypoint), "vectorization_mode": vectorization_mode}
        self._folder = tempfile.mkdtemp(prefix="remote-gym-")  # of mode 0700
        self.url = UNIX + os.path.join(self._folder, "socket")
        asked = json.dumps({"args": args, "url": self.url, "num_workers": num_workers})
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CODE, paths, asked],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # a Ctrl-C is the trainer's to deal with
        )
        self._end = weakref.finalize(self, _end, self._process, self._folder)
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline().rstrip("\n")
            if line.startswith(LOCAL_FAILED):
                raise MisuseError(line.removeprefix(LOCAL_FAILED))
            if line != LOCAL_READY:
                raise ConnectError(self.url, "the local server ended before it listened; it has said why on stderr")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End it."""
        self._end()


def _end(process: subprocess.Popen[str], folder: str) -> None:
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    wait_or_kill(process, END_SECONDS)
    process.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


def entrypoint_text(entrypoint: Entrypoint) -> str:
    """Return an entrypoint as a server takes it: a function by the name that a worker can import it by.

    Raises:
        MisuseError: It has no such name: a lambda, a function within another, a partial, a method.
    """
    if isinstance(entrypoint, (str, os.PathLike)):
        return os.fspath(entrypoint)
    name = getattr(entrypoint, "__qualname__", "")
    module = inspect.getmodule(entrypoint)
    if not callable(entrypoint) or module is None or getattr(module, name, None) is not entrypoint:
        raise MisuseError(
            f"{entrypoint!r} cannot be imported by a worker: give a function that stands at the top of a module, a "
            f"registered id, or a file with create_environment; its arguments go into entrypoint_kwargs"
        )
    if module.__name__ == "__main__":
        file = getattr(module, "__file__", None)
        if file is None:
            raise MisuseError(f"{name} is a function of an interactive session, which no worker can import: use a file")
        folder, script = os.path.split(os.path.abspath(file))
        stem, extension = os.path.splitext(script)
        if extension != ".py" or not stem.isidentifier() or folder not in map(os.path.abspath, sys.path):
            raise MisuseError(f"{name} is a function of {file}, which cannot be imported by name: put it in a module")
        return f"{stem}:{name}"
    return f"{module.__name__}:{name}"
