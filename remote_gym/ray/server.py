"""In an actor on each server's node: a `RemoteEnvironmentServer`, and a thread that hosts it and reports to the keeper.

Ray starts it anew, with the same arguments, when its process or its node is lost. A process that is killed takes its
workers along: their sockets end with it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
import threading
from pathlib import Path
from typing import Any

import ray

from remote_gym import RemoteEnvironmentServer, create_remote_environment_server
from remote_gym.errors import ConnectError, RemoteGymError, TimedOut
from remote_gym.ray.asking import Line
from remote_gym.ray.keeper import REPORT_SECONDS, Told
from remote_gym.ray.names import Slot

FOLDER = "remote-gym-sources"
"""In the folder for temporary files: a file that was sent is kept there, in a folder named by what it holds."""

logger = logging.getLogger("remote_gym.ray")

AGAIN_SECONDS = 5.0
"""Between attempts to serve where that has failed: a simulator's licence, a folder that is to be mounted."""


class Server:
    """See above."""

    def __init__(self, farm: str, slot: Slot) -> None:
        """Begin to serve, and to report; returns at once."""
        self._slot = slot
        self._line = Line(farm)
        self._node = ray.get_runtime_context().get_node_id()
        self._server: RemoteEnvironmentServer | None = None
        self._error: Exception | None = None
        self._tried, self._stopping = threading.Event(), threading.Event()
        threading.Thread(target=self._run, name="remote_gym farm", daemon=True).start()

    def address(self, timeout_seconds: float) -> str:
        """Wait for the first attempt to serve, and return the address.

        Raises:
            Exception: What was raised by it.
            TimedOut: It takes longer.
        """
        if not self._tried.wait(timeout_seconds):
            raise TimedOut(f"the server does not listen yet, after {timeout_seconds:g} s")
        if self._server is None:
            assert self._error is not None
            raise self._error
        return self._server.address

    def stop(self, handover: float | None = None) -> None:
        """Drain: refuse what is new, deliver what runs, close all environments. Returns when that is done.

        `handover`: for how many seconds sessions may go on before; None: as the server's arguments say.
        """
        self._stopping.set()
        if self._server is not None:
            self._server.stop(handover=handover)

    # The thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            if self._server is None:
                self._try_to_serve()
            try:
                self._line.ask("report", self._slot, self._told())
            except ConnectError as error:  # it is being started anew; or the farm has ended, and so do we soon
                logger.info("%s", error)
            if self._server is not None or self._error is not None:
                self._tried.set()  # after the report: who starts a farm finds all of it
            self._stopping.wait(REPORT_SECONDS if self._error is None else AGAIN_SECONDS)

    def _try_to_serve(self) -> None:
        try:
            plan, credentials = self._line.ask("admit")
        except ConnectError as error:
            logger.info("%s", error)
            return
        try:
            entrypoint = plan.entrypoint if plan.source is None else kept(plan.entrypoint, plan.source)
            args, host = {"entrypoint": entrypoint, **plan.args}, ray.util.get_node_ip_address()
            server = create_remote_environment_server(args, host, 0, credentials, **plan.server_args)
        except Exception as error:
            logger.exception("no server here")
            self._error = error
        else:
            self._server, self._error = server, None

    def _told(self) -> Told:
        if self._server is None:
            return Told(self._node, failure="" if self._error is None else str(self._error)[:2_000])
        try:
            figures: dict[str, Any] = self._server.statistics()
        except RemoteGymError:  # it has been stopped
            return Told(self._node, failure="it has been stopped")
        return Told(self._node, self._server.address, figures["workers"], figures["envs"], figures["sessions"])


def kept(name: str, source: bytes) -> str:
    """Keep a file that was sent to this node, and return its path, the same one whenever it is sent again.

    Raises:
        OSError: That is not possible, or somebody else has made a folder of that name.
    """
    user = os.getuid()
    folder = Path(tempfile.gettempdir(), f"{FOLDER}-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if status.st_uid != user or not stat.S_ISDIR(status.st_mode):
        raise PermissionError(f"{folder} belongs to somebody else")
    path = folder / hashlib.sha256(source).hexdigest()[:16] / name
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_bytes() != source:
        new = path.with_suffix(f".{os.getpid()}")
        new.write_bytes(source)
        new.replace(path)  # whole, at any moment: others may start from it
    return str(path)
