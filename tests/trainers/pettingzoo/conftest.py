"""A server of small PettingZoo environments, over mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from conftest import Certificates

from remote_gym import RemoteEnvironmentServer, create_remote_environment_server
from remote_gym.pettingzoo import RemoteParallelEnv, RemoteVectorParallelEnv


@dataclass(frozen=True)
class Zoo:
    """Makes clients of the server: ``zoo.parallel("flock")``."""

    server: RemoteEnvironmentServer
    certificates: Certificates

    def client(self, kind: Any, toy: str, toy_kwargs: Any = None, **options: Any) -> Any:
        args = {"entrypoint_kwargs": {"toy": toy, **(toy_kwargs or {})}}
        paths = self.certificates.client_mutual
        return kind(self.server.address, remote_args=args, client_credentials_paths=paths, **options)

    def parallel(self, toy: str, toy_kwargs: Any = None, **options: Any) -> RemoteParallelEnv:
        return self.client(RemoteParallelEnv, toy, toy_kwargs, **options)  # type: ignore[no-any-return]

    def vector(self, toy: str, num_envs: int = 2, toy_kwargs: Any = None, **options: Any) -> RemoteVectorParallelEnv:
        return self.client(RemoteVectorParallelEnv, toy, toy_kwargs, num_envs=num_envs, **options)  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def zoo(certificates: Certificates) -> Iterator[Zoo]:
    with create_remote_environment_server(
        {"entrypoint": "parallel_toys:create"},
        port=0,
        server_credentials_paths=certificates.server_mutual,
        num_workers=2,
        restart_budget=None,
        allow_client_kwargs="*",
        allow_set="*",
    ) as server:
        yield Zoo(server, certificates)
