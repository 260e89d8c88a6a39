"""One server for all of these tests, over mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import Certificates
from trainers.sb3.hosting import HOSTED, Hosting

from remote_gym import RemoteEnvironmentServer, create_remote_environment_server


@pytest.fixture(scope="session")
def hosting_server(certificates: Certificates) -> Iterator[RemoteEnvironmentServer]:
    with create_remote_environment_server(
        {"entrypoint": str(HOSTED)},
        port=0,
        server_credentials_paths=certificates.server_mutual,
        num_workers=2,
        restart_budget=None,
        allow_client_kwargs="*",
        allow_set="*",
    ) as server:
        yield server


@pytest.fixture
def hosting(hosting_server: RemoteEnvironmentServer, certificates: Certificates) -> Iterator[Hosting]:
    made = Hosting(hosting_server, certificates)
    yield made
    made.close()
