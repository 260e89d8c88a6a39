"""Client and server on one machine, over a unix-domain socket: its owner alone gets in, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Certificates, ServeProcess, ServerFactory
from helpers import wait_until

from remote_gym import (
    ConnectError,
    MisuseError,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    SessionLost,
    create_remote_environment_server,
)

ServeFactory = Callable[..., ServeProcess]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: pytest's own are nearly as long as a socket's path may be."""
    with tempfile.TemporaryDirectory(prefix="rg-") as name:
        yield Path(name)


def start(url: str, **options: object) -> RemoteEnvironmentServer:
    return create_remote_environment_server({"entrypoint": "CartPole-v1"}, url, num_workers=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x.sock", "a b%20c?d#é.sock"])
def test_server_and_clients_meet(folder: Path, name: str) -> None:
    url = f"unix:{folder / name}"
    with start(url) as server:
        assert server.address == url
        assert server.port == 0
        assert url in repr(server)
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
        with RemoteVectorEnv(server.address, num_envs=3) as envs, RemoteEnvironment(url) as env:
            env.reset(seed=1)
            remote = [envs.reset(seed=1)[0], envs.step(np.ones(3, np.int64))[0]]
    with start("127.0.0.1", port=0) as server, RemoteVectorEnv(server.address, num_envs=3) as envs:
        local = [envs.reset(seed=1)[0], envs.step(np.ones(3, np.int64))[0]]
    np.testing.assert_array_equal(remote, local)
    assert list(folder.iterdir()) == []


def test_relative_paths_are_the_working_directorys_when_they_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with start("unix:x.sock") as server:
        env = RemoteEnvironment("unix:x.sock")
        monkeypatch.chdir("/")
        assert server.address == f"unix:{folder}/x.sock"
        with env:
            env.reset()
    assert list(folder.iterdir()) == []


def test_the_variable_names_a_socket_and_its_certificates_are_for_others(
    folder: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMOTE_GYM_URL", f"unix:{folder}/x.sock")
    monkeypatch.setenv("REMOTE_GYM_ROOT_CERTIFICATE", str(certificates.client[0]))
    with start(f"unix:{folder}/x.sock"), RemoteEnvironment() as env:
        env.reset()


def test_beside_tcp(folder: Path, certificates: Certificates) -> None:
    path = folder / "x.sock"
    with start("127.0.0.1", port=0, server_credentials_paths=certificates.server, unix_socket=path) as server:
        assert server.unix_address == f"unix:{path}"
        assert server.address == f"127.0.0.1:{server.port}"
        with (
            RemoteEnvironment(server.unix_address) as near,
            RemoteEnvironment(server.address, client_credentials_paths=certificates.client) as far,
        ):
            near.reset()
            far.reset()
            assert server.statistics()["sessions"] == 2
    assert not path.exists()


# What is there already


def test_what_a_killed_server_left_is_replaced(folder: Path) -> None:
    path = folder / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.is_socket()
    with start(f"unix:{path}"), RemoteEnvironment(f"unix:{path}") as env:
        env.reset()
    assert not path.exists()


def test_a_living_servers_socket_is_left_alone(folder: Path) -> None:
    url = f"unix:{folder}/x.sock"
    with start(url):
        with pytest.raises(OSError, match="another server listens there"):
            start(url)
        with RemoteEnvironment(url) as env:
            env.reset()


def test_another_programs_socket_is_left_alone(folder: Path) -> None:
    path = folder / "x.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OSError, match="another server listens there"):
            start(f"unix:{path}")
        assert path.is_socket()


def test_a_file_is_never_removed(folder: Path) -> None:
    path = folder / "model.pt"
    path.write_text("three days of training")
    with pytest.raises(FileExistsError, match="no socket"):
        start(f"unix:{path}")
    assert path.read_text() == "three days of training"


def test_a_socket_put_there_since_is_not_removed_at_the_stop(folder: Path) -> None:
    path = folder / "x.sock"
    server = start(f"unix:{path}")
    path.rename(folder / "ours")
    path.write_text("somebody else's")
    server.stop()
    assert path.read_text() == "somebody else's"


# Refusals


def test_a_folder_that_is_not_there(folder: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"cannot listen on unix:.*No such file"):
        start(f"unix:{folder}/none/x.sock")


def test_a_folder_that_everybody_may_write_to(folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    with pytest.raises(PermissionError, match="a folder of your own"):
        start(f"unix:{folder}/open/x.sock")
    (folder / "open").chmod(0o1777)  # as /tmp is: only the owner removes
    start(f"unix:{folder}/open/x.sock").stop()


def test_tls_is_refused_on_both_sides(folder: Path, certificates: Certificates) -> None:
    url = f"unix:{folder}/x.sock"
    with pytest.raises(MisuseError, match="needs no TLS"):
        start(url, server_credentials_paths=certificates.server)
    with pytest.raises(MisuseError, match="speaks no TLS"):
        RemoteEnvironment(url, client_credentials_paths=certificates.client)


def test_a_port_is_refused_on_both_sides(folder: Path) -> None:
    url = f"unix:{folder}/x.sock"
    with pytest.raises(MisuseError, match="has no port"):
        start(url, port=0)
    with pytest.raises(MisuseError, match="has no port"):
        RemoteEnvironment(url, 1234)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_does_not_get_in(folder: Path) -> None:
    folder.chmod(0o755)
    path = folder / "x.sock"
    code = f"import os, socket; os.setuid(65534); socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    with start(f"unix:{path}"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert "PermissionError" in done.stderr


# Nobody there


def test_no_socket_is_named(folder: Path) -> None:
    with pytest.raises(ConnectError, match="there is no such socket") as caught:
        RemoteEnvironment(f"unix:{folder}/x.sock", connect_timeout_seconds=1.5).reset()
    assert "no server is running there" in str(caught.value)


def test_a_dead_servers_socket_is_named(folder: Path) -> None:
    path = folder / "x.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(ConnectError, match="no live server's"):
        RemoteEnvironment(f"unix:{path}", connect_timeout_seconds=1.5).reset()


def check_connection(url: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "remote_gym", "check-connection", url, "--timeout", "5"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def test_check_connection(folder: Path) -> None:
    url = f"unix:{folder}/x.sock"
    missing = check_connection(url)
    assert missing.returncode == 1
    assert "there is no such socket" in missing.stdout
    with start(url):
        good = check_connection(url)
    assert good.returncode == 0, good.stdout + good.stderr
    assert f"{url} on this machine" in good.stdout
    assert "server version" in good.stdout


# As a process


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_serve_prints_the_address_and_a_killed_one_does_not_block_the_next(
    serve_process: ServeFactory, folder: Path, end: signal.Signals
) -> None:
    url = f"unix:{folder}/x.sock"
    for _ in range(2):
        served = serve_process("CartPole-v1", "--num-workers", "1", "--url", url)
        assert served.address == url
        with RemoteEnvironment(url) as env:
            env.reset()
        served.process.send_signal(end)
        served.process.wait(10.0)
        assert (folder / "x.sock").exists() is (end is signal.SIGKILL)


def test_serve_listens_on_both(serve_process: ServeFactory, folder: Path) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", "--unix-socket", f"{folder}/x.sock")
    assert served.address.startswith("127.0.0.1:")
    wait_until(lambda: f"and unix:{folder}/x.sock" in served.log, what="the log")
    for url in (served.address, f"unix:{folder}/x.sock"):
        with RemoteEnvironment(url) as env:
            env.reset()


def test_sessions_survive_the_loss_of_the_connection(serve: ServerFactory, folder: Path) -> None:
    with start(f"unix:{folder}/x.sock") as server, RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset(seed=0)
        for session in server._sessions.by_id.values():
            server._loop.call_soon_threadsafe(session._outlet.end)  # type: ignore[union-attr]
        wait_until(lambda: not next(iter(server._sessions.by_id.values()))._outlet, what="the end")
        envs.step(np.zeros(2, np.int64))
        assert server.statistics()["attaches"] == 1


# Whose it is


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("transport", ["auto", "direct", "grpc"])
def test_a_socket_that_is_another_users_is_refused(folder: Path, transport: str) -> None:
    with start(f"unix:{folder}/x.sock") as server:
        os.chown(folder / "x.sock", 65534, 65534)  # as if that user had been quicker
        env = RemoteEnvironment(server.address, transport=transport, connect_timeout_seconds=5.0)
        with env, pytest.raises(ConnectError, match=r"another user's: it belongs to \w+ \(uid 65534\)"):
            env.reset()
        assert server.statistics()["opened_sessions"] == 0
        told = check_connection(server.address)
        assert told.returncode == 1
        assert "another user's" in told.stdout


def step_without_end(env: RemoteEnvironment) -> None:
    while True:
        if any(env.step(env.action_space.sample())[2:4]):
            env.reset()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_a_session_does_not_come_back_to_another_users_socket(folder: Path, transport: str) -> None:
    with start(f"unix:{folder}/x.sock") as server:
        env = RemoteEnvironment(server.address, transport=transport, reconnect_timeout_seconds=1.0)
        with env:
            env.reset()
            os.chown(folder / "x.sock", 65534, 65534)
            for session in server._sessions.by_id.values():
                server._loop.call_soon_threadsafe(session._outlet.end)  # type: ignore[union-attr]
            with pytest.raises(SessionLost, match="another user's"):
                step_without_end(env)
