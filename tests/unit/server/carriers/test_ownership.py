"""Who is the server's owner: a process of the same user, over a unix-domain socket; nobody over any other."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from remote_gym.server.carriers import ownership
from remote_gym.server.carriers.ownership import is_owners, peer_uid

LINUX = pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="this system does not tell")


def test_the_same_user_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert is_owners(ours)


@LINUX
def test_the_system_tells_who_is_there() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert peer_uid(ours) == os.geteuid()


@LINUX
def test_another_user_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert not is_owners(ours)


def test_loopback_is_not() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
        listening.accept()[0] as accepted,
    ):
        assert not is_owners(client)
        assert not is_owners(accepted)


def test_who_has_gone_is_nobody() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    theirs.close()
    ours.close()
    assert not is_owners(ours)


def test_where_the_system_does_not_tell_a_file_for_its_owner_alone_does(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ownership, "peer_uid", lambda _connection: None)
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as client:
        listening.bind("x.sock")
        listening.listen()
        client.connect("x.sock")
        with listening.accept()[0] as accepted:
            os.chmod("x.sock", 0o600)
            assert is_owners(accepted)
            os.chmod("x.sock", 0o660)
            assert not is_owners(accepted)
            os.unlink("x.sock")
            assert not is_owners(accepted)
