"""Parent side: what workers get of the server's process, all of them alike, whatever becomes of that process later.

A worker may be started days after the server was created, by a process that has changed its folder, its ``sys.path``
or its environment variables since. Taken down once, when the server is created.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from remote_gym.errors import MisuseError
from remote_gym.pool.sandbox import Sandbox

logger = logging.getLogger("remote_gym.pool")

HASH_SEED = "PYTHONHASHSEED"
MAX_HASH_SEED = 2**32 - 1
"""What Python takes. Zero is no randomness at all."""

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
"""Set to 1 for workers unless the owner has set them: many workers share the cores already."""


@dataclass(frozen=True)
class Surroundings:
    """What a process was when a server was created in it.

    Attributes:
        executable: The interpreter that it runs, which is the workers'.
        path: Its ``sys.path``, absolute.
        folder: Its working directory; None if that was gone already.
        environment: Its environment variables.
        hash_seed: Of all workers: environments that iterate over sets of strings agree. Who knows it can make strings
            that collide in a dict, so it is in no log and told to no peer.
        sandbox: What workers are kept from; None: nothing.
        prefix: The command, of the owner, that runs the workers' command.
        limits: Bytes that a worker may have, by the keys of `confinement.LIMITS`.
    """

    executable: str
    path: tuple[str, ...]
    folder: str | None
    environment: Mapping[str, str] = field(repr=False)
    hash_seed: int = field(repr=False)
    sandbox: Sandbox | None = None
    prefix: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def here(cls, hash_seed: int | None = None) -> Surroundings:
        """Take down this process as it is now.

        Args:
            hash_seed: For the workers; None: this process's own if `PYTHONHASHSEED` says it, else a random one.

        Raises:
            MisuseError: The hash seed is none, or no interpreter is known.
        """
        if not sys.executable:
            raise MisuseError(
                "nobody knows where the interpreter of this process is, so that no worker can be started: set "
                "sys.executable to the path of a Python before you create a server"
            )
        environment = dict(os.environ)
        try:
            folder = os.getcwd()
        except OSError:
            folder = None
        entries = [entry for entry in sys.path if isinstance(entry, str) and "\0" not in entry]
        path = tuple(
            entry if folder is None else os.path.join(folder, entry).rstrip(os.sep) or os.sep for entry in entries
        )
        executable = sys.executable
        if os.sep in executable and folder is not None:
            executable = os.path.join(folder, executable)
        return cls(executable, path, folder, environment, _hash_seed(hash_seed, environment.get(HASH_SEED, "")))

    def usable_folder(self) -> str:
        """Return where a worker starts: a folder that cannot be entered any more must not keep it from starting."""
        if self.folder is not None and os.path.isdir(self.folder) and os.access(self.folder, os.X_OK):
            return self.folder
        logger.warning("workers start in %s: the folder that the server was created in is gone", os.sep)
        return os.sep

    def variables(self) -> tuple[dict[str, str], dict[str, str | None]]:
        """Return a worker's environment variables, and what to set back once it runs."""
        environment = dict(self.environment) if self.sandbox is None else self.sandbox.variables(self.environment)
        for name in THREAD_VARIABLES:
            environment.setdefault(name, "1")
        ours = {
            HASH_SEED: str(self.hash_seed),
            "PYTHONUNBUFFERED": "1",
            "PYTHONSAFEPATH": "1",  # nothing that lies in the folder stands before the standard library
            # The interpreter's own, also where they were given as options.
            "PYTHONOPTIMIZE": str(sys.flags.optimize),
            "PYTHONUTF8": str(sys.flags.utf8_mode),
            "PYTHONDONTWRITEBYTECODE": "1" if sys.flags.dont_write_bytecode else "",
        }
        environment.update(ours)
        return environment, {name: self.environment.get(name) for name in ours}

    def command(self, folder: str) -> list[str]:
        """Return what a worker's own arguments follow, where it starts in `folder`."""
        walls = [] if self.sandbox is None else self.sandbox.command((*self.path, folder), folder)
        return [*walls, *self.prefix, self.executable]

    def confinement(self, folder: str) -> tuple[dict[str, int], bool, list[str]]:
        """Return what a worker that starts in `folder` forbids itself: see `Start`."""
        hidden = [] if self.sandbox is None else self.sandbox.kept_from((*self.path, folder))
        return dict(self.limits), self.sandbox is not None, hidden

    def packed_path(self) -> bytes:
        """Return `path` for `worker_process.BOOTSTRAP`: variables and arguments would be too short for a long one."""
        return b"\0".join(map(os.fsencode, self.path))


def _hash_seed(asked: int | None, own: str) -> int:
    if asked is not None:
        if not isinstance(asked, int) or isinstance(asked, bool) or not 0 <= asked <= MAX_HASH_SEED:
            raise MisuseError(f"hash_seed must be an integer from 0 to {MAX_HASH_SEED}, got {asked!r}")
        return asked
    if own in ("", "random"):
        return 1 + secrets.randbelow(MAX_HASH_SEED)
    if not (own.isascii() and own.isdigit() and int(own) <= MAX_HASH_SEED):
        raise MisuseError(f"{HASH_SEED}={own!r}: workers would not start; give 'random' or 0 to {MAX_HASH_SEED}")
    return int(own)
