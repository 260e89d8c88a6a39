"""Servers of the toys that the package ships."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gymnasium.vector import SyncVectorEnv

from remote_gym import RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv, create_remote_environment_server
from remote_gym.testing import OwnResults
from remote_gym.testing.toys import create_environment

ENTRYPOINT = "remote_gym.testing.toys:create_environment"


class Toys:
    """Factories of remote and local toys, as the checks want them."""

    def __init__(self, server: RemoteEnvironmentServer) -> None:
        self.server = server

    def remote_vector(self, name: str, kind: type[RemoteVectorEnv] = RemoteVectorEnv, **toy: Any) -> Any:
        render_mode = toy.pop("render_mode", None)
        args = {"entrypoint_kwargs": {"name": name, **toy}}

        def make(**options: Any) -> RemoteVectorEnv:
            return kind(self.server.address, remote_args=args, render_mode=render_mode, **options)

        return make

    def local_vector(self, name: str, **toy: Any) -> Any:
        def make(num_envs: int, **options: Any) -> SyncVectorEnv:
            return SyncVectorEnv([lambda: OwnResults(create_environment(name, **toy))] * num_envs, **options)

        return make

    def remote(self, name: str, kind: type[RemoteEnvironment] = RemoteEnvironment, **toy: Any) -> Any:
        render_mode = toy.pop("render_mode", None)
        args = {"entrypoint_kwargs": {"name": name, **toy}}
        return lambda: kind(self.server.address, remote_args=args, render_mode=render_mode)

    def local(self, name: str, **toy: Any) -> Any:
        return lambda: create_environment(name, **toy)

    def vectors(self, name: str, **toy: Any) -> tuple[Any, Any]:
        return self.remote_vector(name, **toy), self.local_vector(name, **toy)

    def singles(self, name: str, **toy: Any) -> tuple[Any, Any]:
        return self.remote(name, **toy), self.local(name, **toy)


@pytest.fixture(scope="package")
def two_workers() -> Iterator[Toys]:
    with create_remote_environment_server(
        {"entrypoint": ENTRYPOINT}, port=0, num_workers=2, allow_client_kwargs="*", allow_set="*"
    ) as server:
        yield Toys(server)


@pytest.fixture(scope="package")
def one_worker() -> Iterator[Toys]:
    with create_remote_environment_server(
        {"entrypoint": ENTRYPOINT}, port=0, num_workers=1, allow_client_kwargs="*", allow_set="*"
    ) as server:
        yield Toys(server)
