"""Another user's socket is refused, by its file or by who listens there; our own and root's are not."""

from __future__ import annotations

import os
import pwd
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_gym.client.diagnosis import socket_owner
from remote_gym.errors import ConnectError

NOBODY = 65534


@pytest.fixture
def path() -> Iterator[str]:
    """A socket on which somebody listens."""
    with tempfile.TemporaryDirectory(prefix="rg-") as folder, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(Path(folder) / "x.sock"))
        listening.listen()
        yield listening.getsockname()


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be another user than the one who has made the socket, who is not root."""
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(socket_owner, "ROOT", -1)


def test_our_own_is_not_refused(path: str) -> None:
    socket_owner.check(path)


def test_what_is_not_there_is_not_refused(path: str) -> None:
    socket_owner.check(path + "x")


def test_roots_is_not_refused(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: NOBODY)
    monkeypatch.setattr(socket_owner, "ROOT", os.getuid())
    socket_owner.check(path)


def test_a_strangers_file_is_refused(path: str, stranger: None) -> None:
    with pytest.raises(ConnectError, match="another user's: it belongs to") as caught:
        socket_owner.check_file(path)
    assert caught.value.address == f"unix:{path}"
    assert f"uid {os.getuid()}" in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0 or not hasattr(socket, "SO_PEERCRED"), reason="only root can give a file away")
def test_a_stranger_who_listens_is_refused(path: str, stranger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        socket_owner.check_peer(connection, path)  # the file is that user's, and was looked at
        os.chown(path, NOBODY, NOBODY)
        with pytest.raises(ConnectError, match="who listens there is uid 0"):
            socket_owner.check_peer(connection, path)


@pytest.mark.parametrize("said", [str(os.getuid()), pwd.getpwuid(os.getuid()).pw_name])
def test_another_user_can_be_meant(path: str, stranger: None, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("REMOTE_GYM_SOCKET_OWNER", said)
    socket_owner.check(path)
    monkeypatch.setenv("REMOTE_GYM_SOCKET_OWNER", "somebody-else")
    with pytest.raises(ConnectError, match=r"REMOTE_GYM_SOCKET_OWNER="):
        socket_owner.check(path)
