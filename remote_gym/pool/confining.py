"""Parent side: from what an owner asks for to surroundings that keep workers within it; says what holds."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from remote_gym.errors import MisuseError
from remote_gym.hardening import SIGNALS_VERSION, TCP_VERSION, forbid_reading, landlock_version
from remote_gym.pool.sandbox import FILE_BYTES, Sandbox, checked_names, find_bubblewrap, machine_share
from remote_gym.pool.surroundings import Surroundings

logger = logging.getLogger("remote_gym.pool")


@dataclass(frozen=True)
class Confinement:
    """What an owner asks for; see the arguments of `create_remote_environment_server` that are called so.

    Attributes:
        sandbox: Whether workers run in a sandbox.
        sandbox_required: Whether nothing is hosted where its walls do not stand.
        sandbox_env: Names of variables that workers get besides those of the list.
        worker_prefix: The command that runs the workers' command; None: none of the owner's.
        worker_memory_bytes: Of one worker; None: no limit, or in a sandbox a share of the machine's.
        worker_file_bytes: Of one file that it writes; None: no limit, or `FILE_BYTES` in a sandbox.
    """

    sandbox: bool = False
    sandbox_required: bool = False
    sandbox_env: Sequence[str] = ()
    worker_prefix: str | Sequence[str] | None = None
    worker_memory_bytes: int | None = None
    worker_file_bytes: int | None = None

    def applied(
        self, surroundings: Surroundings, hidden: Iterable[str], shown: Iterable[str], sockets: Iterable[str] = ()
    ) -> Surroundings:
        """Return `surroundings` with what was asked for; closes this process to others of its user in a sandbox.

        Args:
            surroundings: Of the server.
            hidden: Files that environments must not read.
            sockets: Unix sockets that they must not reach.
            shown: Files and folders that they must, besides the interpreter's, `sys.path` and the working directory.

        Raises:
            MisuseError: An argument is wrong, or what is required cannot be had here; says why.
        """
        prefix, limits, names = self._prefix(), self._limits(), checked_names(self.sandbox_env)
        if not self.sandbox:
            if self.sandbox_required or names:
                raise MisuseError("sandbox_required and sandbox_env are of a sandbox: give sandbox=True as well")
            return replace(surroundings, prefix=prefix, limits=limits)
        sandbox = Sandbox(names, tuple(hidden), tuple(sockets), tuple(shown))
        path = (*surroundings.path, *([] if surroundings.folder is None else [surroundings.folder]))
        found, why = "", "a command of yours is in its place"
        if not prefix:
            found, why = find_bubblewrap(sandbox, surroundings.executable, path, surroundings.environment)
        if not found and self.sandbox_required:
            raise MisuseError(f"the sandbox that is required needs bubblewrap (bwrap), and {why}")
        landlock = 0 if found else landlock_version()
        sandbox = replace(sandbox, bubblewrap=found, by_landlock=landlock > 0)
        if found:
            logger.info(_WALLS)
        else:
            _tell(shlex.join(prefix), why, landlock)
        forbid_reading()
        return replace(surroundings, sandbox=sandbox, prefix=prefix, limits=limits)

    def _prefix(self) -> tuple[str, ...]:
        given = self.worker_prefix
        try:
            words = shlex.split(given) if isinstance(given, str) else list(given or ())
        except (ValueError, TypeError) as error:
            raise MisuseError(f"worker_prefix={given!r:.80} cannot be read as a command: {error}") from None
        if not all(isinstance(word, str) and "\0" not in word for word in words) or (given is not None and not words):
            raise MisuseError(f"worker_prefix must be a command, such as 'nice -n 5' or a list of words, got {given!r}")
        return tuple(words)

    def _limits(self) -> dict[str, int]:
        usual = {"memory": machine_share(), "file": FILE_BYTES} if self.sandbox else {}
        asked = {"memory": self.worker_memory_bytes, "file": self.worker_file_bytes}
        for kind, count in asked.items():
            if count is not None and (not isinstance(count, int) or isinstance(count, bool) or count < 1):
                raise MisuseError(f"worker_{kind}_bytes must be a positive integer, got {count!r}")
        found = {kind: usual.get(kind) if count is None else count for kind, count in asked.items()}
        return {kind: count for kind, count in found.items() if count is not None}


_WALLS = (
    "sandbox: environments run behind bubblewrap: no network, no processes but their own, files to read only, and "
    "nothing of the folder of the TLS key"
)


def _tell(prefix: str, why: str, landlock: int) -> None:
    """Log which walls stand without bubblewrap's."""
    kept = ["secret variables"]
    kept += ["the server's memory"] if sys.platform == "linux" else []
    kept += ["the TLS key"] if landlock else []
    kept += ["TCP"] if landlock >= TCP_VERSION else []
    kept += ["signals to others"] if landlock >= SIGNALS_VERSION else []
    if prefix:
        logger.info("sandbox: environments run behind %s, have limits and are kept from %s", prefix, ", ".join(kept))
        return
    logger.warning(
        "sandbox: bubblewrap (bwrap) builds no walls, as %s. Environments have limits and are kept from %s; all else "
        "of this user is open to them: files%s, processes, and the network%s. --sandbox-required refuses to host so",
        why, ", ".join(kept), "" if landlock else " (the TLS key among them)",
        " but for TCP" if landlock >= TCP_VERSION else "",
    )  # fmt: skip
