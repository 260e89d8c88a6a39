"""TLS and mutual TLS over loopback, and every way to get it wrong: named, with ``host:port``, within seconds."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from conftest import Certificates

from remote_gym import (
    ConnectError,
    MisuseError,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    create_remote_environment_server,
)
from remote_gym.cli.certificates import write_certificates

CONNECT_SECONDS = 2.0
MARGIN_SECONDS = 3.0


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of another CA."""
    directory = tmp_path_factory.mktemp("foreign")
    write_certificates(directory)
    return Certificates(directory)


def start(credentials: Sequence[Path] | None) -> RemoteEnvironmentServer:
    return create_remote_environment_server({"entrypoint": "CartPole-v1"}, "127.0.0.1", 0, credentials, num_workers=1)


@pytest.fixture(scope="module")
def tls(certificates: Certificates) -> Iterator[RemoteEnvironmentServer]:
    with start(certificates.server) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(certificates: Certificates) -> Iterator[RemoteEnvironmentServer]:
    with start(certificates.server_mutual) as server:
        yield server


@pytest.fixture(scope="module")
def plain() -> Iterator[RemoteEnvironmentServer]:
    with start(None) as server:
        yield server


def refused(address: str, credentials: Sequence[Path] | None) -> str:
    """Dial in vain, in time, and return what the user is told."""
    began = time.monotonic()
    with (
        RemoteEnvironment(
            address, client_credentials_paths=credentials, connect_timeout_seconds=CONNECT_SECONDS
        ) as env,
        pytest.raises(ConnectError) as caught,
    ):
        env.reset()
    assert time.monotonic() - began < CONNECT_SECONDS + MARGIN_SECONDS
    assert caught.value.address == address
    assert address in str(caught.value)
    assert caught.value.causes
    return str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls(tls: RemoteEnvironmentServer, certificates: Certificates, host: str) -> None:
    with RemoteVectorEnv(host, tls.port, 3, client_credentials_paths=certificates.client) as envs:
        envs.reset(seed=0)
        assert envs.step([0, 1, 0])[1].tolist() == [1.0] * 3


def test_tls_also_takes_a_client_that_shows_a_certificate(
    tls: RemoteEnvironmentServer, certificates: Certificates
) -> None:
    with RemoteEnvironment(tls.address, client_credentials_paths=certificates.client_mutual) as env:
        env.reset(seed=0)


@pytest.mark.parametrize("as_text", [False, True])
def test_mutual_tls(mutual: RemoteEnvironmentServer, certificates: Certificates, as_text: bool) -> None:
    paths = [str(path) if as_text else path for path in certificates.client_mutual]
    with RemoteVectorEnv(mutual.address, num_envs=3, client_credentials_paths=paths) as envs:
        envs.reset(seed=0)
        assert envs.step([0, 1, 0])[1].tolist() == [1.0] * 3


def test_mutual_tls_without_a_client_certificate(mutual: RemoteEnvironmentServer, certificates: Certificates) -> None:
    message = refused(mutual.address, certificates.client)
    assert "requires a client certificate, and none was given" in message
    assert "client_credentials_paths=(ca.pem, client.pem, client-key.pem)" in message


def test_mutual_tls_with_a_foreign_client_certificate(
    mutual: RemoteEnvironmentServer, certificates: Certificates, foreign: Certificates
) -> None:
    message = refused(mutual.address, (certificates.client[0], *foreign.client_mutual[1:]))
    assert "refused our client certificate" in message


@pytest.mark.parametrize("kind", ["tls", "mutual"])
def test_wrong_ca(kind: str, foreign: Certificates, request: pytest.FixtureRequest) -> None:
    message = refused(request.getfixturevalue(kind).address, foreign.client_mutual)
    assert "signed" in message or "issued" in message
    assert "CA" in message


def test_a_host_that_the_certificate_does_not_name(tls: RemoteEnvironmentServer, certificates: Certificates) -> None:
    with create_remote_environment_server(
        {"entrypoint": "CartPole-v1"}, "127.0.0.2", 0, certificates.server, num_workers=1
    ) as server:
        message = refused(server.address, certificates.client)
    assert "127.0.0.2" in message
    assert "127.0.0.1" in message  # what it does name
    assert "certs" in message  # and how to get one that does


def test_plaintext_against_tls(tls: RemoteEnvironmentServer) -> None:
    assert "wants TLS, but this client has no credentials" in refused(tls.address, None)


def test_tls_against_plaintext(plain: RemoteEnvironmentServer, certificates: Certificates) -> None:
    assert "speaks plaintext, but this client has credentials" in refused(plain.address, certificates.client)


@pytest.mark.parametrize("with_tls", [False, True])
def test_nobody_listens(certificates: Certificates, with_tls: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    assert "nothing listens there" in refused(f"127.0.0.1:{port}", certificates.client if with_tls else None)


def test_a_failed_connection_leaves_the_address_usable(
    tls: RemoteEnvironmentServer, certificates: Certificates, foreign: Certificates
) -> None:
    refused(tls.address, foreign.client)
    with RemoteEnvironment(tls.address, client_credentials_paths=certificates.client) as env:
        env.reset()


def test_credentials_are_never_shared_between_clients(
    mutual: RemoteEnvironmentServer, certificates: Certificates
) -> None:
    """A client without a certificate gets no use of the channel of one that has it."""
    with RemoteEnvironment(mutual.address, client_credentials_paths=certificates.client_mutual) as env:
        env.reset()
        refused(mutual.address, certificates.client)
        env.step(0)


def test_plaintext_to_another_machine_is_refused_before_dialling() -> None:
    with pytest.raises(MisuseError, match=r"refusing to talk to 192\.0\.2\.1 without TLS"):
        RemoteEnvironment("192.0.2.1:1")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::"])
def test_plaintext_for_other_machines_is_refused(host: str) -> None:
    with pytest.raises(MisuseError, match="without TLS"):
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, host, 0)


def test_a_server_for_other_machines_warns(certificates: Certificates) -> None:
    args = {"entrypoint": "CartPole-v1"}
    with (
        pytest.warns(UserWarning, match="in plaintext: anyone who reaches the port"),
        create_remote_environment_server(args, "0.0.0.0", 0, num_workers=1, allow_insecure=True),
    ):
        pass
    with (
        pytest.warns(UserWarning, match="without a client CA: whoever reaches the port can use it") as caught,
        create_remote_environment_server(args, "0.0.0.0", 0, certificates.server, num_workers=1),
    ):
        pass
    assert caught[0].filename == __file__
    with create_remote_environment_server(args, "0.0.0.0", 0, certificates.server_mutual, num_workers=1):
        pass  # no warning
