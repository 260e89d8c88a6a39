"""The user's terminal, and a server process of a command's own, for ``remote-gym bench`` and ``remote-gym demo``."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from remote_gym.cli.announcing import READY_LINE
from remote_gym.cli.options import VARIABLE_PREFIX
from remote_gym.errors import RemoteGymError
from remote_gym.processes import wait_or_kill

STOP_SECONDS = 15.0
LOG_CHARACTERS = 4_000


@contextlib.contextmanager
def own_server(*arguments: str) -> Iterator[str]:
    """Start ``remote-gym serve`` on a free port, give its address, and end it, also if it hangs.

    It is told nothing but `arguments`: variables and files of settings are for the user's own servers.

    Raises:
        RemoteGymError: It did not start; holds what it wrote.
    """
    command = [
        sys.executable, "-m", "remote_gym", "serve", *arguments, "--port", "0", "--config", os.devnull,
        "--admin-socket", "none",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLE_PREFIX)}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment)
        assert server.stdout is not None
        try:
            line = server.stdout.readline().decode().strip()
            prefix = READY_LINE.format(address="")
            if not line.startswith(prefix):
                log.seek(0)
                tail = log.read().decode(errors="replace")[-LOG_CHARACTERS:]
                raise RemoteGymError(f"the server did not start:\n{tail}")
            yield line.removeprefix(prefix)
        finally:
            server.terminate()
            wait_or_kill(server, STOP_SECONDS)  # its workers end with it
            server.stdout.close()
