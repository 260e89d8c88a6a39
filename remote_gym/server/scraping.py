"""Server process: the HTTP connections of the metrics: how many there are at once, and how long each may take.

The standard library's server gives each connection a thread, without a limit or a deadline. This one does so for
`MAX_CONNECTIONS`, of which the oldest is closed for one more, and closes each after `DEADLINE_SECONDS`: neither threads
nor descriptors of a server are used up by who asks for its metrics, or begins to.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

MAX_CONNECTIONS = 16
"""A scrape takes some milliseconds, and few scrape one server."""

DEADLINE_SECONDS = 10.0
"""From the connection to the last byte of the answer: twice what a scrape waits for a busy server."""

LOOK_SECONDS = 0.5
"""How often it is looked whose time is up."""

_Application = Callable[..., Any]


class _Handler(WSGIRequestHandler):
    """One request of a connection, and nothing in the log for it."""

    timeout = DEADLINE_SECONDS  # of one read; that of the connection is the server's

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: peers choose the words."""

    def address_string(self) -> str:
        """Return the address as it is: looking names up takes time."""
        return str(self.client_address[0])


class ScrapeServer(ThreadingMixIn, WSGIServer):
    """Answers by an application, in threads of its own between `start` and `close`."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, application: _Application) -> None:
        """Listen.

        Raises:
            OSError: The address or port cannot be used.
        """
        self.address_family, address = _family_of(host, port)
        self._open: dict[socket.socket, float] = {}  # when each has to be over; the oldest first
        self._lock = threading.Lock()  # protects it
        super().__init__(address, _Handler)
        self.set_app(application)
        self._thread = threading.Thread(
            target=self.serve_forever, args=(LOOK_SECONDS,), name="remote_gym metrics", daemon=True
        )

    def server_bind(self) -> None:
        """Bind, without looking up what this machine is called, which may take its time."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer `request` in a thread; the oldest connection goes if there are too many."""
        with self._lock:
            while len(self._open) >= MAX_CONNECTIONS:
                self._end(next(iter(self._open)))
            self._open[request] = time.monotonic() + DEADLINE_SECONDS
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is done."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End the connections whose time is up."""
        with self._lock:
            for request in [request for request, deadline in self._open.items() if deadline < time.monotonic()]:
                self._end(request)

    def _end(self, request: socket.socket) -> None:
        """Have the thread of a connection find it at its end; the lock is held."""
        del self._open[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that break."""

    def close(self) -> None:
        """Free the port, and end what is left."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()
        with self._lock:
            for request in list(self._open):
                self._end(request)
        if self._thread.is_alive():
            self._thread.join(1.0)


def _family_of(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """Return the family of an address, and it as a socket takes it."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    return family, address
