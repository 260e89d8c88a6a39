"""Fixtures: real servers on free ports, real certificates, real processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from remote_gym import RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv, create_remote_environment_server
from remote_gym.cli.certificates import write_certificates

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a background job; what tests start would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

TOYS = Path(__file__).parent / "toys.py"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="as many steps as the project promises equality for (slow)")


@dataclass(frozen=True)
class Certificates:
    """PEM paths in the forms that server and client take."""

    directory: Path

    @property
    def server(self) -> tuple[Path, ...]:
        return self.directory / "server.pem", self.directory / "server-key.pem"

    @property
    def server_mutual(self) -> tuple[Path, ...]:
        return (*self.server, self.directory / "ca.pem")

    @property
    def client(self) -> tuple[Path, ...]:
        return (self.directory / "ca.pem",)

    @property
    def client_mutual(self) -> tuple[Path, ...]:
        return self.directory / "ca.pem", self.directory / "client.pem", self.directory / "client-key.pem"


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the slow ones are asked for, too."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    directory = tmp_path_factory.mktemp("certificates")
    write_certificates(directory)
    return Certificates(directory)


ServerFactory = Callable[..., RemoteEnvironmentServer]


@pytest.fixture
def serve() -> Iterator[ServerFactory]:
    """Make servers in this process: ``serve("CartPole-v1", num_workers=2)``; all are stopped at the end."""
    with contextlib.ExitStack() as stack:

        def make(entrypoint: str = "CartPole-v1", entrypoint_kwargs: Any = None, **options: Any) -> Any:
            args = {"entrypoint": entrypoint, "entrypoint_kwargs": entrypoint_kwargs or {}}
            options = {"port": 0, "num_workers": 2, **options}
            return stack.enter_context(create_remote_environment_server(args, **options))

        yield make


@dataclass(frozen=True)
class ToyServer:
    """A server of all toys, over TLS: ``toys.client(RemoteVectorEnv, "counter", num_envs=3)``."""

    server: RemoteEnvironmentServer
    certificates: Certificates

    def client(self, kind: Any, toy: str, toy_kwargs: Any = None, **options: Any) -> Any:
        args = {"entrypoint_kwargs": {"toy": toy, **(toy_kwargs or {})}}
        return kind(self.server.address, remote_args=args, client_credentials_paths=self.certificates.client, **options)

    def vector(self, toy: str, num_envs: int = 3, toy_kwargs: Any = None, **options: Any) -> RemoteVectorEnv:
        return self.client(RemoteVectorEnv, toy, toy_kwargs, num_envs=num_envs, **options)  # type: ignore[no-any-return]

    def single(self, toy: str, toy_kwargs: Any = None, **options: Any) -> RemoteEnvironment:
        return self.client(RemoteEnvironment, toy, toy_kwargs, **options)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def toys(certificates: Certificates) -> Iterator[ToyServer]:
    """One server for many tests, which also shows that it survives what they do to it."""
    with create_remote_environment_server(
        {"entrypoint": "toys:create"},
        port=0,
        server_credentials_paths=certificates.server,
        num_workers=2,
        restart_budget=None,
        allow_client_kwargs="*",
        allow_set="*",
    ) as server:
        yield ToyServer(server, certificates)


@dataclass
class ServeProcess:
    """A running ``remote-gym serve`` and what it wrote."""

    process: subprocess.Popen[str]
    address: str
    stderr: deque[str] = field(default_factory=lambda: deque(maxlen=10_000))

    @property
    def log(self) -> str:
        return "".join(self.stderr)


@pytest.fixture
def serve_process() -> Iterator[Callable[..., ServeProcess]]:
    """Start ``remote-gym serve ...`` as a process of its own and wait for its ready line; killed at the end."""
    running: list[subprocess.Popen[str]] = []

    def start(
        entrypoint: str, *flags: str, environment: dict[str, str] | None = None, script: str | None = None
    ) -> ServeProcess:
        # `script` stands in for `python -m remote_gym`; it hands its arguments to `remote_gym.cli.main`.
        program = ["-m", "remote_gym"] if script is None else ["-c", script]
        port = () if any(flag.startswith("unix:") for flag in flags) else ("--port", "0")
        command = [sys.executable, *program, "serve", entrypoint, *port, *flags]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        running.append(process)
        served = ServeProcess(process, "")
        assert process.stderr is not None
        assert process.stdout is not None
        threading.Thread(target=lambda: served.stderr.extend(process.stderr), daemon=True).start()
        line = process.stdout.readline()
        match = re.fullmatch(r"remote-gym ready on (\S+)\n", line)
        assert match, f"no ready line but {line!r}; stderr:\n{served.log}"
        served.address = match[1]
        return served

    yield start
    for process in running:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
