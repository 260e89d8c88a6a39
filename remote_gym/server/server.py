"""Server process: start, wait, drain, stop. The handle that user code holds; the server itself runs on a thread.

The thread runs one asyncio loop with everything on it: gRPC, sessions, the pool. It lives as long as the server, which
is also what workers rely on. Nothing forks and `__main__` is never imported again, so this works in scripts without a
main guard, in notebooks and in the REPL.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import logging
import os
import ssl
import threading
import time
import weakref
from collections.abc import Coroutine
from types import TracebackType
from typing import Any

import grpc

from remote_gym.errors import RefusedError, RemoteGymError
from remote_gym.html_facts import facts_html
from remote_gym.processes import SERVING
from remote_gym.server import json_lines, logs
from remote_gym.server.admin import Admin, in_turns
from remote_gym.server.announced import Announcement
from remote_gym.server.audit import AuditLog
from remote_gym.server.carriers.direct import Direct
from remote_gym.server.carriers.edge import Edge
from remote_gym.server.carriers.grpc import Servicer
from remote_gym.server.dashboard import Dashboard
from remote_gym.server.events import Events
from remote_gym.server.front import Front
from remote_gym.server.health import Health
from remote_gym.server.listening import Endpoints, options
from remote_gym.server.metrics import MetricsServer
from remote_gym.server.minutes import Minutes
from remote_gym.server.refusals import RefusalError
from remote_gym.server.sessions import Sessions, collect
from remote_gym.server.settings import JSON, Settings
from remote_gym.server.statistics import watch_loop_lag
from remote_gym.server.tracing import tracing_of
from remote_gym.server.watching import Watchers

logger = logging.getLogger("remote_gym.server")

WAKE_SECONDS = 0.2

SHOWN_TIMEOUT_SECONDS = 0.5
"""How long showing a server in a notebook waits for the event loop."""

SCRAPE_TIMEOUT_SECONDS = 5.0
"""How long a scrape of the metrics waits for the event loop: then it fails, which says enough."""


class RemoteEnvironmentServer:
    """A running server. Made by `create_remote_environment_server`.

    Closing contract: `stop` may be called more than once and from any thread; when it returns the port is free and no
    process of the server is left, whatever went wrong. A context manager stops on leaving; so does the end of the
    interpreter.

    Attributes:
        address: ``host:port`` or ``unix:/path`` it listens on.
        port: The port, also when 0 was asked for; 0 for a unix socket.
        unix_address: ``unix:/path`` of the socket it listens on as well; None without one.
        metrics_port: The port of the metrics, also when 0 was asked for; None without them.
        admin_socket: The path of the admin socket, the first one if there are two; None without one.
        dashboard_link: What opens the dashboard in a browser on this machine, its token included; None without one.
    """

    def __init__(self, settings: Settings, endpoints: Endpoints, grace_seconds: float, probe: bool) -> None:
        """Start; returns when the server listens. See `create_remote_environment_server`."""
        self._settings = settings
        self._metrics: MetricsServer | None = None
        self._dashboard: Dashboard | None = None
        self._direct: Direct | None = None
        self._announcement: Announcement | None = None
        self._grace_seconds = grace_seconds
        self._audit = None if settings.audit_log is None else AuditLog(settings.audit_log)
        self._tracing = tracing_of(settings)
        self._sessions = Sessions(settings, Events(self._audit), self._tracing)
        self._process = os.getpid()
        self._stopped = threading.Event()
        self._stop_lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        if settings.log_format == JSON:
            json_lines.begin()
        logs.begin()
        self._thread = threading.Thread(target=self._run_loop, name="remote_gym server", daemon=True)
        self._thread.start()
        try:
            if endpoints.metrics_port is not None:
                self._metrics = MetricsServer(
                    endpoints.metrics_url, endpoints.metrics_port, self._scrape, self._is_serving
                )
            if endpoints.dashboard_port is not None:
                self._dashboard = Dashboard(
                    endpoints.dashboard_url, endpoints.dashboard_port, endpoints.dashboard_admin
                )
            self._call(self._start(endpoints, probe))
            if endpoints.announce is not None:
                self._announcement = Announcement(endpoints.announce, self._front.listeners[0].address)
        except BaseException:
            self._shut_down(0.0)
            raise
        listeners = self._front.listeners
        self.address, self.port = listeners[0].address, listeners[0].port
        self.unix_address = listeners[-1].address if endpoints.unix_socket is not None else None
        self.metrics_port = None if self._metrics is None else self._metrics.port
        self.admin_socket = self._admin.paths[0] if self._admin.paths else None
        self.dashboard_link = None if self._dashboard is None else self._dashboard.link
        if self._dashboard is not None and self._front.private is not None:
            self._dashboard.start(self._front.private.address, self.address, self._admin.paths)
        _SERVERS.add(self)
        addresses = [listener.address for listener in listeners]
        told = {"event": "listening", "addresses": addresses, "admin_sockets": self._admin.paths}
        logger.info(
            "listening on %s, %d workers", " and ".join(addresses), settings.num_workers,
            extra={json_lines.FIELDS: told},
        )  # fmt: skip
        for path in self._admin.paths:
            logger.info("admin socket at %s, for this user alone", path)
        if self._metrics is not None:
            logger.info("metrics on http://%s/metrics", self._metrics.address)
        if self._dashboard is not None:
            logger.info("dashboard on http://%s/, for whoever has its token", self._dashboard.address)

    # On the loop's thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        SERVING.add(threading.get_ident())
        self._loop.run_forever()
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        SERVING.discard(threading.get_ident())

    async def _start(self, endpoints: Endpoints, probe: bool) -> None:
        self._grpc = grpc.aio.server(options=options())
        self._edge = Edge(self._sessions, endpoints.authenticator)
        self._direct = _direct(self._edge, endpoints)
        self._front = Front(self._grpc, endpoints, None if self._direct is None else self._direct.accept)
        self._watchers = Watchers(self._sessions, endpoints.authenticator)
        front = self._front
        servicer = Servicer(self._edge, front.peer, front.uid, front.visitor, self._watchers)
        self._grpc.add_generic_rpc_handlers((servicer.handler(),))
        self._health = Health()
        self._health.register(self._grpc)
        try:
            await self._sessions.start(probe)
        except RefusalError as error:
            detail = error.failure.detail if error.failure is not None else ""
            raise RefusedError(f"{error}\n\n{detail}".rstrip(), error.limit) from error
        except (OSError, MemoryError) as error:
            workers = self._settings.num_workers
            raise RefusedError(f"{workers} worker processes could not be started: {error}", "num_workers") from error
        await self._grpc.start()
        addresses = [listener.address for listener in self._front.listeners]
        self._admin = Admin(self._sessions, addresses, self._stop_by_owner)
        await self._admin.open(endpoints.admin_socket, [(one.host, one.port) for one in self._front.listeners])
        self._watchers.snapshots.addresses = self._admin.addresses
        self._front.open()
        self._sessions.begin_serving(self._admin.addresses)
        await self._health.tell(serving=True)
        self._lag_task = asyncio.create_task(watch_loop_lag(self._sessions.counters))
        self._minutes_task = asyncio.create_task(Minutes(self._sessions).tell())
        if endpoints.certificates is not None:
            if self._direct is not None:
                endpoints.certificates.on_change = self._direct.renew
            self._certificates_task = asyncio.create_task(endpoints.certificates.watch())
        self._revoking = asyncio.create_task(endpoints.authenticator.watch(self._sessions.by_id))

    async def _stop(self, grace_seconds: float, handover_seconds: float) -> None:
        try:
            if hasattr(self, "_health"):
                await self._health.tell(serving=False)  # load balancers send nobody any more; what runs is delivered
            deadline = await self._sessions.drain(grace_seconds, handover_seconds)
            if hasattr(self, "_health"):
                self._health.end_watches()
                self._watchers.end_all()
                self._edge.end_all()
                self._front.shut()
                # What ran has been answered, but a large answer may still be on its way.
                left = max(0.0, deadline - self._loop.time())
                direct = [] if self._direct is None else [self._direct.end(left)]
                await asyncio.gather(self._grpc.stop(left), *direct)
                await self._front.ended(deadline - self._loop.time())
        finally:
            if hasattr(self, "_admin"):
                self._admin.close()
            if hasattr(self, "_front"):
                self._front.close()
            if self._direct is not None:
                self._direct.close()
            await self._sessions.stop()
            current = asyncio.current_task()
            others = [task for task in asyncio.all_tasks() if task is not current]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    # On the caller's thread

    def _call(self, coroutine: Coroutine[Any, Any, Any], timeout: float = float("inf")) -> Any:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        deadline = time.monotonic() + timeout
        # In short waits: the kernel may give a signal to another thread, and Python handles it in the main thread only
        # when that one wakes up.
        while not future.done() and time.monotonic() < deadline:
            concurrent.futures.wait([future], timeout=min(WAKE_SECONDS, deadline - time.monotonic()))
        return future.result(0)

    def _shut_down(self, grace_seconds: float, handover_seconds: float = 0.0) -> None:
        if os.getpid() != self._process:
            return  # a forked child: the server is the parent's
        if not handover_seconds:
            with contextlib.suppress(RuntimeError):  # it has stopped
                self._loop.call_soon_threadsafe(self._sessions.end_handover)  # of another call
        with self._stop_lock:
            if self._stopped.is_set():
                return
            if self._announcement is not None:
                self._announcement.withdraw()  # first: nobody is to come for nothing
            try:
                self._call(self._stop(grace_seconds, handover_seconds), handover_seconds + grace_seconds + 20.0)
            except (Exception, concurrent.futures.CancelledError):
                logger.exception("the server did not stop cleanly")
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(5.0)
                if self._metrics is not None:
                    self._metrics.close()
                if self._dashboard is not None:
                    self._dashboard.close()
                self._stopped.set()
                _SERVERS.discard(self)
                if self._audit is not None:
                    self._audit.close()
                if self._tracing is not None:
                    self._tracing.close()
                logs.end()
                if self._settings.log_format == JSON:
                    json_lines.end()

    def _stop_by_owner(self) -> None:
        threading.Thread(target=self.stop, name="remote_gym stopping", daemon=True).start()

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Block until the server has stopped.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            Whether it has stopped; False after `timeout`.
        """
        return self._stopped.wait(timeout)

    def stop(self, grace: float | None = None, handover: float | None = None) -> None:
        """Drain and stop: refuse what is new, deliver what runs, close all environments, end all workers.

        Args:
            grace: Seconds that running requests may take; None: the server's default (10). With nothing running this
                takes well under a second.
            handover: Seconds that sessions may go on before that, for their clients to go elsewhere; ends with the last
                of them, and with another call of `stop` that gives none. None: the server's `handover_seconds` (0), but
                none with a `grace`.
        """
        if handover is None:
            handover = self._settings.handover_seconds if grace is None else 0.0
        self._shut_down(self._grace_seconds if grace is None else max(0.0, float(grace)), max(0.0, float(handover)))

    def statistics(self) -> dict[str, Any]:
        """Return what the server holds and has done; the metrics are the same figures.

        Returns:
            A dict. Held right now: `sessions`, `envs`, `workers`: counts; `max_sessions`, `max_envs`: their limits;
            `env_step_seconds`: one environment's step in a worker, lately, the mean over the workers, 0: not known;
            `draining`: bool; `worker_processes`: process ids; `stored_reply_bytes`: answers kept for clients;
            `held_bytes`: kwargs, unfinished messages and results of calls, by kind, each at most `max_held_bytes`;
            `principal_sessions`, `principal_envs`, `principal_connections`, `principal_held_bytes`: by the names in
            `limits`, all other principals together as ``"other"``;
            `event_loop_lag_last_seconds`: how late the event loop was when last measured.
            Since the start: `opened_sessions`; `requests`: by kind (``"reset"``, ``"step"``, ``"call"``,
            ``"render"``); `env_steps`: environment steps answered; `worker_restarts`; `attaches`: streams that came
            back to their session; `replayed_answers`: answers sent again to those; `refusals`: by the name of the
            limit; `received_bytes`, `sent_bytes`: of messages, before TLS and HTTP/2; `episodes`: that have ended;
            `lost_episodes`: broken off by a worker's end; `episode_returns`: the sum of their returns.
            Histograms since the start, each ``{"buckets": [(upper bound, count up to it), ...], "sum": sum}``:
            `step_seconds`: from a step request's arrival to its last answer; `event_loop_lag_seconds`;
            `episode_return`, `episode_length`, `episode_seconds`: of `episodes`, but for returns that are not finite.

        Raises:
            RemoteGymError: The server has stopped.
        """
        return self._statistics(float("inf"))

    def _scrape(self) -> dict[str, Any]:
        return self._statistics(SCRAPE_TIMEOUT_SECONDS)

    def _is_serving(self) -> bool:
        """Return whether new sessions are taken; the answer is the event loop's."""

        async def read() -> bool:
            return hasattr(self, "_health") and self._health.serving

        return bool(self._call(read(), SCRAPE_TIMEOUT_SECONDS))

    def _statistics(self, timeout_seconds: float) -> dict[str, Any]:
        async def read() -> dict[str, Any]:
            await in_turns([*self._sessions.by_id.values()], lambda session: session.episodes.settle())
            return collect(self._sessions)

        if self._stopped.is_set():
            raise RemoteGymError("the server has stopped")
        return self._call(read(), timeout_seconds)  # type: ignore[no-any-return]

    def __enter__(self) -> RemoteEnvironmentServer:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def __repr__(self) -> str:
        """Return address, what is hosted and whether it runs."""
        state = "stopped" if self._stopped.is_set() else "running"
        return f"<RemoteEnvironmentServer {self.address} [{self._settings.entrypoint}, {state}]>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: what is hosted where, and what is there now, if the server says so soon."""
        facts = [("hosted", str(self._settings.entrypoint)), ("address", self.address)]
        facts += [("also at", self.unix_address)] if self.unix_address is not None else []
        try:
            now = self._statistics(SHOWN_TIMEOUT_SECONDS)
        except (RemoteGymError, TimeoutError, concurrent.futures.TimeoutError):
            state = "stopped" if self._stopped.is_set() else "busy"
            return facts_html("RemoteEnvironmentServer", [*facts, ("state", state)])
        held = [(name, f"{now[name]:,} of {now[f'max_{name}']:,}") for name in ("sessions", "envs")]
        counts = [(name, f"{now[name]:,}") for name in ("workers", "env_steps", "worker_restarts")]
        facts += [("state", "draining" if now["draining"] else "running"), *held, *counts]
        return facts_html("RemoteEnvironmentServer", [(name.replace("_", " "), value) for name, value in facts])


def _direct(edge: Edge, endpoints: Endpoints) -> Direct | None:
    """Return what carries sessions without gRPC; None if that is not wanted, or cannot be."""
    if endpoints.grpc_only:
        return None
    try:
        return Direct(edge, endpoints.pem)
    except ssl.SSLError as error:
        logger.warning("gRPC alone carries sessions: OpenSSL does not take the certificate (%s)", error.reason)
        return None


_SERVERS: weakref.WeakSet[RemoteEnvironmentServer] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for server in list(_SERVERS):
        server.stop(0.0)
