"""The admin socket: the owner lists and ends sessions, whatever carries them; others, and nonsense, do nothing."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from helpers import wait_until

from remote_gym import RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv, SessionLost
from remote_gym.errors import RefusedError
from remote_gym.server import admin as module
from remote_gym.server.admin import REASON, sweep

TRANSPORTS = pytest.mark.parametrize("transport", ["direct", "grpc"])


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Let the user's runtime folder be one with a short name."""
    with tempfile.TemporaryDirectory(prefix="rg-") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def say(path: str | None, data: bytes) -> Any:
    """Send `data` to the admin socket and return what it says, None if nothing."""
    assert path is not None
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(20.0)
        asking.connect(path)
        with contextlib.suppress(BrokenPipeError):
            asking.sendall(data)
        said = b"".join(iter(lambda: asking.recv(65_536), b""))
    return json.loads(said) if said else None


def ask(server: RemoteEnvironmentServer, **request: Any) -> Any:
    return say(server.admin_socket, json.dumps(request).encode() + b"\n")


def listed(server: RemoteEnvironmentServer) -> list[Any]:
    return list(ask(server, do="list")["sessions"])


# Where it is


def test_it_is_the_owners_and_gone_with_the_server(serve: ServerFactory, runtime: Path) -> None:
    server = serve(num_workers=1)
    path = runtime / "remote-gym" / f"{server.port}.sock"
    assert server.admin_socket == str(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert ask(server, do="list")["server"]["addresses"] == [server.address]
    server.stop()
    assert list(runtime.iterdir()) == []


def test_beside_a_unix_socket_and_by_the_port(serve: ServerFactory, runtime: Path) -> None:
    server = serve(num_workers=1, unix_socket=runtime / "own")
    for path in (str(runtime / "own.admin"), str(runtime / "remote-gym" / f"{server.port}.sock")):
        assert say(path, b'{"do": "list"}\n')["server"]["process"] == os.getpid()
    server.stop()
    assert list(runtime.iterdir()) == []


def test_where_it_is_told_to_be_or_nowhere(serve: ServerFactory, runtime: Path) -> None:
    server = serve(num_workers=1, admin_socket=runtime / "here")
    assert server.admin_socket == str(runtime / "here")
    assert listed(server) == []
    none = serve(num_workers=1, admin_socket=None)
    assert none.admin_socket is None
    assert sorted(path.name for path in runtime.iterdir()) == ["here"]


def test_a_place_that_was_named_must_do(serve: ServerFactory, runtime: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on unix:.*No such file or directory"):
        serve(num_workers=1, admin_socket=runtime / "no" / "folder")
    (runtime / "file").touch()
    with pytest.raises(OSError, match="a file is there that is no socket"):
        serve(num_workers=1, admin_socket=runtime / "file")


def test_without_a_usual_place_the_server_serves(
    serve: ServerFactory, runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (runtime / "remote-gym").touch()
    server = serve(num_workers=1)
    assert server.admin_socket is None
    assert "no admin socket (others may enter" in caplog.text
    with RemoteEnvironment(server.address) as env:
        env.reset()


def left(path: Path) -> None:
    """Leave a socket behind as a killed server does."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    os.utime(path, (0, 0))


def test_what_killed_servers_left_is_taken_over_and_swept(serve: ServerFactory, runtime: Path) -> None:
    (runtime / "remote-gym").mkdir(0o700)
    first = serve(num_workers=1)
    port = first.port
    os.utime(runtime / "remote-gym" / f"{port}.sock", (0, 0))
    first_path = first.admin_socket
    left(runtime / "remote-gym" / "1.sock")
    second = serve(num_workers=1)
    assert {path.name for path in (runtime / "remote-gym").iterdir()} == {f"{port}.sock", f"{second.port}.sock"}
    first.stop()
    left(Path(str(first_path)))
    again = serve(num_workers=1, port=port)
    assert again.admin_socket == first_path
    assert listed(again) == []


def test_a_young_socket_may_be_of_a_server_that_starts(runtime: Path) -> None:
    left(runtime / "old")
    left(runtime / "young")
    os.utime(runtime / "young")
    (runtime / "file").touch()
    os.utime(runtime / "file", (0, 0))
    sweep(str(runtime))
    assert {path.name for path in runtime.iterdir()} == {"young", "file"}
    sweep(str(runtime / "nowhere"))


def test_servers_that_come_and_go_share_the_folder(serve: ServerFactory, runtime: Path) -> None:
    def come_and_go() -> None:
        for _ in range(3):
            server = serve(num_workers=1)
            found.append(server.admin_socket is not None and listed(server) == [])
            server.stop()

    found: list[bool] = []
    threads = [threading.Thread(target=come_and_go) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6
    assert list(runtime.iterdir()) == []


# What it says and does


@TRANSPORTS
def test_the_owner_sees_who_is_there(serve: ServerFactory, transport: Any) -> None:
    server = serve(num_workers=1)
    with (
        RemoteVectorEnv(server.address, num_envs=3, transport=transport) as envs,
        RemoteEnvironment(server.address, transport=transport) as env,
    ):
        envs.reset(seed=1)
        env.reset(seed=1)
        env.step(0)
        batch, single = sorted(listed(server), key=lambda one: one["envs"], reverse=True)
        assert batch["peer"].startswith("ipv4:127.0.0.1:")
        assert (batch["principal"], batch["envs"], batch["state"], batch["requests"]) == ("anonymous", 3, "attached", 1)
        assert (single["envs"], single["requests"], single["running"]) == (1, 2, 0)
        assert batch["kept_seconds"] is None
        assert 0.0 < batch["age_seconds"] < 60.0
        assert batch["id"] == next(iter(server._sessions.by_id)).hex()
    wait_until(lambda: not listed(server), what="the end of both")


@TRANSPORTS
def test_an_ended_session_is_its_clients_end(
    serve: ServerFactory, transport: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "remote_gym.server")
    server = serve(num_workers=1)
    with (
        RemoteVectorEnv(server.address, num_envs=2, transport=transport, on_session_lost="truncate") as envs,
        RemoteEnvironment(server.address, transport=transport) as other,
    ):
        envs.reset(seed=1)
        other.reset(seed=1)
        (one,) = [one for one in listed(server) if one["envs"] == 2]
        ended = ask(server, do="end", sessions=[one["id"][:6].upper(), one["id"]])["ended"]
        assert [(found["id"], found["envs"]) for found in ended] == [(one["id"], 2)]
        began = time.monotonic()
        with pytest.raises(SessionLost, match=REASON) as caught:
            envs.step(np.zeros(2, np.int64))
        assert caught.value.reason == "ENDED"
        with pytest.raises(SessionLost, match=REASON):
            envs.step(np.zeros(2, np.int64))
        assert time.monotonic() - began < 5.0, "it is not tried again"
        other.step(0)
        assert [found["envs"] for found in listed(server)] == [1]
        assert server.statistics()["envs"] == 1
    messages = [record.getMessage() for record in caplog.records]
    assert sum(f"session {one['id'][:8]} ended" in message for message in messages) == 1
    assert any(message.startswith(f"admin socket: end by uid {os.geteuid()}") for message in messages)


@TRANSPORTS
def test_a_step_that_hangs_is_ended(serve: ServerFactory, transport: Any, tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(HANG)
    server = serve(str(tmp_path / "hang.py"), num_workers=1, grace_seconds=0.0)
    with RemoteEnvironment(server.address, transport=transport) as env:
        env.reset()
        timer = threading.Thread(target=end_what_runs, args=(server,))
        timer.start()
        with pytest.raises(SessionLost, match=REASON):
            env.step(0)
        timer.join()


def end_what_runs(server: RemoteEnvironmentServer) -> None:
    (one,) = wait_until(lambda: [one for one in listed(server) if one["running"]], what="the step")
    ask(server, do="end", sessions=[one["id"]])


def test_a_client_that_is_away_finds_its_session_ended(serve: ServerFactory) -> None:
    server = serve(num_workers=1, lease_seconds=50.0)
    env = RemoteEnvironment(server.address, transport="direct")
    env.reset()
    (session,) = server._sessions.by_id.values()

    async def drop() -> None:
        for connection in list(server._direct.connections):  # type: ignore[union-attr]
            connection.close()
        assert session.ledger.state.value == "detached"
        session._lease.cancel()  # type: ignore[union-attr]  # as if nothing would end it

    server._call(drop())
    one = wait_until(lambda: listed(server), what="the session")[0]
    if one["state"] == "detached":  # its client may be back already
        assert 0.0 < one["kept_seconds"] <= 50.0
    ask(server, do="end", sessions=[one["id"]])
    with pytest.raises(SessionLost, match=REASON):
        env.step(0)
    env.close()


def test_none_is_ended_where_one_is_not_to_be_found(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteEnvironment(server.address) as env:
        env.reset()
        (one,) = listed(server)
        for wanted, said in [
            ([one["id"], "ffffffffffffffff"], "there is no session 'ffffffffffffffff'"),
            ([one["id"][:3]], "too short for an id"),
            (["\n\x1b[31m----"], r"there is no session '\n\x1b[31m----'"),
            ([], "end takes the ids of sessions"),
            ([3], "end takes the ids of sessions"),
            ("abcd", "end takes the ids of sessions"),
        ]:
            assert said in ask(server, do="end", sessions=wanted)["error"]
        assert len(listed(server)) == 1
        env.step(0)


def test_an_id_that_fits_two_is_none(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(num_workers=1)
    with RemoteEnvironment(server.address) as one, RemoteEnvironment(server.address) as other:
        one.reset()
        other.reset()
        for session, last in zip(server._sessions.by_id.values(), (b"\x01", b"\x02"), strict=True):
            session.id = b"\xaa" * 15 + last
        assert "2 sessions have ids that begin with 'aaaa'" in ask(server, do="end", sessions=["aaaa"])["error"]
        assert len(ask(server, do="end", sessions=["aa" * 15 + "01"])["ended"]) == 1


NONSENSE = [
    (b"", "one line of JSON"),
    (b"\n", "one line of JSON"),
    (b"GET / HTTP/1.1\r\n\r\n", "one line of JSON"),
    (b"\xff\xfe\n", "one line of JSON"),
    (b"[" * 60_000 + b"\n", "one line of JSON"),
    (b"9" * 60_000 + b"\n", "one line of JSON"),
    (b"[1]\n", "an object"),
    (b"{}\n", "the server knows no 'None'"),
    (b'{"do": "\\u001b[31m"}\n', r"the server knows no '\x1b[31m'"),
    (b'{"do": "list"', "one line of JSON"),
    (b" " * 200_000, "bytes at most"),
]


def test_nonsense_is_answered_and_nothing_more(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    for data, said in NONSENSE:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(20.0)
            asking.connect(str(server.admin_socket))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                asking.sendall(data)
                asking.shutdown(socket.SHUT_WR)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                while piece := asking.recv(65_536):
                    answer += piece
        if len(data) < 100_000:  # else it was not read to its end, and the answer may be lost with the rest
            assert said in json.loads(answer)["error"]
    assert listed(server) == []


def test_who_is_silent_holds_nothing(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    server = serve(num_workers=1)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(40)]
        for one in silent:
            one.settimeout(10.0)
            one.connect(str(server.admin_socket))
        assert [one.recv(1) for one in silent] == [b""] * 40, "all are ended, most of them at once"
    assert listed(server) == []
    server.stop()


def test_who_does_not_read_holds_nothing(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.3)
    monkeypatch.setattr(module, "about", lambda _session: {"text": ["x" * 10**5] * 100})
    server = serve(num_workers=1)
    with RemoteEnvironment(server.address) as env, socket.socket(socket.AF_UNIX) as asking:
        env.reset()
        asking.connect(str(server.admin_socket))
        asking.sendall(b'{"do": "list"}\n')
        counted = server._admin
        wait_until(lambda: counted._connections == 1, what="the connection")
        wait_until(lambda: counted._connections == 0, what="its end")
        env.step(0)


def test_another_user_is_refused(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "remote_gym.server")
    server = serve(num_workers=1, audit_log=tmp_path / "audit")
    path = str(server.admin_socket)
    if os.geteuid() == 0:  # a real one, whom the file's mode no longer keeps out
        for opened in (path, os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
            os.chmod(opened, 0o777)
        script = "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        script += 's.sendall(b\'{"do": "list"}\\n\'); print(s.recv(9999).decode())'
        done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
        answer = json.loads(done.stdout)
    else:
        monkeypatch.setattr(module, "peer_uid", lambda _connection: 65534)
        answer = ask(server, do="list")
    assert answer == {"error": "the server belongs to another user"}
    assert "admin socket: refused by uid 65534" in caplog.text
    server.stop()
    events = [json.loads(line) for line in (tmp_path / "audit").read_text().splitlines()]
    assert [(one["action"], one["uid"]) for one in events if one["event"] == "admin"] == [("refused", 65534)]


# Many, and at the end


def test_it_answers_while_the_server_drains(serve: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(HANG)
    server = serve(str(tmp_path / "hang.py"), num_workers=1, grace_seconds=60.0)
    with RemoteEnvironment(server.address) as env:
        env.reset()
        failed: list[Exception] = []

        def step() -> None:
            try:
                env.step(0)
            except SessionLost as error:
                failed.append(error)

        stepping = threading.Thread(target=step)
        stepping.start()
        (one,) = wait_until(lambda: [one for one in listed(server) if one["running"]], what="the step")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        wait_until(lambda: ask(server, do="list")["server"]["draining"], what="the drain")
        assert ask(server, do="end", sessions=[one["id"]])["ended"][0]["running"] == 1
        stopping.join(10.0)
        stepping.join(10.0)
        assert not stopping.is_alive(), "nothing runs any more"
        assert [error.reason for error in failed] == ["ENDED"]  # type: ignore[attr-defined]


HANG = """
import time
import gymnasium as gym

class Hang(gym.Wrapper):
    def step(self, action):
        time.sleep(1_000.0)

def create_environment():
    return Hang(gym.make("CartPole-v1"))
"""


def test_a_session_that_is_being_opened_is_seen_and_ended(serve: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "gated.py").write_text(GATED)
    server = serve(str(tmp_path / "gated.py"), {"gate": str(tmp_path / "gate")}, num_workers=1)
    refused: list[Exception] = []

    def open_one() -> None:
        with RemoteVectorEnv(server.address, num_envs=2) as envs:
            try:
                envs.reset()
            except RefusedError as error:
                refused.append(error)

    opening = threading.Thread(target=open_one)
    opening.start()
    (one,) = wait_until(lambda: listed(server), what="the opening")
    assert (one["state"], one["envs"]) == ("opening", 2)
    assert ask(server, do="end", sessions=[one["id"]])["ended"][0]["state"] == "opening"
    (tmp_path / "gate").touch()
    opening.join(20.0)
    assert [str(error) for error in refused] == [REASON]
    assert listed(server) == []
    assert server.statistics()["envs"] == 0


GATED = """
import os
import time
import gymnasium as gym

def create_environment(gate):
    while not os.path.exists(gate):
        time.sleep(0.01)
    return gym.make("CartPole-v1")
"""


def test_hundreds_of_sessions_are_listed_and_ended(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with contextlib.ExitStack() as stack:
        envs = [stack.enter_context(RemoteEnvironment(server.address)) for _ in range(120)]
        for env in envs:
            env.reset()
        sessions = listed(server)
        assert len({one["id"] for one in sessions}) == 120
        began = time.monotonic()
        ended = ask(server, do="end", sessions=[one["id"] for one in sessions[:119]])["ended"]
        print(f"119 sessions ended in {time.monotonic() - began:.3f} s")
        assert len(ended) == 119
        assert [one["id"] for one in listed(server)] == [sessions[119]["id"]]


def test_a_server_drains_when_its_owner_says_so(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteEnvironment(server.address) as env:
        env.reset()
        assert ask(server, do="drain") == {"draining": True}
        assert server.wait_for_termination(20.0)
