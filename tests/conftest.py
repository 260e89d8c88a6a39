"""Fixtures: real servers on free ports, real certificates, real processes."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from remote_gym import RemoteEnvironmentServer, create_remote_environment_server
from remote_gym.cli.certificates import write_certificates

TOYS = Path(__file__).parent / "toys.py"


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

    def start(entrypoint: str, *flags: str) -> ServeProcess:
        command = [sys.executable, "-m", "remote_gym", "serve", entrypoint, "--port", "0", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
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
