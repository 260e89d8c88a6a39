"""Server process: what a user asks for -> a running server. Everything is checked here, before anything is started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from remote_gym.addresses import DEFAULT_PORT, MAX_UNIX_PATH_BYTES, UNIX, is_loopback, split_address, unix_path
from remote_gym.arguments import RemoteArgs, check_args
from remote_gym.errors import MisuseError
from remote_gym.pool import Confinement, Surroundings, Timeouts, hold_standard_descriptors
from remote_gym.processes import refuse_in_a_worker, usable_cores
from remote_gym.server.admin_places import AUTO
from remote_gym.server.announced import check_path as check_announced
from remote_gym.server.authentication import authenticator
from remote_gym.server.certificates import Certificates
from remote_gym.server.isolation import Isolation
from remote_gym.server.limits import GivenLimits, Limits
from remote_gym.server.listening import Endpoints, check_exposure
from remote_gym.server.permissions import permissions
from remote_gym.server.server import RemoteEnvironmentServer
from remote_gym.server.settings import TEXT, Settings

DEFAULT_GRACE_SECONDS = 10.0


def entrypoint_text(entrypoint: Any) -> Any:
    """Return an entrypoint as text, a file's with its whole path: what is relative is so to the folder of today.

    Raises:
        MisuseError: The path is relative and the working directory is gone.
    """
    text = os.fsdecode(entrypoint) if isinstance(entrypoint, os.PathLike) else entrypoint
    if not isinstance(text, str) or not text.endswith(".py"):
        return text
    try:
        return os.path.abspath(text)
    except FileNotFoundError as error:
        raise MisuseError(f"the entrypoint file {text!r} cannot be found: the working directory is gone") from error


def file_path(path: object, name: str) -> str:
    """Return the whole path of a file that is made, whatever the working directory becomes later.

    Raises:
        MisuseError: It is no path, or relative and the working directory is gone.
    """
    try:
        text = os.fsdecode(os.fspath(path))  # type: ignore[call-overload]
        if not text or "\0" in text:
            raise ValueError
        return os.path.abspath(text)
    except (TypeError, ValueError):
        raise MisuseError(f"{name} must be the path of a file, got {path!r}") from None
    except FileNotFoundError as error:
        raise MisuseError(f"{name}={path!r} is relative, and the working directory is gone") from error


def _check_dashboard(host: str, admin: bool, admin_socket: object, allow_insecure: bool) -> None:
    """Refuse a dashboard that others could read along with, or whose buttons would do nothing.

    Raises:
        MisuseError: It would be one.
    """
    if unix_path(host) is not None:
        raise MisuseError(f"dashboard_url={host!r} is a socket; a browser needs a host, such as 127.0.0.1")
    if not is_loopback(host) and not allow_insecure:
        raise MisuseError(
            f"refusing to show the dashboard on {host}, in plaintext: leave it on 127.0.0.1 and reach it through "
            f"`ssh -L`, or spell out allow_insecure=True"
        )
    if admin and admin_socket is None:
        raise MisuseError("dashboard_admin=True takes an admin_socket, over which the dashboard ends sessions")


def _folders(entrypoint: str) -> list[str]:
    """Return where the code of an entrypoint is, as far as that is no module."""
    return [os.path.dirname(entrypoint)] if entrypoint.endswith(".py") else []


def create_remote_environment_server(
    default_args: RemoteArgs | Mapping[str, Any],
    url: str = "127.0.0.1",
    port: int | None = None,
    server_credentials_paths: Sequence[str | os.PathLike[str] | bytes | None] | None = None,
    *,
    num_workers: int | None = None,
    max_envs_per_worker: int | None = None,
    max_workers: int | None = None,
    max_envs: int = 16_384,
    max_sessions: int = 1_024,
    max_held_bytes: int = 64 * 2**20,
    limits: GivenLimits | None = None,
    lease_seconds: float = 300.0,
    step_timeout_seconds: float | None = 60.0,
    reset_timeout_seconds: float | None = 300.0,
    build_timeout_seconds: float | None = 300.0,
    restart_budget: tuple[int, float] | None = (10, 60.0),
    grace_seconds: float = DEFAULT_GRACE_SECONDS,
    handover_seconds: float = 0.0,
    allow_insecure: bool = False,
    allow_client_kwargs: Iterable[str] | str | bool = (),
    allow_call: Iterable[str] | str | None = None,
    allow_set: Iterable[str] | str = (),
    probe: bool = False,
    probe_envs: int = 1,
    unix_socket: str | os.PathLike[str] | None = None,
    metrics_port: int | None = None,
    metrics_url: str = "127.0.0.1",
    hash_seed: int | None = None,
    grpc_only: bool = False,
    announce: str | os.PathLike[str] | None = None,
    isolation: Isolation = "principal",
    token_file: str | os.PathLike[str] | None = None,
    deny_file: str | os.PathLike[str] | None = None,
    admin_socket: str | os.PathLike[str] | None = AUTO,
    dashboard_port: int | None = None,
    dashboard_url: str = "127.0.0.1",
    dashboard_admin: bool = False,
    audit_log: str | os.PathLike[str] | None = None,
    log_format: str = TEXT,
    operators: Iterable[str] = (),
    frames: bool = False,
    trace: bool = False,
    trace_file: str | os.PathLike[str] | None = None,
    sandbox: bool = False,
    sandbox_required: bool = False,
    sandbox_env: Sequence[str] = (),
    worker_prefix: str | Sequence[str] | None = None,
    worker_memory_bytes: int | None = None,
    worker_file_bytes: int | None = None,
) -> RemoteEnvironmentServer:
    """Host environments for remote clients; returns at once with the server running in the background.

    Args:
        default_args: What to host, see `RemoteArgs`: `entrypoint` and optionally `entrypoint_kwargs`.
        url: Address to listen on: a host name or IP of this machine, ``"0.0.0.0"`` for all, or ``"unix:/path"``: a
            socket that clients of the same user on this machine reach, without TLS.
        port: Port to listen on; 0 takes any free one (see `.port`); None: 56765, or the one in `url`.
        server_credentials_paths: (certificate.pem, key.pem[, ca.pem]), each the path of a file, or bytes: what such a
            file holds (see `remote_gym.certificates`). With a CA, clients must present a certificate it has signed.
            None: plaintext, on loopback only. When the files change, connections that are new get the new ones within
            seconds.
        num_workers: Worker processes, of each principal that has sessions (see `isolation`); None: one per core.
        max_envs_per_worker: Environments that may share a worker and so its fate; None: no limit. Workers beyond
            `num_workers` are started when it asks for them.
        max_workers: Worker processes at most, of all principals together; None: 256, or `num_workers` if that is more.
            Where there are fewer left than `num_workers`, a principal makes do with those; a session that would need
            more is refused at once.
        max_envs: Environments held at once, over all sessions.
        max_sessions: Sessions held at once.
        max_held_bytes: Bytes held in memory for clients, of each kind: their keyword arguments; messages that have not
            come whole; results of calls and renders, kept in case the connection breaks. What is over is refused, or
            dropped once it was sent; a single larger one is held, up to four times as much, if there is little else.
        limits: What each principal may have at once: ``{"alice": {"envs": 512, "sessions": 8}, "*": {"envs": 64}}``,
            of `sessions`, `envs`, `workers` (of its own), `bytes` (held, of each kind), `opens_per_minute`, and how
            long its sessions are kept, `lease_seconds`. ``"*"`` stands for every principal, each for itself, as far as
            nothing else is said of it; None as a number: no limit. What is over is refused at once.
        lease_seconds: How long the environments of a client that lost its connection are kept.
        step_timeout_seconds: Longest time of one environment's step, call or render; None: no limit.
        reset_timeout_seconds: Longest time of one environment's reset; None: no limit.
        build_timeout_seconds: Longest time to build one environment; None: no limit.
        restart_budget: (count, seconds): environments of a session that end their worker more often than `count` times
            within `seconds` are not rebuilt; those of others in that worker always are. None: always.
        grace_seconds: How long `stop` lets running requests take.
        handover_seconds: How long, before that, `stop` lets sessions go on: their clients are told, and those with
            ``on_session_lost="move"`` take their environments to other servers as episodes end. It ends as soon as all
            sessions have.
        allow_insecure: Permit plaintext on an address that other machines reach. Warns.
        allow_client_kwargs: Names of the `entrypoint_kwargs` that clients may give, over yours; ``"*"`` or True: all;
            False: none. Never `env_id`, `enable_rendering` or `render_mode`, which is an argument of its own. This and
            the next two are for all clients but the one that this process's user is over `unix_socket`, or
            ``url="unix:..."``: for that one all is free. What names files is as open as this server's files are.
        allow_call: Patterns (``*``, ``?``) of the names that clients may call and read, of public ones; None: all
            public ones, but those of wrappers that write files, as `RecordVideo`.
        allow_set: Patterns of the names that clients may set, of public ones; ``"*"``: all. The two numbers of a
            `TimeLimit` that scripts set, `_max_episode_steps` and `_elapsed_steps`, need no listing.
        probe: Build one environment before listening and raise if that fails; it is kept for the first session.
        probe_envs: How many environments `probe` asks a vector environment's entrypoint for: one that takes only some
            numbers says which. One that has another number than it was asked for is taken. Of single environments one
            is built, whatever this says.
        unix_socket: Path of a unix socket to listen on as well, as with ``url="unix:/path"``.
        metrics_port: TCP port of Prometheus metrics; 0 takes any free one (see `.metrics_port`); None: no metrics.
            Needs the extra ``server``.
        metrics_url: Address of the metrics, which travel in plaintext.
        hash_seed: Of strings, in all workers, as `PYTHONHASHSEED` has it: environments that iterate over sets of
            strings agree. Give several servers the same where they must agree too. None: this process's own
            `PYTHONHASHSEED` if it is set, else a random one that nobody is told.
        grpc_only: Leave the port to gRPC: no direct carrier, and nothing between gRPC and its clients.
        announce: Path of a file that holds this server's address, one line, while it takes new sessions: written once
            it listens, removed when it drains. Where it listens on all addresses, the machine's name is said. A client
            that is given ``"file:FOLDER"`` finds the servers that announce themselves there.
        isolation: Which sessions may share workers, where one's crash or endless loop is the others' too:
            ``"principal"``: those of one principal; whoever has no name is one principal, ``anonymous``. Each has up to
            `num_workers` of its own, started when it opens its first session and kept for 30 s after its last.
            ``"session"``: none. ``"shared"``: all.
        token_file: Path of a file of tokens, as `remote-gym tokens add` writes it: whoever comes over TCP needs one,
            and has its name. Read again when it changes; sessions whose token is gone, or has expired, end within
            seconds. Needs TLS or a Unix socket.
        deny_file: Path of a file of SHA-256 fingerprints of client certificates that are taken no more, one a line.
            Read again when it changes; sessions by these end within seconds. Needs a client CA.
        admin_socket: Path of the socket over which `remote-gym sessions` lists and ends sessions, for this user alone;
            ``"auto"``: in the user's runtime folder, named by the port, or beside the server's own unix socket (see
            `.admin_socket`); None: no such socket.
        dashboard_port: TCP port of the dashboard, a live page for browsers on this machine; 0 takes any free one; None:
            no dashboard. It runs in a process of its own, and opens with the token that is in `.dashboard_link` alone.
            Needs the extra ``dashboard``.
        dashboard_url: Address of the dashboard, which travels in plaintext: one that other machines reach takes
            `allow_insecure`.
        dashboard_admin: Whether who looks at it may end sessions, and have the server drain; takes an `admin_socket`.
        audit_log: Path of a file that says who did what and was refused what, as JSON lines; appended to, made with
            mode 0600, and made anew when it was moved away. None: no such file.
        log_format: ``"json"`` writes the log of the server to stderr, a JSON object per line, in the place of the
            handlers that this process has set up, unless these have a `JsonFormatter` themselves. ``"text"`` leaves it
            to them.
        operators: Names of principals that see everybody's sessions when they watch, not their own alone; the user of
            this server, over its Unix socket, always does.
        frames: Make pictures of environments for who watches and asks for them: only where the environment renders
            arrays, while its worker is idle, and in a twentieth of its time at most.
        trace: Record, of requests that belong to a sampled trace of their client, what the server and its workers do,
            and export it as the environment variables ``OTEL_*`` say. Without this and `trace_file` a server records
            with the SDK of OpenTelemetry that its process has configured when it is made, if it has. Needs the extra
            ``otel``.
        trace_file: Path of a file to record that in, as JSON lines that `remote-gym trace` draws; appended to, made
            with mode 0600.
        sandbox: Keep environments from the secrets of this process: workers get the environment variables of a list
            alone, limits, no new privileges, and where bubblewrap is usable no network, no processes but their own and
            files to read only; this process is closed to others of its user. Which of it holds is logged.
        sandbox_required: Raise where bubblewrap is not usable.
        sandbox_env: Names of environment variables that workers in a sandbox get as well.
        worker_prefix: A command that runs the workers' command, as ``"nice -n 5"`` or a list of words; in a sandbox in
            place of bubblewrap. It must pass descriptors on, and end with what it runs.
        worker_memory_bytes: Memory that one worker may allocate, shared rows not counted; None: no limit, in a sandbox
            half of the machine's.
        worker_file_bytes: Longest file that an environment may write; None: no limit, in a sandbox 1 GiB.

    Workers start in the working directory, with the ``sys.path`` and the environment variables, that this process has
    now, whatever becomes of these later.

    Returns:
        The running server; a context manager.

    Raises:
        MisuseError: An argument is wrong, or a sandbox that is required cannot be had, or plaintext was asked for off
            the machine, or this is a worker: a script without a main guard is its own entrypoint. Says what to do.
        OSError: The address or port cannot be used.
        RefusedError: With `probe`, the environment could not be built; holds its traceback.
    """
    refuse_in_a_worker()
    hold_standard_descriptors()
    args = check_args(default_args, "default_args", ("entrypoint", "entrypoint_kwargs", "vectorization_mode"))
    settings = Settings(
        entrypoint=entrypoint_text(args.get("entrypoint", "")),
        entrypoint_kwargs=dict(args.get("entrypoint_kwargs") or {}),
        num_workers=usable_cores() if num_workers is None else num_workers,
        max_envs_per_worker=max_envs_per_worker,
        max_workers=max_workers,
        max_envs=max_envs,
        max_sessions=max_sessions,
        max_held_bytes=max_held_bytes,
        lease_seconds=lease_seconds,
        timeouts=Timeouts(build_timeout_seconds, reset_timeout_seconds, step_timeout_seconds),
        restart_budget=restart_budget,
        permissions=permissions(allow_client_kwargs, allow_call, allow_set),
        vectorization_mode=args.get("vectorization_mode"),
        surroundings=Surroundings.here(hash_seed),
        isolation=isolation,
        limits=Limits(limits),
        log_format=log_format,
        audit_log=None if audit_log is None else file_path(audit_log, "audit_log"),
        trace=bool(trace),
        trace_file=None if trace_file is None else file_path(trace_file, "trace_file"),
        probe_envs=probe_envs,
        operators=(operators,) if isinstance(operators, str) else tuple(operators),
        frames=bool(frames),
        handover_seconds=handover_seconds,
    )
    host, port = split_address(url, DEFAULT_PORT if port is None and ":" not in url else port)
    certificates = Certificates(server_credentials_paths) if server_credentials_paths is not None else None
    pem = None if certificates is None else certificates.current()
    known = authenticator(token_file, deny_file, [host], pem, allow_insecure)
    check_exposure(host, pem, allow_insecure, known.asks_for_tokens)
    if unix_socket is not None:
        unix_socket, _ = split_address(UNIX + os.fspath(unix_socket).removeprefix(UNIX))
    if metrics_port is not None:
        metrics_url, metrics_port = split_address(metrics_url, metrics_port)
    if dashboard_port is not None:
        _check_dashboard(dashboard_url, dashboard_admin, admin_socket, allow_insecure)
        dashboard_url, dashboard_port = split_address(dashboard_url, dashboard_port)
    admin = admin_socket if admin_socket in (AUTO, None) else file_path(admin_socket, "admin_socket")
    if admin is not None and (length := len(os.fsencode(admin))) > MAX_UNIX_PATH_BYTES:
        raise MisuseError(f"admin_socket={admin!r} has {length} bytes, a socket's path {MAX_UNIX_PATH_BYTES} at most")
    announced = None if announce is None else file_path(announce, "announce")
    if announced is not None:
        check_announced(announced)
    asked = Confinement(sandbox, sandbox_required, sandbox_env, worker_prefix, worker_memory_bytes, worker_file_bytes)
    secret = (*(server_credentials_paths or ())[1:2], token_file, deny_file, audit_log, trace_file)
    keys = [os.path.abspath(path) for path in secret if path is not None and not isinstance(path, bytes)]
    sockets = [path for one in (host, unix_socket) if one is not None and (path := unix_path(one)) is not None]
    sockets += [] if admin in (AUTO, None) else [admin]  # where it is usually, nothing of the machine's is in sight
    surroundings = asked.applied(settings.surroundings, keys, _folders(settings.entrypoint), sockets)
    settings = replace(settings, surroundings=surroundings)
    endpoints = Endpoints(
        host, port, pem, unix_socket, metrics_url, metrics_port, grpc_only, certificates, known, admin, announced,
        dashboard_url, dashboard_port, dashboard_admin,
    )  # fmt: skip
    return RemoteEnvironmentServer(settings, endpoints, grace_seconds, probe)
