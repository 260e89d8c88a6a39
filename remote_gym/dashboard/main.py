"""Dashboard process: its start and its end.

    python -m remote_gym.dashboard.main DESCRIPTOR...    what `remote-gym serve --dashboard-port` runs

A line of JSON comes on standard input, see `settings`, and the end of that is this process's end: it lives no longer
than who has started it, however that ends. Each `DESCRIPTOR` is a socket that listens already.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from remote_gym.client.watching import watch
from remote_gym.dashboard.app import Dashboard
from remote_gym.dashboard.settings import Settings, Watched
from remote_gym.dashboard.watchers import Ask, Call
from remote_gym.hardening import forbid_reading

MAX_CONNECTIONS = 128
"""At once: a page that is open has two, and some more when it is loaded."""

HEAD_BYTES = 16_384
"""Of a request at most."""

REQUEST_SECONDS = 5.0
"""How long a connection may take to bring the next request whole, about; uvicorn waits for the first for ever."""

CONNECT_SECONDS = 3.0
"""How long a server may take to answer, before the page says that it does not."""

LAST_SECONDS = 1
"""How long answers may take at the end."""


def ask(watched: Watched, arguments: dict[str, Any]) -> Call:
    """Begin a `Watch` call of a server."""
    return watch(watched.address, connect_timeout_seconds=CONNECT_SECONDS, **watched.options, **arguments)


class _Connection(H11Protocol):
    """A connection that is ended where no whole request comes in time: else idle ones keep pages out."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._looked: Any = None  # at the last look: of which request the next one was waited for
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        self._looking.cancel()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        self._looking = self.loop.call_later(REQUEST_SECONDS, self._look)

    def _look(self) -> None:
        last = self.cycle
        if self.transport.is_closing():
            self.transport.abort()  # whoever it is does not read either
        elif last is not None and not last.response_complete and not last.more_body:
            self._looked = self  # is being answered: the time of the next one has not begun
        elif last is self._looked:
            self.transport.close()
        else:
            self._looked = last
        self._look_again()


class _Server(uvicorn.Server):
    """A server of HTTP that ends with its dashboard's streams: it would wait for them."""

    def __init__(self, config: uvicorn.Config, dashboard: Dashboard) -> None:
        super().__init__(config)
        self._dashboard = dashboard

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._dashboard.close()
        await super().shutdown(sockets)


def run(
    settings: Settings, listening: list[socket.socket], until: Callable[[], object] | None = None, ask: Ask = ask
) -> None:
    """Show the page to whoever comes to `listening`, until SIGINT, SIGTERM, or the return of `until`.

    Args:
        settings: What is shown, and to whom.
        listening: TCP sockets; closed at the end.
        until: Runs on a thread of its own; None: only signals end this.
        ask: Begins the `Watch` calls.
    """
    asyncio.run(_run(settings, listening, until, ask))


async def _run(
    settings: Settings, listening: list[socket.socket], until: Callable[[], object] | None, ask: Ask
) -> None:
    dashboard = Dashboard(settings, ask)
    server = _Server(
        uvicorn.Config(
            dashboard.app, loop="asyncio", http=_Connection, ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, date_header=False, proxy_headers=False,
            limit_concurrency=MAX_CONNECTIONS, h11_max_incomplete_event_size=HEAD_BYTES,
            timeout_graceful_shutdown=LAST_SECONDS,
        ),
        dashboard,
    )  # fmt: skip
    if until is not None:

        def end() -> None:
            until()
            server.should_exit = True

        threading.Thread(target=end, name="remote_gym dashboard's end", daemon=True).start()
    await server.serve(listening)


def main() -> None:
    """Be the dashboard of who has started this process."""
    forbid_reading()  # it holds the token
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    settings = Settings.from_json(sys.stdin.readline())
    listening = [socket.socket(fileno=int(descriptor)) for descriptor in sys.argv[1:]]
    with contextlib.suppress(KeyboardInterrupt):
        run(settings, listening, _until_input_ends)
    os._exit(0)  # threads that wait in gRPC have nothing to finish


def _until_input_ends() -> None:
    while sys.stdin.read(1):
        pass


if __name__ == "__main__":
    main()
