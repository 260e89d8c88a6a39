"""Tokens over both carriers: who has one has its name, who has none is told what to do, and what is revoked ends."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Certificates, ServerFactory
from helpers import wait_until
from signing import common_name, fingerprint, sign_to

from remote_gym import (
    MisuseError,
    RefusedError,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    SessionLost,
)
from remote_gym.cli import main
from remote_gym.cli.check_connection import VERSION_STEP
from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.messages import Open
from remote_gym.server import authentication, watched_files
from remote_gym.server.authentication import LOOK_SECONDS
from remote_gym.server.tokens import Token, digest_of, new_token
from remote_gym.wire.codec import pack_client

TRANSPORTS = ("direct", "grpc")
REVOKED_SECONDS = 10.0
"""Within which what a revoked token has opened must have ended."""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "URL", "ROOT_CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_PRIVATE_KEY", "TRANSPORT"):
        monkeypatch.delenv(f"REMOTE_GYM_{name}", raising=False)
    monkeypatch.setattr(authentication, "LOOK_SECONDS", 0.1)


class File:
    """A file of tokens."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def add(self, name: str, expires: float | None = None) -> str:
        text = new_token()
        with self.path.open("a") as file:
            file.write(f"{Token(name, digest_of(text), expires)}\n")
        return text


@pytest.fixture
def file(tmp_path: Path) -> File:
    return File(tmp_path / "tokens")


@pytest.fixture
def server(serve: ServerFactory, certificates: Certificates, file: File) -> RemoteEnvironmentServer:
    return serve(num_workers=1, server_credentials_paths=certificates.server, token_file=file.path)


Dial = Callable[..., Any]


@pytest.fixture(params=TRANSPORTS)
def dial(request: pytest.FixtureRequest, server: RemoteEnvironmentServer, certificates: Certificates) -> Dial:
    def dial(token: str | None, kind: Any = RemoteEnvironment, **options: Any) -> Any:
        options = {"client_credentials_paths": certificates.client, "transport": request.param, **options}
        return kind(server.address, token=token, **options)

    return dial


def names(server: RemoteEnvironmentServer) -> list[str]:
    return sorted(session.principal.name for session in server._sessions.by_id.values())


def refused(env: Any) -> str:
    """Return how the use of `env` is refused, at once and not only in the end."""
    began = time.monotonic()
    with env, pytest.raises(RefusedError) as caught:
        env.reset(seed=0)
    assert time.monotonic() - began < 5.0
    assert caught.value.limit == "authentication"
    return str(caught.value)


def lost(env: Any, meanwhile: Callable[[], Any] = list) -> str:
    """Step `env` until its session ends, in time; return why."""
    began = time.monotonic()
    while time.monotonic() - began < REVOKED_SECONDS:
        meanwhile()
        try:
            if env.step(0)[2]:
                env.reset()
        except SessionLost as error:
            return str(error)
    raise AssertionError("it goes on")


def test_it_ends_in_time() -> None:
    assert 3 * LOOK_SECONDS + watched_files.MISSING_SECONDS < REVOKED_SECONDS


def test_a_token_has_a_name(server: RemoteEnvironmentServer, file: File, dial: Dial) -> None:
    alice, bob = file.add("alice"), file.add("bob", time.time() + 3_600)
    with dial(alice) as env, dial(bob, RemoteVectorEnv, num_envs=2) as envs, dial(f" {alice}\n") as again:
        for one in (env, envs, again):
            one.reset(seed=0)
        envs.step([0, 1])
        assert names(server) == ["alice", "alice", "bob"]


def test_who_has_none_is_told_what_to_do(
    server: RemoteEnvironmentServer, file: File, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, late = file.add("alice"), file.add("late", time.time() - 60)
    assert "pass token=, or set REMOTE_GYM_TOKEN" in refused(dial(None))
    assert "does not know your token" in refused(dial(new_token()))
    assert "your token, 'late', has expired at" in refused(dial(late))
    assert "does not know your token" in refused(dial(new_token(), RemoteVectorEnv, num_envs=2))
    assert server.statistics()["refusals"]["authentication"] >= 4
    monkeypatch.setenv("REMOTE_GYM_TOKEN", alice)
    with dial(None) as env:
        env.reset(seed=0)
        assert names(server) == ["alice"]


def test_a_revoked_token_ends_its_sessions_and_no_others(
    server: RemoteEnvironmentServer, file: File, dial: Dial
) -> None:
    bob, alice = file.add("bob"), file.add("alice")
    with dial(alice) as hers, dial(bob) as his, dial(alice, RemoteVectorEnv, num_envs=2) as many:
        for one in (hers, his, many):
            one.reset(seed=0)
        file.path.write_text(file.path.read_text().splitlines(keepends=True)[0])
        assert "REVOKED (the token of 'alice' was revoked)" in lost(hers, lambda: his.reset(seed=0))
        with pytest.raises(SessionLost, match="REVOKED"):
            many.step([0, 0])
        wait_until(lambda: names(server) == ["bob"], 5.0, "the end of all of alice's sessions")
        his.reset(seed=1)
    assert "does not know your token" in refused(dial(alice))


def test_who_has_connected_before_it_was_revoked_opens_nothing(
    server: RemoteEnvironmentServer, file: File, dial: Dial
) -> None:
    env = dial(file.add("alice"))
    dialer = _dialer(env)
    try:
        dialer.wait_until_ready(10.0)
        carrier = dialer.begin()  # over the direct carrier, both sides have said Hello
        file.path.write_text("")
        carrier.send(pack_client(Open(1, 1, b"n" * 16, 1)))
        with pytest.raises(CarrierEnded, match=r"revoked|does not know your token") as caught:
            carrier.receive(lambda size: memoryview(bytearray(size)))
        assert caught.value.end is End.STRANGER
        carrier.close()
    finally:
        dialer.close()
        env.close()
    assert names(server) == []


def test_who_attaches_by_a_revoked_token_is_not_kept_waiting(
    server: RemoteEnvironmentServer, file: File, dial: Dial
) -> None:
    with dial(file.add("alice"), reconnect_timeout_seconds=60.0) as env:
        env.reset(seed=0)
        file.path.write_text("")
        server._loop.call_soon_threadsafe(server._edge.end_all)  # its connection breaks
        assert "REVOKED" in lost(env)


def test_a_token_that_expires_ends_its_session(server: RemoteEnvironmentServer, file: File, dial: Dial) -> None:
    with dial(file.add("alice", time.time() + 2.0)) as env:
        env.reset(seed=0)
        assert "the token of 'alice' has expired" in lost(env)


def test_a_session_goes_on_with_the_token_that_was_shown_last(
    server: RemoteEnvironmentServer, file: File, dial: Dial
) -> None:
    old, new = file.add("alice"), file.add("alice")
    with dial(old) as env:
        env.reset(seed=0)
        (session,) = server._sessions.by_id.values()
        assert session.principal.token == digest_of(old)
        other = dial(new)  # as it is after a restart of the trainer's, with a new token
        env._remote.fleet.shards[0].hosted._session._reader._dialer = _dialer(other)
        server._loop.call_soon_threadsafe(server._edge.end_all)
        env.reset(seed=1)
        assert session.principal.token == digest_of(new)


def _dialer(env: Any) -> Any:
    from remote_gym.client.carriers.dialing import dialer_for

    settings = env._remote.settings
    return dialer_for(settings.addresses[0], settings.transport)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_with_a_certificate_too(
    serve: ServerFactory, certificates: Certificates, file: File, tmp_path: Path, transport: str
) -> None:
    server = serve(num_workers=1, server_credentials_paths=certificates.server_mutual, token_file=file.path)
    bobs = sign_to(tmp_path / "bob", certificates.directory, [common_name("bob")])

    def dial(paths: Any, token: str | None) -> Any:
        return RemoteEnvironment(server.address, client_credentials_paths=paths, token=token, transport=transport)

    with dial(bobs, file.add("alice")) as env:
        env.reset(seed=0)
        assert names(server) == ["alice"]  # the token's name wins
    assert "this server asks for a token" in refused(dial(bobs, None))
    with dial(certificates.client, file.add("carol")) as env, pytest.raises(Exception, match="certificate"):
        env.reset(seed=0)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_unix_socket(serve: ServerFactory, tmp_path: Path, file: File, transport: str) -> None:
    server = serve(num_workers=1, url=f"unix:{tmp_path / 'socket'}", port=None, token_file=file.path)
    with (
        RemoteEnvironment(server.address, token=file.add("alice"), transport=transport) as hers,
        RemoteEnvironment(server.address, transport=transport) as owners,
    ):
        hers.reset(seed=0)
        owners.reset(seed=0)
        assert names(server) == ["alice", f"uid:{os.geteuid()}"]
    assert "does not know" in refused(RemoteEnvironment(server.address, token=new_token(), transport=transport))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_plaintext(serve: ServerFactory, file: File, transport: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = file.add("alice")
    with pytest.raises(MisuseError, match="token_file"):
        serve(num_workers=1, token_file=file.path)
    with pytest.warns(UserWarning, match="tokens would travel in plaintext"):
        server = serve(num_workers=1, token_file=file.path, allow_insecure=True)
    with pytest.raises(MisuseError, match=r"refusing to send a token to 127\.0\.0\.1 without TLS"):
        RemoteEnvironment(server.address, token=alice, transport=transport)
    with RemoteEnvironment(server.address, token=alice, transport=transport, allow_insecure=True) as env:
        env.reset(seed=0)
        assert names(server) == ["alice"]
    monkeypatch.setenv("REMOTE_GYM_TOKEN", alice)  # of another server maybe: it stays here
    assert "asks for a token" in refused(RemoteEnvironment(server.address, transport=transport))
    without = serve(num_workers=1)
    with RemoteEnvironment(without.address, transport=transport) as env:
        env.reset(seed=0)
        assert names(without) == ["anonymous"]
    careless = RemoteEnvironment(without.address, token=alice, transport=transport, allow_insecure=True)
    assert "a token came in plaintext" in refused(careless)


def test_a_copy_has_the_token_and_its_pickle_has_not(
    server: RemoteEnvironmentServer, file: File, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = file.add("alice")
    with dial(alice) as env:
        pickled = pickle.dumps(env)
        assert alice.encode() not in pickled
        assert alice not in repr(env) + repr(env._remote.settings) + repr(env._remote.settings.addresses)
        with pickle.loads(pickled) as copy:
            copy.reset(seed=0)
            assert names(server) == ["alice"]


def test_it_is_in_no_log(
    server: RemoteEnvironmentServer, file: File, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    alice, unknown = file.add("alice"), new_token()
    with dial(alice) as env:
        env.reset(seed=0)
    refused(dial(unknown))
    assert "was refused" in caplog.text
    assert alice not in caplog.text and unknown not in caplog.text
    assert digest_of(alice).hex() not in caplog.text


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_denied_certificate(serve: ServerFactory, certificates: Certificates, tmp_path: Path, transport: str) -> None:
    denied = tmp_path / "denied"
    denied.touch()
    server = serve(num_workers=1, server_credentials_paths=certificates.server_mutual, deny_file=denied)
    old, new, bob = (
        sign_to(tmp_path / folder, certificates.directory, [common_name(name)])
        for folder, name in (("old", "alice"), ("new", "alice"), ("bob", "bob"))
    )

    def dial(paths: Any) -> Any:
        return RemoteEnvironment(server.address, client_credentials_paths=paths, transport=transport)

    with dial(old) as hers, dial(bob) as his:
        hers.reset(seed=0)
        his.reset(seed=0)
        denied.write_text(fingerprint(old[1]))
        assert "the certificate of 'alice' was denied" in lost(hers)
        his.step(0)
        assert "your certificate was denied" in refused(dial(old))
        with dial(new) as again:  # the same person, with another certificate
            again.reset(seed=0)
            assert names(server) == ["alice", "bob"]


def test_check_connection(
    server: RemoteEnvironmentServer,
    certificates: Certificates,
    file: File,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["check-connection", server.address, "--root-certificate", str(certificates.client[0])]
    assert main(command) == 1
    out = capsys.readouterr().out
    assert f"{VERSION_STEP} ..... FAILED" in out
    assert "this server asks for a token: set REMOTE_GYM_TOKEN; its owner makes one with" in out
    monkeypatch.setenv("REMOTE_GYM_TOKEN", new_token())
    assert main(command) == 1
    assert "does not know the token of REMOTE_GYM_TOKEN" in capsys.readouterr().out
    monkeypatch.setenv("REMOTE_GYM_TOKEN", file.add("alice"))
    assert main(command) == 0
    assert "direct carrier ..... ok" in capsys.readouterr().out
