"""Server process: the parent's side of the dashboard: its port, its process, its end.

The page is a child's, `remote_gym.dashboard`, which looks at this server over a socket of its own, as its owner. It
needs the libraries of the extra ``dashboard``; this module does not. Standard input of the child is a pipe that ends
with this process, and so does the child. One that dies has a successor at the same port, with the same token.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from remote_gym.addresses import is_loopback, join_address
from remote_gym.distribution import install
from remote_gym.errors import MisuseError
from remote_gym.processes import wait_or_kill
from remote_gym.server.sockets import WILDCARDS, listen_tcp
from remote_gym.texts import printable

logger = logging.getLogger("remote_gym.server")

LIBRARIES = ("starlette", "uvicorn")

TOKEN_BYTES = 32

END_SECONDS = 3.0
"""How long the child may take to end, before it is killed."""

PAUSE_SECONDS = 1.0
"""Before a successor of one that has died is started."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
"""What a browser on this machine may call it, also at the other end of ``ssh -L``."""

# As with a trainer's own server: the child finds what this process finds.
_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv.pop(1))
from remote_gym.dashboard.main import main
main()
"""


class Dashboard:
    """A page, from `start` until `close`.

    Closing contract: `close` ends the child and frees the port; it may be called twice, or without `start`.

    Attributes:
        port: As bound.
        link: What opens the page: whoever has it may look.
    """

    def __init__(self, url: str, port: int, admin: bool) -> None:
        """Take the port.

        Args:
            url: The host to listen on.
            port: 0: any free one.
            admin: Whether the page may end sessions, and have the server drain.

        Raises:
            MisuseError: The libraries are not installed.
            OSError: The address or port cannot be used.
        """
        if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
            raise MisuseError(f"dashboard_port needs {' and '.join(missing)}: {install('dashboard')}")
        try:
            self._sockets, self.port = listen_tcp(url, port)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror or error} (for the dashboard)") from error
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._admin = admin
        self._hosts = hosts(url)
        self._closed = threading.Event()
        self._lock = threading.Lock()  # protects the child: nobody starts one when this is closed
        self._child: subprocess.Popen[str] | None = None
        self._told = ""
        self._keeper = threading.Thread(target=self._keep, name="remote_gym dashboard", daemon=True)
        self.address = join_address(shown_host(url), self.port)
        self.link = f"http://{self.address}/?token={self._token}"
        if not is_loopback(url):
            logger.warning(
                "dashboard on %s travels in plaintext: whoever reads along has its token, and what it shows",
                self.address,
            )

    def start(self, address: str, label: str, admin_sockets: Sequence[str]) -> None:
        """Show the server that listens on `address`, as `label`; returns at once."""
        watched = {"address": address, "label": label, "options": {}}
        watched["admin_sockets"] = list(admin_sockets) if self._admin else []
        self._told = json.dumps(
            {"servers": [watched], "token": self._token, "hosts": self._hosts, "admin": self._admin}
        )
        self._keeper.start()

    def close(self) -> None:
        """End."""
        self._closed.set()
        with self._lock:
            child = self._child
        if child is not None:
            assert child.stdin is not None
            with contextlib.suppress(OSError):
                child.stdin.close()
            wait_or_kill(child, END_SECONDS)
        for listening in self._sockets:
            listening.close()
        if self._keeper.is_alive():
            self._keeper.join(END_SECONDS)

    # On the keeper's thread

    def _keep(self) -> None:
        while not self._closed.is_set():
            try:
                with self._lock:
                    if self._closed.is_set():
                        return
                    child = self._child = self._started()
            except OSError as error:
                logger.error("the dashboard's process cannot be started: %s", error)
                return
            assert child.stderr is not None and child.stdin is not None
            with child.stderr:
                for line in child.stderr:
                    logger.warning("dashboard: %s", printable(line.rstrip("\n"), 1_000))
            code = child.wait()
            with contextlib.suppress(OSError):
                child.stdin.close()
            if not self._closed.is_set():
                logger.error("the dashboard has ended with exit code %d; another one is started in its place", code)
            self._closed.wait(PAUSE_SECONDS)

    def _started(self) -> subprocess.Popen[str]:
        descriptors = [listening.fileno() for listening in self._sockets]
        paths = json.dumps([os.path.abspath(path) for path in sys.path])
        child = subprocess.Popen(
            [sys.executable, "-c", _CODE, paths, *map(str, descriptors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            pass_fds=descriptors,
            start_new_session=True,  # a Ctrl-C is the server's to deal with
        )
        assert child.stdin is not None
        with contextlib.suppress(OSError):  # it has died already, and has said why
            child.stdin.write(self._told + "\n")
            child.stdin.flush()
        return child


def shown_host(url: str) -> str:
    """Return how a browser reaches what listens on `url`."""
    return socket.gethostname() if url in WILDCARDS else url


def hosts(url: str) -> list[str]:
    """Return what the page may be called where it listens on `url`."""
    if is_loopback(url):
        return list(dict.fromkeys([*LOCAL_HOSTS, url.lower()]))
    return [*LOCAL_HOSTS, shown_host(url).lower()]
