"""Server process: ``remote-gym serve``. Stdout carries one line, when the server is ready; all else goes to stderr."""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import signal
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from remote_gym.cli.unread import LAST_WORDS_SECONDS, UnreadHandler, Writer
from remote_gym.errors import MisuseError

if TYPE_CHECKING:
    from remote_gym import RemoteEnvironmentServer

DESCRIPTION = "Host environments until stopped. SIGTERM or Ctrl-C drains; a second one stops at once."

WAKE_SECONDS = 0.2
"""How often the main thread looks up: the kernel may give a signal to another thread, which does not wake it."""

READY_LINE = "remote-gym ready on {address}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "entrypoint", help="a Gymnasium id, module:Id-v0, module:function, or file.py with create_environment"
    )
    parser.add_argument("-u", "--url", default="127.0.0.1", help="host or unix:/path (default: %(default)s)")
    parser.add_argument("-p", "--port", type=int, default=None, help="port; 0: any free one (default: 56765)")
    parser.add_argument("--unix-socket", metavar="PATH", help="listen there as well, for this user on this machine")
    parser.add_argument("--num-workers", type=int, default=None, help="worker processes (default: one per core)")
    parser.add_argument("--max-envs-per-worker", type=int, default=None, help="environments that may share a worker")
    parser.add_argument("--entrypoint-kwargs", type=json_object, default={}, metavar="JSON", help="e.g. '{\"g\": 9.8}'")
    parser.add_argument(
        "--vectorization-mode", choices=["vector_entry_point"], help="host the id's own vector environment"
    )
    parser.add_argument(
        "--hash-seed", type=int, metavar="N", help="of strings in all workers (default: $PYTHONHASHSEED, else random)"
    )
    parser.add_argument("--grace", type=float, default=None, metavar="SECONDS", help="how long draining may take (10)")
    parser.add_argument("--step-timeout", type=float, default=60.0, metavar="SECONDS", help="of one environment's step")
    parser.add_argument("--allow-insecure", action="store_true", help="permit plaintext that other machines can reach")
    parser.add_argument("--server_certificate", metavar="PEM", help="certificate of this server")
    parser.add_argument("--server_private_key", metavar="PEM", help="its private key")
    parser.add_argument("--root_certificate", metavar="PEM", help="CA that client certificates must be signed by")
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics; 0: any free port")
    parser.add_argument("--metrics-url", default="127.0.0.1", help="address of the metrics (default: %(default)s)")
    parser.add_argument("--grpc-only", action="store_true", help="leave the port to gRPC: no direct connections")
    parser.add_argument("--verbose", action="store_true", help="log more")


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object that an argument holds; raises what `argparse` turns into a message."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError("must be a JSON object")
    return value


def credentials_paths(arguments: argparse.Namespace) -> tuple[str, ...] | None:
    """Return the paths that the flags name, None without any.

    Raises:
        MisuseError: Only some of the flags that belong together are there.
    """
    certificate, key, root = (
        arguments.server_certificate,
        arguments.server_private_key,
        arguments.root_certificate,
    )
    if certificate is None and key is None and root is None:
        return None
    if certificate is None or key is None:
        raise MisuseError("--server_certificate and --server_private_key belong together (and with --root_certificate)")
    return (certificate, key) if root is None else (certificate, key, root)


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal."""
    from remote_gym.pool import hold_standard_descriptors
    from remote_gym.server.private_folder import remove_all

    hold_standard_descriptors()
    out, log = Writer(1), Writer(2)
    logging.basicConfig(
        level=logging.DEBUG if arguments.verbose else logging.INFO,
        handlers=[UnreadHandler(log)],
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    logging.captureWarnings(True)
    warnings.simplefilter("always", UserWarning)

    def last_words() -> None:
        for writer in (out, log):
            writer.flush(LAST_WORDS_SECONDS)

    def exit_at_once(code: int) -> None:
        last_words()
        remove_all()
        os._exit(code)

    try:
        _serve(arguments, out, exit_at_once)
    finally:
        last_words()
    return 0


def _serve(arguments: argparse.Namespace, out: Writer, exit_at_once: Callable[[int], None]) -> None:
    # While nothing is served yet there is nothing to drain, and a build may take for ever.
    _on_signals(lambda number: exit_at_once(128 + number))
    server = _create_server(arguments)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    _on_signals(signals.put)
    out.put(READY_LINE.format(address=server.address) + "\n")
    while signals.empty():
        server.wait_for_termination(WAKE_SECONDS)
    signals.get()
    logging.getLogger("remote_gym.server").info("draining; a second signal stops at once")
    stopper = threading.Thread(target=server.stop, daemon=True)
    stopper.start()
    while not server.wait_for_termination(0.05):
        if not signals.empty():
            exit_at_once(1)
    stopper.join()


def _on_signals(handle: Callable[[int], object]) -> None:
    """Give SIGTERM and SIGINT to `handle`. It may end this process at once: the kernel then kills the workers."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _frame: handle(received))


def _create_server(arguments: argparse.Namespace) -> RemoteEnvironmentServer:
    from remote_gym import create_remote_environment_server

    grace = {} if arguments.grace is None else {"grace_seconds": arguments.grace}
    return create_remote_environment_server(
        {
            "entrypoint": arguments.entrypoint,
            "entrypoint_kwargs": arguments.entrypoint_kwargs,
            "vectorization_mode": arguments.vectorization_mode,
        },
        arguments.url,
        arguments.port,
        credentials_paths(arguments),
        num_workers=arguments.num_workers,
        max_envs_per_worker=arguments.max_envs_per_worker,
        step_timeout_seconds=arguments.step_timeout,
        allow_insecure=arguments.allow_insecure,
        probe=True,
        unix_socket=arguments.unix_socket,
        metrics_port=arguments.metrics_port,
        metrics_url=arguments.metrics_url,
        hash_seed=arguments.hash_seed,
        grpc_only=arguments.grpc_only,
        **grace,
    )
