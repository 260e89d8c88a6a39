"""The user's terminal: ``remote-gym farm --on ray``. Keeps servers up on the nodes of a Ray cluster until stopped."""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from remote_gym.cli.certificates import write
from remote_gym.cli.entrypoints import check_file
from remote_gym.cli.kinds import COUNT, JSON_OBJECT, Kind, choice, seconds
from remote_gym.cli.options import BY_NAME, HOST, SANDBOX, SETTINGS, TIMES, WORKERS, add_flag, server_arguments
from remote_gym.cli.terminal import BOLD, UsageError, paint, say
from remote_gym.distribution import install
from remote_gym.errors import ConnectError, MisuseError

if TYPE_CHECKING:
    from remote_gym.ray import Farm

DESCRIPTION = (
    "Keep servers up on a Ray cluster, with certificates of their own, until stopped: SIGTERM or Ctrl-C ends them all. "
    "Stdout carries one line, when all of them listen; stderr says how clients use them."
)

READY_LINE = "remote-gym farm ready on {url}"
"""All of stdout; what follows "on" is a client's `url`."""

PER_NODE = "per-node"
LOOK_SECONDS = 0.5
"""How often it looks where the servers are: clients that watch the file are told well within a second."""

OURS = [setting for setting in SETTINGS if setting.group in (HOST, WORKERS, SANDBOX, TIMES)]
"""What a server can be told here: where to listen, and how to prove who it is, are the farm's to say."""

FILES = ("ca.pem", "client.pem", "client-key.pem")
ADDRESSES = "servers.txt"


def _servers(text: str) -> int | str:
    return text if text == PER_NODE else int(COUNT.from_text(text))


SERVERS = Kind("N", f"a positive integer or {PER_NODE}", _servers, _servers)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.usage = "remote-gym farm [-h] --on ray [FLAG ...] ENTRYPOINT"
    add_flag(parser, BY_NAME["entrypoint"], "entrypoint", nargs="?")
    on = choice("ray")
    parser.add_argument("--on", type=on.argument, choices=on.choices, required=True, metavar="ray", help="what on")
    parser.add_argument(
        "--servers", type=SERVERS.argument, default=PER_NODE, metavar=SERVERS.metavar,
        help=f"how many, or {PER_NODE}: one on each node that has what one asks for (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--address", default="auto", metavar="ADDRESS", help="of the cluster (default: %(default)s)")
    parser.add_argument(
        "--num-cpus", type=seconds(may_be_zero=True).argument, default=1.0, metavar="N",
        help="that Ray reserves for each server, and how many workers that has (default: 1)",
    )  # fmt: skip
    parser.add_argument("--resources", type=JSON_OBJECT.argument, metavar="JSON", help="what else it reserves")
    parser.add_argument(
        "--runtime-env", type=JSON_OBJECT.argument, metavar="JSON", help="what servers need on the nodes, as Ray has it"
    )
    parser.add_argument("--name", metavar="NAME", help="of the farm (default: a new one)")
    parser.add_argument(
        "--directory", metavar="DIR",
        help="where the client's credentials and the addresses are, until the end (default: a private one)",
    )  # fmt: skip
    parser.add_argument(
        "--detach", action="store_true", help="leave it running, for programs on the cluster: Farm.attach(NAME)"
    )
    parser.add_argument("--end", metavar="NAME", help="end the farm of that name, and do nothing else")
    groups: dict[str, Any] = {}
    for setting in OURS:
        if setting.name != "entrypoint":
            if setting.group not in groups:
                groups[setting.group] = parser.add_argument_group(setting.group)
            add_flag(groups[setting.group], setting, *setting.others, setting.flag, dest=setting.name)


def run(arguments: argparse.Namespace) -> int:
    """Keep a farm up, or end one."""
    if arguments.end is None and arguments.entrypoint is None:
        raise UsageError("nothing to host: give an ENTRYPOINT, as in `remote-gym farm --on ray CartPole-v1`")
    if arguments.end is not None:
        with _cluster(arguments):
            from remote_gym.ray import Farm

            Farm.attach(arguments.end).close()
        say(f"remote-gym farm: {arguments.end} has ended")
        return 0
    check_file(arguments.entrypoint, "ENTRYPOINT")
    with _cluster(arguments):
        if arguments.detach:
            farm = _start(arguments)
            print(READY_LINE.format(url=farm.name), flush=True)
            say(_of_detached(farm))
            return 0
        stopped = threading.Event()
        _check_directory(arguments.directory)
        with _start(arguments) as farm, _directory(arguments.directory) as folder:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: stopped.set())
            _keep(farm, folder, stopped)
            say("remote-gym farm: ending; a second signal does not wait")
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.default_int_handler)
    return 0


@contextlib.contextmanager
def _cluster(arguments: argparse.Namespace) -> Iterator[None]:
    """Connect to Ray, and let go of it.

    Raises:
        MisuseError: Ray is not installed.
        ConnectError: There is no such cluster.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise MisuseError(f"a farm on Ray needs it: {install('ray')}") from None
    level = "INFO" if arguments.verbose else "ERROR"
    try:
        ray.init(arguments.address, logging_level=level, log_to_driver=arguments.verbose)
    except (ConnectionError, RuntimeError, ValueError) as error:
        causes = ["there is no cluster: `ray start --head` starts one", "--address names another one"]
        raise ConnectError(f"Ray at {arguments.address}", str(error).strip(), causes) from None
    try:
        yield
    finally:
        ray.shutdown()


def _start(arguments: argparse.Namespace) -> Farm:
    from remote_gym.ray import Farm

    given = {setting.name: value for setting in OURS if (value := getattr(arguments, setting.name)) is not None}
    args, options = server_arguments(given)
    cpus = arguments.num_cpus
    return Farm(
        args.pop("entrypoint"), arguments.servers, num_cpus=int(cpus) if cpus == int(cpus) else cpus,
        resources=arguments.resources, runtime_env=arguments.runtime_env, name=arguments.name,
        detached=arguments.detach, **args, **options,
    )  # fmt: skip


def _check_directory(given: str | None) -> None:
    """Refuse a folder in which something would be overwritten, and taken away in the end: certificates, maybe.

    Raises:
        MisuseError: There is.
    """
    there = [] if given is None else [name for name in (*FILES, ADDRESSES) if Path(given, name).exists()]
    if there:
        raise MisuseError(f"--directory: {', '.join(there)} in {given} would be overwritten; name another folder")


@contextlib.contextmanager
def _directory(given: str | None) -> Iterator[Path]:
    """Give the folder for what clients need, which is taken away in the end; a folder of the user's stays."""
    folder = Path(tempfile.mkdtemp(prefix="remote-gym-farm-")) if given is None else Path(given).absolute()
    try:
        yield folder
    finally:
        if given is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            for name in (*FILES, ADDRESSES):
                (folder / name).unlink(missing_ok=True)


def _keep(farm: Farm, folder: Path, stopped: threading.Event) -> None:
    """Tell where the servers are, until told to stop."""
    paths = write([folder / name for name in FILES], farm.client_credentials(), overwrite=True)
    file, known = folder / ADDRESSES, farm.addresses()
    _write(file, known)
    print(READY_LINE.format(url=f"file:{file}"), flush=True)
    say(_announcement(farm, file, paths))
    while not stopped.wait(LOOK_SECONDS):
        with contextlib.suppress(ConnectError):  # its keeper is being started anew
            now = farm.addresses()
            if now and now != known:
                _write(file, now)
                say(f"remote-gym farm: {len(now)} servers, at {', '.join(now)}")
                known = now


def _write(file: Path, addresses: list[str]) -> None:
    new = file.with_suffix(".new")
    new.write_text("".join(f"{address}\n" for address in addresses))
    new.replace(file)  # whole, at any moment


def _announcement(farm: Farm, file: Path, paths: list[Path]) -> str:
    pem = ", ".join(f'"{path}"' for path in paths)
    line = (
        f'from remote_gym import RemoteVectorEnv; envs = RemoteVectorEnv("file:{file}", num_envs=64, '
        f'client_credentials_paths=({pem}), tls_name="farm", on_session_lost="move")'
    )
    return (
        f"remote-gym farm: {farm.name}, {len(farm.status())} servers, mutual TLS; in Python, where these files are:\n"
        f"    {paint(line, BOLD, sys.stderr)}\n"
        f"in Python, on the cluster:\n    {paint(_attached(farm), BOLD, sys.stderr)}"
    )


def _of_detached(farm: Farm) -> str:
    return (
        f"remote-gym farm: {farm.name}, {len(farm.status())} servers, mutual TLS; in Python, on the cluster:\n"
        f"    {paint(_attached(farm), BOLD, sys.stderr)}\n"
        f"and in the end:\n    {paint(f'remote-gym farm --on ray --end {farm.name}', BOLD, sys.stderr)}"
    )


def _attached(farm: Farm) -> str:
    return f'from remote_gym.ray import Farm; envs = Farm.attach("{farm.name}").vector_env(64)'
