"""No I/O: every setting of a server, once: flags, variables, keys of ``remote-gym.toml`` and the page are made of it.

A setting has the name that it has as an argument of `create_remote_environment_server`; what is one tuple there, the
paths of the credentials, are three settings here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from remote_gym.cli.kinds import (
    BOOLEAN,
    COUNT,
    JSON_OBJECT,
    NAMES,
    PATTERNS,
    PEM,
    PORT,
    PRINCIPALS,
    RESTARTS,
    VARIABLES,
    Kind,
    choice,
    integer,
    path,
    seconds,
    text,
)
from remote_gym.cli.limits import LIMITS

VARIABLE_PREFIX = "REMOTE_GYM_SERVE_"
"""Not `REMOTE_GYM_` alone: clients read `REMOTE_GYM_URL`, also one that is hosted; and where a service is called
remote-gym, Kubernetes sets variables of that name with _PORT to a URL."""

CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"
"""Names the file of settings, as ``--config`` does."""

UNLIMITED, COUNT_OR_NONE = seconds(may_be_none=True), integer(1, may_be_none=True)


@dataclass(frozen=True)
class Setting:
    """One setting of a server.

    Attributes:
        name: As an argument of `create_remote_environment_server`, or a key of its `default_args`, and in TOML.
        kind: How its values are read.
        group: The title that it stands under in ``--help``.
        help: What it does.
        default: What holds if nobody says anything; a str says in words what is decided elsewhere.
        others: Further flags.
        old: Flags that went before, which are read and not shown.
        off: A flag without a value that went before, for an empty one; read and not shown.
        secret: Whether its value is repeated nowhere.
        own_flag: Its flag, where that is not the name.
    """

    name: str
    kind: Kind
    group: str
    help: str
    default: Any = None
    others: tuple[str, ...] = ()
    old: tuple[str, ...] = ()
    off: str = ""
    secret: bool = False
    own_flag: str = ""

    @property
    def flag(self) -> str:
        """The flag, in the spelling that is shown; `serve` takes the entrypoint without one."""
        return "ENTRYPOINT" if self.name == "entrypoint" else self.own_flag or f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return VARIABLE_PREFIX + self.name.upper()


HOST, LISTEN, TLS, WORKERS, SANDBOX, TIMES, REST = (
    "what to host", "where to listen", "TLS", "workers and limits", "sandbox", "times", "operations",
)  # fmt: skip

SETTINGS = (
    Setting(
        "entrypoint", text("ENTRYPOINT", "text", is_path=True), HOST,
        "a Gymnasium id, module:Id-v0, module:function, or file.py with create_environment",
    ),
    Setting("entrypoint_kwargs", JSON_OBJECT, HOST, "keyword arguments for it", others=("--kwargs",)),
    Setting("vectorization_mode", choice("vector_entry_point"), HOST, "host the id's own vector environment"),
    Setting(
        "allow_client_kwargs", NAMES, HOST, "entrypoint_kwargs that clients may give, over yours", (),
        others=("--allow-kwargs",), off="--no-allow-client-kwargs",
    ),
    Setting(
        "allow_call", PATTERNS, HOST, "public names that clients may call and read",
        "all, but those of wrappers that write files",
    ),
    Setting("allow_set", PATTERNS, HOST, "public names that clients may set", ()),
    Setting("frames", BOOLEAN, HOST, "make pictures of environments for who looks on, while workers are idle", False),
    Setting("probe", BOOLEAN, HOST, "build one environment before listening, and end if that fails", True),
    Setting(
        "probe_envs", COUNT, HOST,
        "how many a vector environment is asked for then; one of another fixed size is taken, too", 1,
    ),
    Setting(
        "hash_seed", integer(0, 2**32 - 1), HOST, "of strings in all workers", "$PYTHONHASHSEED, else random",
        secret=True,
    ),
    Setting(
        "url", text("ADDRESS", "HOST, HOST:PORT or unix:PATH", is_path=True), LISTEN,
        "HOST, HOST:PORT or unix:PATH; 0.0.0.0: all addresses", "127.0.0.1", ("-u",),
    ),
    Setting("port", PORT, LISTEN, "0: any free one", "that of the url, else 56765", ("-p",)),
    Setting(
        "unix_socket", text("PATH", "a path", is_path=True), LISTEN,
        "listen there as well, for this user on this machine",
    ),
    Setting("grpc_only", BOOLEAN, LISTEN, "leave the port to gRPC: no direct connections", False),
    Setting(
        "announce", path(), LISTEN,
        "a file that holds this server's address while it takes new sessions, for whoever looks for it",
    ),
    Setting("server_certificate", PEM, TLS, "certificate of this server; without one: this machine only"),
    Setting("server_private_key", PEM, TLS, "its private key"),
    Setting("root_certificate", PEM, TLS, "CA that client certificates must be signed by; makes them required"),
    Setting(
        "token_file", text("FILE", "a path", is_path=True), TLS,
        "tokens of clients, as `remote-gym tokens` writes them; makes them required, but on a Unix socket",
    ),
    Setting(
        "deny_file", text("FILE", "a path", is_path=True), TLS,
        "SHA-256 fingerprints of client certificates that are taken no more",
    ),
    Setting("allow_insecure", BOOLEAN, TLS, "permit plaintext that other machines can reach", False),
    Setting("num_workers", COUNT, WORKERS, "worker processes of each principal that has sessions", "one per core"),
    Setting(
        "max_envs_per_worker", COUNT_OR_NONE, WORKERS, "environments that may share a worker, and its fate", "none"
    ),
    Setting("max_workers", COUNT, WORKERS, "worker processes at most", "256, or num_workers if that is more"),
    Setting(
        "isolation", choice("principal", "session", "shared"), WORKERS,
        "who shares workers, and their fate: the sessions of one principal, none, or all", "principal",
    ),
    Setting("max_envs", COUNT, WORKERS, "environments held at once", 16_384),
    Setting("max_sessions", COUNT, WORKERS, "sessions held at once", 1_024),
    Setting(
        "max_held_bytes", integer(1, metavar="BYTES"), WORKERS, "held in memory for clients, of each kind", 64 * 2**20
    ),
    Setting(
        "limits", LIMITS, WORKERS,
        "what a principal may have of sessions, envs, workers, bytes and opens_per_minute, and its lease_seconds; may "
        "be given again",
        own_flag="--limit",
    ),
    Setting(
        "restart_budget", RESTARTS, WORKERS, "how often a session may end its worker and be built again", (10, 60.0)
    ),
    Setting("sandbox", BOOLEAN, SANDBOX, "keep environments from this server's secrets, files and network", False),
    Setting("sandbox_required", BOOLEAN, SANDBOX, "end where bubblewrap is not usable", False),
    Setting("sandbox_env", VARIABLES, SANDBOX, "variables that environments in it get as well", ()),
    Setting(
        "worker_prefix", text("COMMAND", "a command"), SANDBOX,
        "runs each worker's command; with --sandbox in place of bubblewrap", "none",
    ),
    Setting(
        "worker_memory_bytes", integer(1, metavar="BYTES"), SANDBOX, "memory of one worker, shared rows not counted",
        "none; in a sandbox half of the machine's",
    ),
    Setting(
        "worker_file_bytes", integer(1, metavar="BYTES"), SANDBOX, "longest file that an environment writes",
        "none; in a sandbox 1 GiB",
    ),
    Setting(
        "step_timeout_seconds", UNLIMITED, TIMES, "of one environment's step, call or render", 60.0,
        old=("--step-timeout",),
    ),
    Setting("reset_timeout_seconds", UNLIMITED, TIMES, "of one environment's reset", 300.0),
    Setting("build_timeout_seconds", UNLIMITED, TIMES, "of building one environment", 300.0),
    Setting("lease_seconds", seconds(), TIMES, "how long the environments of a lost client are kept", 300.0),
    Setting("grace_seconds", seconds(may_be_zero=True), TIMES, "how long draining may take", 10.0, old=("--grace",)),
    Setting(
        "handover_seconds", seconds(may_be_zero=True), TIMES,
        "how long, before that, sessions may go on, for their clients to go elsewhere as episodes end", 0.0,
    ),
    Setting("metrics_port", PORT, REST, "serve Prometheus metrics; 0: any free port", "no metrics"),
    Setting("metrics_url", text("HOST", "a host"), REST, "address of the metrics", "127.0.0.1"),
    Setting(
        "dashboard_port", PORT, REST, "show a live page of sessions and workers; 0: any free port", "no dashboard"
    ),
    Setting("dashboard_url", text("HOST", "a host"), REST, "address of the dashboard", "127.0.0.1"),
    Setting(
        "dashboard_admin", BOOLEAN, REST, "let the dashboard end sessions and have the server drain", False
    ),
    Setting("log_format", choice("text", "json"), REST, "of the log: for people, or an object per line", "text"),
    Setting("audit_log", path(), REST, "a file that tells who did what and was refused what, as JSON lines"),
    Setting("trace", BOOLEAN, REST, "record what belongs to a client's trace, as the variables OTEL_... say", False),
    Setting("trace_file", path(), REST, "a file to record it in, as JSON lines, in place of what these say"),
    Setting(
        "operators", PRINCIPALS, REST, "who sees all sessions by watching, not their own alone; may be repeated", (),
        own_flag="--operator",
    ),
    Setting(
        "admin_socket", path(may_be_none=True), REST,
        "where `remote-gym sessions` reaches this server, for this user alone; auto: by its port, in $XDG_RUNTIME_DIR",
        "auto",
    ),
)  # fmt: skip

BY_NAME = {setting.name: setting for setting in SETTINGS}

_ARGS = ("entrypoint", "entrypoint_kwargs", "vectorization_mode")
PEM_NAMES = ("server_certificate", "server_private_key", "root_certificate")
"""What `server_credentials_paths` holds, in its order."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declare a flag for each setting; what is not given is None."""
    groups: dict[str, Any] = {}
    for setting in SETTINGS:
        if setting.group not in groups:
            groups[setting.group] = parser.add_argument_group(setting.group)
        if setting.name == "entrypoint":
            add_flag(groups[setting.group], setting, setting.name, nargs="?")
            continue
        add_flag(groups[setting.group], setting, *setting.others, setting.flag, dest=setting.name)
        if setting.old:
            add_flag(groups[setting.group], setting, *setting.old, dest=setting.name, help=argparse.SUPPRESS)
        if setting.off:
            options = {"dest": setting.name, "action": "store_const", "const": (), "help": argparse.SUPPRESS}
            groups[setting.group].add_argument(setting.off, **options)


def add_flag(parser: Any, setting: Setting, *names: str, **options: Any) -> None:
    """Declare a setting as an argument of `parser`, under `names`."""
    options = {"help": described(setting), **options}
    if setting.kind is BOOLEAN:
        options["action"] = argparse.BooleanOptionalAction
    else:
        options.update(type=setting.kind.argument, metavar=setting.kind.metavar, choices=setting.kind.choices or None)
        if setting.kind.merged is not None:
            options["action"] = partial(_Merge, setting.kind.merged)
    parser.add_argument(*names, **options)


class _Merge(argparse.Action):
    """Makes one value of a flag that is given several times."""

    def __init__(self, merged: Callable[[Any, Any], Any], **options: Any) -> None:
        super().__init__(**options)
        self._merged = merged

    def __call__(self, _parser: Any, namespace: argparse.Namespace, value: Any, _option: str | None = None) -> None:
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, value if before is None else self._merged(before, value))


def described(setting: Setting) -> str:
    """Return what a setting does, and its default if there is one."""
    default = default_of(setting)
    return f"{setting.help} (default: {default})" if default else setting.help


def default_of(setting: Setting) -> str:
    """Return the default in words, empty if there is none."""
    default = setting.default
    if isinstance(default, bool):
        return "yes" if default else "no"
    if isinstance(default, tuple):
        return "/".join(f"{part:g}" for part in default) or "none"
    return "" if default is None else f"{default:g}" if isinstance(default, float) else str(default)


def server_arguments(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return `default_args` and the other arguments of `create_remote_environment_server`, but for what is unsaid."""
    args = {name: values[name] for name in _ARGS if name in values}
    options = {name: value for name, value in values.items() if name not in (*_ARGS, *PEM_NAMES)}
    options.setdefault("probe", BY_NAME["probe"].default)  # a command that cannot serve says so at once
    if any(name in values for name in PEM_NAMES):
        options["server_credentials_paths"] = tuple(values.get(name) for name in PEM_NAMES)
    return args, options


def table() -> Iterator[str]:
    """Yield the lines of the table that the page on the command line has."""
    yield "| flag | key | what it does | values | default |"
    yield "|---|---|---|---|---|"
    for setting in SETTINGS:
        flags = ", ".join(f"`{name}`" for name in (setting.flag, *setting.others, *setting.old))
        values = setting.kind.what.replace("|", r"\|").replace("*", r"\*")
        yield f"| {flags} | `{setting.name}` | {setting.help} | {values} | {default_of(setting)} |"
