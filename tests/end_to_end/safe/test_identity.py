"""Servers whose address no certificate holds, and credentials that are bytes: over either carrier."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory

from remote_gym import ConnectError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.certificates import Authority
from remote_gym.cli import main
from remote_gym.client.diagnosis.steps import diagnose
from remote_gym.credentials import ClientPem

AUTHORITY = Authority.new()
CLIENT = AUTHORITY.client("trainer").client_credentials(servers=AUTHORITY)
TRANSPORTS = ("direct", "grpc")
ELSEWHERE = "127.0.0.7"  # this machine, under an address that no certificate here holds


@pytest.fixture
def server(serve: ServerFactory) -> Any:
    leaf = AUTHORITY.server(["simulator"])
    return serve(url=ELSEWHERE, num_workers=1, server_credentials_paths=leaf.server_credentials(clients=AUTHORITY))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_certificate_is_for_the_name_that_is_asked_for(server: Any, transport: str) -> None:
    options: dict[str, Any] = {"client_credentials_paths": CLIENT, "transport": transport}
    with RemoteVectorEnv(server.address, num_envs=2, tls_name="simulator", **options) as envs:
        envs.reset(seed=1)
        envs.step(np.array([0, 1]))
        with pickle.loads(pickle.dumps(envs)) as copy:  # bytes and all: nothing of it is in any file
            copy.reset(seed=1)
    with RemoteEnvironment(server.address, tls_name="SIMULATOR", **options) as env:
        env.reset(seed=1)
    assert {session.principal.name for session in server._sessions.by_id.values()} <= {"trainer"}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("name", "told"), [(None, f"lacks the IP {ELSEWHERE}"), ("other", "lacks the name other")])
def test_another_name_is_refused(server: Any, transport: str, name: str | None, told: str) -> None:
    env = RemoteEnvironment(
        server.address, client_credentials_paths=CLIENT, transport=transport, tls_name=name, connect_timeout_seconds=5
    )
    with env, pytest.raises(ConnectError, match=told) as caught:
        env.reset()
    assert any("tls_name" in cause for cause in caught.value.causes)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_name_lends_no_trust_to_another_authority(serve: ServerFactory, transport: str) -> None:
    other = Authority.new()
    server = serve(url=ELSEWHERE, server_credentials_paths=other.server(["simulator"]).server_credentials())
    env = RemoteEnvironment(
        server.address, client_credentials_paths=CLIENT, transport=transport, tls_name="simulator",
        connect_timeout_seconds=5,
    )  # fmt: skip
    with env, pytest.raises(ConnectError, match="signed by"):
        env.reset()


def test_looking_by_hand_asks_for_the_name_too(server: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    host, _, port = server.address.rpartition(":")
    found = diagnose(host, int(port), ClientPem(*CLIENT, server_name="simulator"), 10.0)
    assert found.ok, found
    files = [tmp_path / name for name in ("ca.pem", "client.pem", "client-key.pem")]
    for file, content in zip(files, CLIENT, strict=True):
        file.write_bytes(content)
    flags = [
        f"--{name}={file}" for name, file in
        zip(("root-certificate", "client-certificate", "client-private-key"), files, strict=True)
    ]  # fmt: skip
    assert main(["check-connection", server.address, *flags]) == 1
    assert main(["check-connection", server.address, *flags, "--tls-name", "simulator"]) == 0
    assert "simulator" in capsys.readouterr().out
