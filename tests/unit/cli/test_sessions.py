"""``remote-gym sessions``: who is on a server of one's own, as a table or JSON, and an end for some."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ServeProcess
from helpers import wait_until

from remote_gym import RemoteEnvironment, RemoteVectorEnv, SessionLost
from remote_gym.cli import main
from remote_gym.cli import sessions as module
from remote_gym.cli.sessions import ask, run
from remote_gym.cli.terminal import UsageError
from remote_gym.errors import RemoteGymError

ServeFactory = Callable[..., ServeProcess]
TRANSPORTS = pytest.mark.parametrize("transport", ["direct", "grpc"])


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rg-") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def sessions(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command, in this process: starting another takes a second."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(["sessions", *arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), error.getvalue())


def listed(address: str) -> list[dict[str, Any]]:
    done = sessions(address, "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["sessions"])


@TRANSPORTS
def test_a_table_of_who_is_there(serve_process: ServeFactory, transport: Any) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    port = served.address.rpartition(":")[2]
    empty = sessions(served.address)
    assert (empty.returncode, empty.stdout) == (0, "")
    assert empty.stderr.endswith(f"{served.process.pid}: 0 sessions, 0 environments\n")
    with RemoteVectorEnv(served.address, num_envs=3, transport=transport) as envs:
        envs.reset()
        done = sessions(f"localhost:{port}")
        assert done.returncode == 0
        header, row = done.stdout.splitlines()
        assert header.split() == ["SESSION", "PRINCIPAL", "PEER", "ENVS", "STATE", "AGE", "REQUESTS"]
        one, who, peer, count, state, age, requests = row.split()
        assert (who, count, state, requests) == ("anonymous", "3", "attached", "1")
        assert peer.startswith("ipv4:127.0.0.1:")
        assert age.endswith("s")
        assert done.stderr == (
            f"remote-gym sessions: {served.address}, process {served.process.pid}: 1 session, 3 environments\n"
        )
        assert listed(served.address)[0]["id"].startswith(one)
        assert len(one) == 8


@TRANSPORTS
def test_an_end_for_some(serve_process: ServeFactory, transport: Any) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    with (
        RemoteVectorEnv(served.address, num_envs=2, transport=transport) as envs,
        RemoteEnvironment(served.address, transport=transport) as env,
    ):
        envs.reset()
        env.reset()
        both = listed(served.address)
        (one,) = [one["id"] for one in both if one["envs"] == 2]
        done = sessions(served.address, "end", one[:8])
        assert (done.returncode, done.stdout) == (0, f"ended {one[:8]}: anonymous, 2 environments\n")
        with pytest.raises(SessionLost, match="ended by the server's owner"):
            envs.step([0, 0])
        env.step(0)
        again = sessions(served.address, "end", one[:8])
        assert (again.returncode, again.stdout) == (1, "")
        assert again.stderr == f"remote-gym sessions: there is no session '{one[:8]}'\n"


def test_a_server_on_a_unix_socket_and_one_that_was_told_where(serve_process: ServeFactory, runtime: Path) -> None:
    own = serve_process("CartPole-v1", "--num-workers", "1", "--url", f"unix:{runtime}/own")
    assert sessions(own.address).stderr.startswith(f"remote-gym sessions: {own.address}, process ")
    told = serve_process("CartPole-v1", "--num-workers", "1", "--admin-socket", f"{runtime}/told")
    assert sessions(told.address).returncode == 1
    done = sessions(told.address, "--admin-socket", f"{runtime}/told")
    assert done.stderr.startswith(f"remote-gym sessions: {told.address}, process ")
    for served in (own, told):
        served.process.terminate()
        assert served.process.wait(10.0) == 0
    assert list(runtime.iterdir()) == []


@pytest.mark.parametrize("how", ["killed", "two signals"])
def test_a_server_that_is_no_more(serve_process: ServeFactory, runtime: Path, how: str, tmp_path: Path) -> None:
    (tmp_path / "hang.py").write_text(HANG)
    served = serve_process(str(tmp_path / "hang.py"), "--num-workers", "1", "--no-probe")
    port = served.address.rpartition(":")[2]
    path = runtime / "remote-gym" / f"{port}.sock"
    if how == "killed":
        served.process.kill()
        served.process.wait()
        assert path.exists()
        done = sessions(served.address)
        assert f"{path}: nobody listens there any more" in done.stderr
        assert done.returncode == 1
        again = serve_process("CartPole-v1", "--num-workers", "1", "--port", port)
        assert listed(again.address) == []
    else:
        client = subprocess.Popen([sys.executable, "-c", STEP, served.address], stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: any(one["running"] for one in ask([str(path)], {"do": "list"}, "")["sessions"]))
            served.process.send_signal(signal.SIGTERM)
            wait_until(lambda: "a second signal stops at once" in served.log, what="the drain")
            served.process.send_signal(signal.SIGINT)  # SIGTERM again, so soon, would be the same one
            assert served.process.wait(10.0) == 1
        finally:
            client.kill()
            client.wait()
        assert not path.exists()


HANG = """
import time
import gymnasium as gym

class Hang(gym.Wrapper):
    def step(self, action):
        time.sleep(1_000.0)

def create_environment():
    return Hang(gym.make("CartPole-v1"))
"""

STEP = """
import sys
from remote_gym import RemoteEnvironment
env = RemoteEnvironment(sys.argv[1])
env.reset()
env.step(0)
"""


def test_another_machine_is_not_this_one() -> None:
    done = sessions("192.0.2.1:1234")
    assert done.returncode == 1
    assert done.stderr == (
        "remote-gym sessions: 192.0.2.1 is another machine, and sessions are managed on the server's own; there, as "
        "its user: remote-gym sessions localhost:1234\n"
    )


def test_this_machine_by_its_name(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", "--url", "0.0.0.0", "--allow-insecure")
    port = served.address.rpartition(":")[2]
    assert listed(f"{socket.gethostname()}:{port}") == listed(f"0.0.0.0:{port}") == []


class Args:
    """Arguments of the command."""

    def __init__(self, **given: Any) -> None:
        vars(self).update({"address": "localhost:1", "action": None, "ids": [], "json": False, "admin_socket": None})
        vars(self).update(given)


@pytest.mark.parametrize("given", [{"action": "end"}])
def test_end_needs_an_id(given: Any) -> None:
    with pytest.raises(UsageError, match="end takes the ID of a session"):
        run(Args(**given))  # type: ignore[arg-type]


def answering(path: Path, said: bytes | None) -> threading.Thread:
    """Answer one request with `said`, or with nothing at all."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def answer() -> None:
        with listening, listening.accept()[0] as one:
            one.recv(10_000)
            if said is None:
                one.recv(1)
            else:
                one.sendall(said)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "is no admin socket, or has ended"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is no admin socket"),
        (
            b'{"error": "the server\\u001b[31m belongs to another user"}\n',
            r"the server\\x1b\[31m belongs to another user",
        ),
        (b"[]\n", r"\[\]"),
        (None, "does not answer: silent for 0.2 s"),
    ],
    ids=range(5),
)
def test_what_else_may_answer(runtime: Path, monkeypatch: pytest.MonkeyPatch, said: bytes | None, error: str) -> None:
    monkeypatch.setattr(module, "TIMEOUT_SECONDS", 0.2)
    thread = answering(runtime / "socket", said)
    with pytest.raises(RemoteGymError, match=error):
        ask([str(runtime / "socket")], {"do": "list"}, "localhost:1")
    thread.join()


def test_what_another_user_has_planted_is_not_asked(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(runtime / "socket"))
        planted.listen()
        monkeypatch.setattr(module, "peer_uid", lambda _connection: 4_321)
        monkeypatch.setattr(os, "geteuid", lambda: 1_234)
        with pytest.raises(RemoteGymError, match="uid 4321 listens there"):
            ask([str(runtime / "socket")], {"do": "list"}, "localhost:1")


def session(**fields: Any) -> dict[str, Any]:
    return {
        "id": "1a2b3c4d" * 4, "principal": "alice", "peer": "unix:", "envs": 1, "state": "attached",
        "kept_seconds": None, "age_seconds": 1.0, "requests": 0, "running": 0, **fields,
    }  # fmt: skip


def test_the_table_is_one_whatever_it_holds() -> None:
    rows = [
        session(),
        session(
            id="1a2b3c4d" * 3 + "00000000", state="detached", kept_seconds=65.2, age_seconds=90_061.0, requests=10**9
        ),
        session(id="f" * 32, principal="evil\x1b[2J\nname", age_seconds=3_661.0),
    ]
    lines = module._table(rows)
    assert len({line.index("alice") for line in lines if "alice" in line}) == 1
    assert all(line.isprintable() for line in lines)
    assert lines[1].split() == [
        "1a2b3c4d" * 3 + "0", "alice", "unix:", "1", "gone,", "kept", "1m05s", "1d01h", "1000000000",
    ]  # fmt: skip
    assert [line.split()[-2] for line in lines[1:]] == ["1d01h", "1h01m", "1s"], "the oldest first"


def test_it_asks_as_this_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_234)
    with pytest.raises(RemoteGymError, match=r"as the same user \(uid 1234\)"):
        ask([], {"do": "list"}, "localhost:1")
