"""Environments to record, hosted over mutual TLS or in this process; datasets go to a folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from trainers.minari.recorded import Recorded

from remote_gym import RemoteEnvironmentServer, RemoteVectorEnv, create_remote_environment_server

ENTRYPOINT = str(Path(__file__).with_name("recorded.py"))


@pytest.fixture(autouse=True)
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Minari keeps its datasets."""
    folder = tmp_path / "datasets"
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder))
    return folder


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[RemoteEnvironmentServer]:
    """Hosts what `recorded.py` makes, each environment in a worker of its own: it is lost alone."""
    with create_remote_environment_server(
        {"entrypoint": ENTRYPOINT},
        port=0,
        server_credentials_paths=certificates.server_mutual,
        num_workers=3,
        restart_budget=None,
        allow_client_kwargs="*",
    ) as server:
        yield server


class Make:
    """``make(mode, num_envs=3, kind="box")``: vector environments of `Recorded`."""

    def __init__(self, where: str, server: RemoteEnvironmentServer, certificates: Certificates) -> None:
        self.where, self.server, self.certificates = where, server, certificates

    def __call__(
        self, mode: str = "NextStep", num_envs: int = 3, options: Any = None, **kwargs: Any
    ) -> VectorEnv[Any, Any, Any]:
        if self.where == "sync":
            return SyncVectorEnv([lambda: Recorded(**kwargs)] * num_envs, autoreset_mode=AutoresetMode(mode))
        return RemoteVectorEnv(
            self.server.address,
            num_envs=num_envs,
            remote_args={"entrypoint_kwargs": kwargs},
            client_credentials_paths=self.certificates.client_mutual,
            autoreset_mode=mode,
            **(options or {}),
        )


@pytest.fixture(params=["remote", "sync"])
def make(request: pytest.FixtureRequest, server: RemoteEnvironmentServer, certificates: Certificates) -> Make:
    return Make(request.param, server, certificates)


@pytest.fixture
def remote(server: RemoteEnvironmentServer, certificates: Certificates) -> Make:
    return Make("remote", server, certificates)
