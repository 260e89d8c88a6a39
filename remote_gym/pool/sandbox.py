"""Parent side: what workers are kept from, by one flag: the server's secrets, its memory, and more where that can be.

=====================================  =================================================================================
everywhere                             only the variables of a list, and those that the owner adds
every POSIX system                     limits on memory, the size of files and core dumps
Linux                                  no new privileges; the memory, variables and descriptors of the server are closed
Linux with bubblewrap that is usable   no network, a root to read only, a ``/tmp`` and ``/run`` of its own, no processes
                                       but its own, nothing in the folder of the TLS key
=====================================  =================================================================================
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from remote_gym.errors import MisuseError
from remote_gym.pool.bubblewrap import HOME, TEMPORARY, arguments, hiding, takes_sizes, unusable

logger = logging.getLogger("remote_gym.pool")

VARIABLES = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "TMPDIR", "LD_LIBRARY_PATH",
    "PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "*_NUM_THREADS", "OMP_*", "MKL_*", "KMP_*", "NUMBA_*", "CUDA_*",
    "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "JAX_PLATFORMS", "XLA_FLAGS", "MUJOCO_*", "PYOPENGL_*",
    "EGL_*", "MESA_*", "LIBGL_*", "SDL_*", "MPLBACKEND",
)  # fmt: skip
"""Variables that workers in a sandbox have, where the server has them: how to run, and nothing that is secret."""

FILE_BYTES = 2**30
"""How long a file may become that an environment in a sandbox writes, if its owner says nothing else."""

SCRATCH_BYTES = 2**30
"""What an environment behind bubblewrap may write to each folder for temporary files, which are in memory."""

MEMORY_SHARE = 2
"""A worker in a sandbox may have so much of the machine's memory, one part in this many, if its owner says nothing."""


@dataclass(frozen=True)
class Sandbox:
    """What workers are kept from.

    Attributes:
        names: Variables that they have besides `VARIABLES`.
        hidden: Files that they must not read.
        sockets: Unix sockets that they must not reach.
        shown: Files and folders that they must be able to read.
        bubblewrap: The path of its command; empty where its walls do not stand.
        by_landlock: Whether workers keep themselves from what is hidden, in its place.
    """

    names: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    sockets: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    bubblewrap: str = ""
    by_landlock: bool = False

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return what a worker has of the server's variables."""
        kept = {
            name: value
            for name, value in environment.items()
            if any(fnmatchcase(name, pattern) for pattern in VARIABLES) or name in self.names
        }
        if self.bubblewrap:
            kept.update(HOME=HOME, TMPDIR=TEMPORARY)
        return kept

    def command(self, needed: Iterable[str], folder: str) -> list[str]:
        """Return the command that runs a worker that needs `needed` and starts in `folder`; empty without walls."""
        if not self.bubblewrap:
            return []
        scratch = SCRATCH_BYTES if takes_sizes(self.bubblewrap) else 0
        return [self.bubblewrap, *arguments(self.needs(needed), (*self.hidden, *self.sockets), folder, scratch), "--"]

    def kept_from(self, needed: Iterable[str]) -> list[str]:
        """Return the files and folders that a worker that needs `needed` keeps itself from."""
        return hiding(self.needs(needed), self.hidden) if self.by_landlock else []

    def needs(self, further: Iterable[str]) -> list[str]:
        """Return all that a worker must be able to read, `further` included."""
        interpreter = (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
        return [*self.shown, *interpreter, *further]


def checked_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of variables.

    Raises:
        MisuseError: One is no name.
    """
    if isinstance(names, str) or not all(isinstance(name, str) and name and "=" not in name for name in names):
        raise MisuseError(f"sandbox_env must be a list of names of environment variables, got {names!r:.80}")
    return tuple(names)


def find_bubblewrap(
    sandbox: Sandbox, executable: str, path: Iterable[str], environment: Mapping[str, str]
) -> tuple[str, str]:
    """Return the path of bubblewrap, or an empty one and why it cannot be used here."""
    if sys.platform != "linux":
        return "", "it is for Linux alone"
    found = shutil.which("bwrap", path=environment.get("PATH"))
    if found is None:
        return "", "it is not installed"
    found = os.path.abspath(found)
    variables = Sandbox(sandbox.names, bubblewrap=found).variables(environment)
    why = unusable(found, executable, sandbox.needs(path), (*sandbox.hidden, *sandbox.sockets), variables)
    return ("", f"it does not work here: {why}") if why is not None else (found, "")


def machine_share() -> int | None:
    """Return the bytes that a worker may have if nobody has said how many; None where the machine's are not known."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // MEMORY_SHARE
    except (ValueError, OSError, AttributeError):
        return None
