"""Who is who, over either carrier the same: certificates, users of this machine, nobody; and whose a session is."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates, ServerFactory
from helpers import settings
from signing import common_name, sign_to, uri

from remote_gym import RefusedError, RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv, values
from remote_gym.client.carriers.dialing import dialer_for
from remote_gym.messages import Attach, Lost, Open, Opened, Reset
from remote_gym.wire.codec import pack_client, read_server

TRANSPORTS = ("direct", "grpc")
pytestmark = pytest.mark.parametrize("transport", TRANSPORTS)


def names(server: RemoteEnvironmentServer) -> list[str]:
    """Return the principals of all sessions."""
    return sorted(session.principal.name for session in server._sessions.by_id.values())


@pytest.fixture(scope="module")
def issue(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Sequence[Path]]:
    """Return credentials with a new certificate for these names."""

    def issue(*common: str, uris: Sequence[str] = ()) -> Sequence[Path]:
        folder = tmp_path_factory.mktemp("client")
        return sign_to(folder, certificates.directory, [common_name(one) for one in common], list(map(uri, uris)))

    return issue


@pytest.fixture
def mutual(serve: ServerFactory, certificates: Certificates) -> RemoteEnvironmentServer:
    return serve(num_workers=1, server_credentials_paths=certificates.server_mutual)


def test_certificates(mutual: RemoteEnvironmentServer, issue: Any, transport: str) -> None:
    shown = [issue("alice"), issue("zoë"), issue("bob", "alice"), issue(uris=["spiffe://lab/carol", "spiffe://x"])]
    named = ["alice", "anonymous", "bob", "spiffe://lab/carol", "zoë"]
    envs = [RemoteEnvironment(mutual.address, client_credentials_paths=paths, transport=transport) for paths in shown]
    envs.append(RemoteEnvironment(mutual.address, client_credentials_paths=issue(), transport=transport))
    try:
        for env in envs:
            env.reset(seed=0)
        assert names(mutual) == named
    finally:
        for env in envs:
            env.close()


@pytest.mark.parametrize("name", ["anonymous", "uid:0", "alice\0.example", "alice\n"])
def test_a_certificate_that_would_be_another(
    mutual: RemoteEnvironmentServer, issue: Any, transport: str, name: str
) -> None:
    with (
        RemoteEnvironment(mutual.address, client_credentials_paths=issue(name), transport=transport) as env,
        pytest.raises(RefusedError, match=r"your certificate is for .*get one with another common name") as caught,
    ):
        env.reset()
    assert caught.value.limit == "authentication"
    assert mutual.statistics()["refusals"]["authentication"] >= 1
    with RemoteEnvironment(mutual.address, client_credentials_paths=issue("alice"), transport=transport) as env:
        env.reset()


@pytest.mark.parametrize("grpc_only", [False, True])
def test_a_unix_socket(serve: ServerFactory, tmp_path: Path, transport: str, grpc_only: bool) -> None:
    if grpc_only and transport == "direct":
        return
    server = serve(num_workers=1, url=f"unix:{tmp_path / 'socket'}", port=None, grpc_only=grpc_only)
    with RemoteVectorEnv(server.address, num_envs=2, transport=transport) as envs:
        envs.reset(seed=0)
        assert names(server) == [f"uid:{os.geteuid()}"]


@pytest.mark.parametrize("tls", [False, True])
def test_nobody(serve: ServerFactory, certificates: Certificates, transport: str, tls: bool) -> None:
    server = serve(num_workers=1, server_credentials_paths=certificates.server if tls else None)
    paths = certificates.client_mutual if tls else None  # which the server does not ask for
    with RemoteEnvironment(server.address, client_credentials_paths=paths, transport=transport) as env:
        env.reset(seed=0)
        assert names(server) == ["anonymous"]


class Client:
    """A client that says what it is told to, over one carrier."""

    def __init__(self, server: RemoteEnvironmentServer, paths: Sequence[Path], transport: str) -> None:
        (address,) = settings(url=server.address, client_credentials_paths=paths).addresses
        self._dialer = dialer_for(address, transport)
        self._dialer.wait_until_ready(10.0)
        self._carrier = self._dialer.begin()

    def ask(self, message: Any) -> Any:
        self._carrier.send(pack_client(message))
        return self.receive()

    def receive(self) -> Any:
        return read_server(self._carrier.receive(lambda size: memoryview(bytearray(size))))

    def close(self) -> None:
        self._carrier.close()
        self._dialer.close()


@pytest.fixture
def dial(mutual: RemoteEnvironmentServer, issue: Any, transport: str) -> Iterator[Callable[[str], Client]]:
    made: list[Client] = []

    def dial(name: str) -> Client:
        made.append(Client(mutual, issue(name), transport))
        return made[-1]

    yield dial
    for client in made:
        client.close()


def test_a_session_is_its_principals_alone(mutual: RemoteEnvironmentServer, dial: Any, transport: str) -> None:
    opening = Open(1, 1, secrets.token_bytes(16), 1)
    alice, bob, carol = dial("alice"), dial("bob"), dial("carol")
    opened = alice.ask(opening)
    assert isinstance(opened, Opened)
    his = bob.ask(replace(opening, num_envs=2))  # her nonce: to him it is like any other
    assert isinstance(his, Opened)
    assert his.session_id != opened.session_id and his.token != opened.token and len(his.env_ids) == 2
    attach = Attach(opened.session_id, opened.token, opened.server_epoch, 1)
    unknown = dial("carol").ask(replace(attach, session_id=b"unknown" * 2))
    assert isinstance(unknown, Lost)
    assert carol.ask(attach) == unknown
    assert alice.ask(Reset(1, seeds=values.pack([7], "seeds"))).number == 1  # and she has not been fenced
    assert names(mutual) == ["alice", "bob"]


def test_who_comes_back_with_a_renewed_certificate_has_the_session(
    mutual: RemoteEnvironmentServer, dial: Any, transport: str
) -> None:
    opened = dial("alice").ask(Open(1, 1, secrets.token_bytes(16), 1))
    again = dial("alice").ask(Attach(opened.session_id, opened.token, opened.server_epoch, 1))
    assert again.highest == 0


def test_whatever_carries_it(mutual: RemoteEnvironmentServer, issue: Any, transport: str) -> None:
    other = TRANSPORTS[TRANSPORTS[0] == transport]
    opened = Client(mutual, issue("alice"), transport)
    back = Client(mutual, issue("alice"), other)
    try:
        said = opened.ask(Open(1, 1, secrets.token_bytes(16), 1))
        assert back.ask(Attach(said.session_id, said.token, said.server_epoch, 1)).highest == 0
    finally:
        opened.close()
        back.close()
