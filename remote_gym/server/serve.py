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
import threading
import time
import warnings
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any

import grpc

from remote_gym.addresses import DEFAULT_PORT, is_loopback, join_address, split_address
from remote_gym.arguments import RemoteArgs, check_args
from remote_gym.credentials import ServerPem, load_server_pem, server_credentials
from remote_gym.errors import MisuseError, RefusedError, RemoteGymError
from remote_gym.server.checks import RefusalError
from remote_gym.server.registry import Registry
from remote_gym.server.servicer import Servicer
from remote_gym.server.settings import Settings
from remote_gym.wire.messages import MAX_MESSAGE_BYTES
from remote_gym.workers.pool import Timeouts

logger = logging.getLogger("remote_gym.server")

DEFAULT_GRACE_SECONDS = 10.0
WAKE_SECONDS = 0.2

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),  # a second server on the same port is an error, not a silent half of the clients
    # A dead peer is noticed within 50 s. All three are needed: gRPC relies on the ping timeout alone.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
]


class RemoteEnvironmentServer:
    """A running server. Made by `create_remote_environment_server`.

    Closing contract: `stop` may be called more than once and from any thread; when it returns the port is free and no
    process of the server is left, whatever went wrong. A context manager stops on leaving; so does the end of the
    interpreter.

    Attributes:
        address: ``host:port`` it listens on.
        port: The port, also when 0 was asked for.
    """

    def __init__(
        self, settings: Settings, host: str, port: int, pem: ServerPem | None, grace_seconds: float, probe: bool
    ) -> None:
        """Start; returns when the server listens. See `create_remote_environment_server`."""
        self._settings = settings
        self._grace_seconds = grace_seconds
        self._registry = Registry(settings)
        self._process = os.getpid()
        self._stopped = threading.Event()
        self._stop_lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="remote_gym server", daemon=True)
        self._thread.start()
        try:
            self.port = self._call(self._start(host, port, pem, probe))
        except BaseException:
            self._shut_down(0.0)
            raise
        self.address = join_address(host, self.port)
        _SERVERS.add(self)
        logger.info("listening on %s, %d workers", self.address, settings.num_workers)

    # On the loop's thread

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        with contextlib.suppress(Exception):
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _start(self, host: str, port: int, pem: ServerPem | None, probe: bool) -> int:
        self._grpc = grpc.aio.server(options=_OPTIONS)
        self._servicer = Servicer(self._registry)
        self._grpc.add_generic_rpc_handlers((self._servicer.handler(),))
        address = join_address(host, port)
        try:
            if pem is None:
                bound = self._grpc.add_insecure_port(address)
            else:
                bound = self._grpc.add_secure_port(address, server_credentials(pem))
        except RuntimeError as error:
            raise OSError(
                f"cannot listen on {address}: the port is taken, or the address is not this machine's"
            ) from error
        try:
            await self._registry.start(probe)
        except RefusalError as error:
            detail = error.failure.detail if error.failure is not None else ""
            raise RefusedError(f"{error}\n\n{detail}".rstrip(), error.limit) from error
        await self._grpc.start()
        return bound

    async def _stop(self, grace_seconds: float) -> None:
        deadline = self._loop.time() + grace_seconds
        try:
            await self._registry.drain(grace_seconds)
            if hasattr(self, "_servicer"):
                self._servicer.end_streams()
                # What ran has been answered, but a large answer may still be on its way.
                await self._grpc.stop(max(0.0, deadline - self._loop.time()))
        finally:
            await self._registry.stop()
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

    def _shut_down(self, grace_seconds: float) -> None:
        if os.getpid() != self._process:
            return  # a forked child: the server is the parent's
        with self._stop_lock:
            if self._stopped.is_set():
                return
            try:
                self._call(self._stop(grace_seconds), grace_seconds + 20.0)
            except (Exception, concurrent.futures.CancelledError):
                logger.exception("the server did not stop cleanly")
            finally:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join(5.0)
                self._stopped.set()
                _SERVERS.discard(self)

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Block until the server has stopped.

        Args:
            timeout: Seconds; None waits for ever.

        Returns:
            Whether it has stopped; False after `timeout`.
        """
        return self._stopped.wait(timeout)

    def stop(self, grace: float | None = None) -> None:
        """Drain and stop: refuse what is new, deliver what runs, close all environments, end all workers.

        Args:
            grace: Seconds that running requests may take; None: the server's default (10). With nothing running this
                takes well under a second.
        """
        self._shut_down(self._grace_seconds if grace is None else max(0.0, float(grace)))

    def statistics(self) -> dict[str, Any]:
        """Return what the server holds right now.

        Returns:
            A dict: `sessions`, `envs`, `workers`: counts; `max_sessions`, `max_envs`: their limits; `draining`: bool;
            `worker_processes`: process ids.
        """

        async def read() -> dict[str, Any]:
            description = self._registry.describe()
            return {
                "sessions": description.sessions,
                "envs": description.envs,
                "workers": len(self._registry.pool.workers),
                "max_sessions": description.max_sessions,
                "max_envs": description.max_envs,
                "draining": description.draining,
                "worker_processes": [worker.pid for worker in self._registry.pool.workers],
            }

        if self._stopped.is_set():
            raise RemoteGymError("the server has stopped")
        return self._call(read())  # type: ignore[no-any-return]

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


_SERVERS: weakref.WeakSet[RemoteEnvironmentServer] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for server in list(_SERVERS):
        server.stop(0.0)


def default_num_workers() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def create_remote_environment_server(
    default_args: RemoteArgs | Mapping[str, Any],
    url: str = "127.0.0.1",
    port: int | None = None,
    server_credentials_paths: Sequence[str | os.PathLike[str] | None] | None = None,
    *,
    num_workers: int | None = None,
    max_envs_per_worker: int | None = None,
    max_envs: int = 16_384,
    max_sessions: int = 1_024,
    lease_seconds: float = 300.0,
    step_timeout_seconds: float | None = 60.0,
    reset_timeout_seconds: float | None = 300.0,
    build_timeout_seconds: float | None = 300.0,
    restart_budget: tuple[int, float] | None = (10, 60.0),
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
    allow_insecure: bool = False,
    allow_client_kwargs: bool = True,
    probe: bool = False,
) -> RemoteEnvironmentServer:
    """Host environments for remote clients; returns at once with the server running in the background.

    Args:
        default_args: What to host, see `RemoteArgs`: `entrypoint` and optionally `entrypoint_kwargs`.
        url: Address to listen on: a host name or IP of this machine, ``"0.0.0.0"`` for all.
        port: Port to listen on; 0 takes any free one (see `.port`); None: 56765, or the one in `url`.
        server_credentials_paths: (certificate.pem, key.pem[, ca.pem]). With a CA, clients must present a certificate it
            has signed. None: plaintext, on loopback only.
        num_workers: Worker processes; None: one per core.
        max_envs_per_worker: Environments that may share a worker and so its fate; None: no limit. Workers beyond
            `num_workers` are started when it asks for them.
        max_envs: Environments held at once, over all sessions.
        max_sessions: Sessions held at once.
        lease_seconds: How long the environments of a client that lost its connection are kept.
        step_timeout_seconds: Longest time of one environment's step, call or render; None: no limit.
        reset_timeout_seconds: Longest time of one environment's reset; None: no limit.
        build_timeout_seconds: Longest time to build one environment; None: no limit.
        restart_budget: (count, seconds): a worker that dies more often than `count` times within `seconds` is not
            rebuilt with its environments; None: always.
        grace_seconds: How long `stop` lets running requests take.
        allow_insecure: Permit plaintext on an address that other machines reach. Warns.
        allow_client_kwargs: Whether clients may send `entrypoint_kwargs`, merged over yours.
        probe: Build one environment before listening and raise if that fails; it is kept for the first session.

    Returns:
        The running server; a context manager.

    Raises:
        MisuseError: An argument is wrong, or plaintext was asked for off the machine; says what to do.
        OSError: The address or port cannot be used.
        RefusedError: With `probe`, the environment could not be built; holds its traceback.
    """
    args = check_args(default_args, "default_args", ("entrypoint", "entrypoint_kwargs", "vectorization_mode"))
    settings = Settings(
        entrypoint=args.get("entrypoint", ""),
        entrypoint_kwargs=dict(args.get("entrypoint_kwargs") or {}),
        num_workers=default_num_workers() if num_workers is None else num_workers,
        max_envs_per_worker=max_envs_per_worker,
        max_envs=max_envs,
        max_sessions=max_sessions,
        lease_seconds=lease_seconds,
        timeouts=Timeouts(build_timeout_seconds, reset_timeout_seconds, step_timeout_seconds),
        restart_budget=restart_budget,
        allow_client_kwargs=allow_client_kwargs,
        vectorization_mode=args.get("vectorization_mode"),
    )
    host, port = split_address(url, DEFAULT_PORT if port is None and ":" not in url else port)
    pem = load_server_pem(server_credentials_paths) if server_credentials_paths is not None else None
    _check_exposure(host, pem, allow_insecure)
    return RemoteEnvironmentServer(settings, host, port, pem, grace_seconds, probe)


def _check_exposure(host: str, pem: ServerPem | None, allow_insecure: bool) -> None:
    """Refuse or warn about an address that others reach without proving who they are."""
    if is_loopback(host):
        return
    if pem is None and not allow_insecure:
        raise MisuseError(
            f"refusing to listen on {host} without TLS: anyone who reaches the port could use it and read along. Pass "
            f"server_credentials_paths (make them with `remote-gym certs`), or spell out allow_insecure=True"
        )
    if pem is None:
        warnings.warn(
            f"listening on {host} in plaintext: anyone who reaches the port can use it and read along", stacklevel=3
        )
    elif pem.root is None:
        warnings.warn(
            f"listening on {host} with TLS but without a client CA: whoever reaches the port can use it; add the CA's "
            f"certificate as third path to require client certificates",
            stacklevel=3,
        )
