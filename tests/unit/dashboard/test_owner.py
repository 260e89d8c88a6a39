"""What the page may change goes over a real server's admin socket."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ServerFactory
from helpers import wait_until

from remote_gym import RemoteVectorEnv, SessionLost
from remote_gym.dashboard import owner
from remote_gym.errors import RemoteGymError


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="rg-") as name:
        monkeypatch.setenv("XDG_RUNTIME_DIR", name)
        yield Path(name)


def test_a_session_is_ended(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset()
        with pytest.raises(RemoteGymError, match="there is no session 'feedbeef'"):
            owner.end([server.admin_socket], "feedbeef")
        (session,) = owner._ask([server.admin_socket], {"do": "list"})["sessions"]
        owner.end(["/nowhere", server.admin_socket], session["id"])
        with pytest.raises(SessionLost, match="ended by the server's owner"):
            envs.step([0, 0])


def test_a_server_is_drained(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    owner.drain([server.admin_socket])
    assert server.wait_for_termination(10.0)


@pytest.mark.parametrize("said", [b"", b"nonsense\n", b"[]\n", b'{"error": "no\\u001b"}\n'])
def test_what_is_no_answer_is_told(runtime: Path, said: bytes) -> None:
    path = str(runtime / "odd")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(1_000)
                peer.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(RemoteGymError) as failed:
            owner.drain([path])
        answering.join()
    assert "\x1b" not in str(failed.value)


def test_no_socket_and_anothers_are_told(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RemoteGymError, match="it has none"):
        owner.drain([])
    with pytest.raises(RemoteGymError, match="No such file"):
        owner.drain([str(runtime / "none")])
    path = str(runtime / "theirs")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        os.chown(path, 12_345, -1) if os.geteuid() == 0 else monkeypatch.setattr(os, "geteuid", lambda: 12_345)
        with pytest.raises(RemoteGymError, match="another user's"):
            owner.drain([path])


def test_the_owner_may_be_asked_after_a_wait(serve: ServerFactory) -> None:
    """The answer to a drain comes before the server's end."""
    server = serve(num_workers=1)
    for _ in range(3):
        owner.drain([server.admin_socket])
    wait_until(lambda: server.wait_for_termination(0.0))
