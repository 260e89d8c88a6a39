"""Benchmark's own process: certificates, servers and other helpers, each a process that is ended with its block."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 120.0
"""How long a server may take until it is ready: on two busy cores, 64 workers import Gymnasium."""
STOP_SECONDS = 15.0


@contextmanager
def certificates(environment: dict[str, str] | None = None) -> Iterator[Path]:
    """Make throw-away certificates for mutual TLS; give their folder.

    Args:
        environment: Variables of what makes them, which then runs in that folder: `-m` looks where it runs first.
            None: our own, and where we run.
    """
    with tempfile.TemporaryDirectory(prefix="remote_gym-benchmark-") as folder:
        command = [sys.executable, "-m", "remote_gym", "certs", folder]
        where = folder if environment is not None else None
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, cwd=where)
        yield Path(folder)


def client_paths(directory: Path) -> list[str]:
    """Return what a client of the servers needs, as `client_credentials_paths`."""
    return [str(directory / name) for name in ("ca.pem", "client.pem", "client-key.pem")]


@contextmanager
def started(
    command: list[str], ready: str, environment: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a helper until the end of the block; give it, and what follows `ready` in its first line of output.

    Args:
        command: The program and its arguments.
        ready: How its first line begins.
        environment: Its variables; None: our own.
        folder: Where it runs; None: where we do.

    Raises:
        RuntimeError: It ended, or said nothing in time; with what it wrote to stderr.
    """
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment, cwd=folder
        )
        try:
            assert process.stdout is not None
            watchdog = threading.Timer(START_SECONDS, process.kill)
            watchdog.start()
            line = process.stdout.readline().strip()
            watchdog.cancel()
            if not line.startswith(ready):
                errors.seek(0)
                raise RuntimeError(f"{' '.join(command)} did not start:\n{errors.read()[-2_000:]}")
            yield process, line[len(ready) :].strip()
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def served(
    env: str,
    num_workers: int,
    directory: Path,
    *flags: str,
    prefix: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run ``remote-gym serve`` over mutual TLS on loopback; give the process and its address.

    Args:
        env: A name of `environments.py`.
        num_workers: Worker processes.
        directory: Of the certificates.
        flags: More for the command line.
        prefix: A command that runs the command, such as ``ip netns exec``.
        environment: Variables of the server, which then runs in `directory`; None: our own, and where we run.
    """
    what = [str(HERE / "environments.py"), "--entrypoint-kwargs", json.dumps({"name": env})]
    if "--vectorization-mode" in flags:
        what = [env]
    command = [
        *prefix, sys.executable, "-m", "remote_gym", "serve", *what, "--port", "0", "--num-workers", str(num_workers),
        "--server_certificate", str(directory / "server.pem"),
        "--server_private_key", str(directory / "server-key.pem"),
        "--root_certificate", str(directory / "ca.pem"), *flags,
    ]  # fmt: skip
    folder = directory if environment is not None else None
    with started(command, "remote-gym ready on ", environment, folder) as (process, address):
        yield process, address


@contextmanager
def echoing(answer_bytes: int, directory: Path, kind: str = "echo") -> Iterator[str]:
    """Run the server of `contenders/echo.py`, bare gRPC, or that of `sockets.py`, a bare TLS socket; give its address.

    Args:
        answer_bytes: Of each answer.
        directory: Of the certificates.
        kind: The module's name.
    """
    command = [sys.executable, str(HERE / "contenders" / f"{kind}.py"), str(directory), str(answer_bytes)]
    with started(command, "echo ready on ") as (_, address):
        yield address
