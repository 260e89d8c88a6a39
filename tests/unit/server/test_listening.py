"""Where a server listens, with a fake gRPC server: sockets of others are left alone, ours goes with us."""

from __future__ import annotations

import os
import socket
import stat
import warnings
from pathlib import Path
from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.server.listening import OWNER_ONLY, Listener, check_exposure, options


class Server:
    """Binds like gRPC does: a port to a number, a path to a socket file."""

    def __init__(self, taken: bool = False) -> None:
        self._taken = taken

    def add_insecure_port(self, target: str) -> int:
        if self._taken:
            raise RuntimeError("Failed to bind")
        if target.startswith("unix:"):
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(target.partition(":")[2])
            return 1
        return 4321


def test_a_port() -> None:
    listener = Listener(Server(), "127.0.0.1", 0, None)
    assert (listener.port, listener.address) == (4321, "127.0.0.1:4321")
    listener.close()


def test_a_port_that_is_taken_says_so() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:99: the port is taken"):
        Listener(Server(taken=True), "127.0.0.1", 99, None)


def test_a_socket_file_is_its_owners_and_goes_with_its_listener(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = Listener(Server(), f"unix:{path}", 0, None)
    assert stat.S_IMODE(os.stat(path).st_mode) == OWNER_ONLY
    listener.close()
    listener.close()
    assert not path.exists()


def test_a_socket_file_of_somebody_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    listener = Listener(Server(), f"unix:{path}", 0, None)
    path.rename(tmp_path / "old")
    path.write_text("another's")
    listener.close()
    assert path.read_text() == "another's"


def test_what_a_dead_server_left_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    Listener(Server(), f"unix:{path}", 0, None).close()
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(1)
        with pytest.raises(OSError, match="another server listens there"):
            Listener(Server(), f"unix:{path}", 0, None)
    path.unlink()
    path.write_text("data")
    with pytest.raises(OSError, match="a file is there that is no socket"):
        Listener(Server(), f"unix:{path}", 0, None)


def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match="everybody may write"):
        Listener(Server(), f"unix:{folder}/s", 0, None)


class Pem:
    root: bytes | None = None


@pytest.mark.parametrize(
    ("host", "pem", "allowed", "error"),
    [
        ("127.0.0.1", None, False, None),
        ("0.0.0.0", None, False, "without TLS"),
        ("unix:/tmp/s", Pem(), False, "needs no TLS"),
    ],
)
def test_plaintext_stays_on_the_machine(host: str, pem: Any, allowed: bool, error: str | None) -> None:
    if error is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_exposure(host, pem, allowed)
    else:
        with pytest.raises(MisuseError, match=error):
            check_exposure(host, pem, allowed)


@pytest.mark.parametrize(("pem", "text"), [(None, "in plaintext"), (Pem(), "without a client CA")])
def test_what_others_reach_unproven_is_warned_of(pem: Any, text: str) -> None:
    with pytest.warns(UserWarning, match=text):
        check_exposure("0.0.0.0", pem, True)


def test_the_options_bound_messages_and_never_share_a_port() -> None:
    said = dict(options())
    assert said["grpc.so_reuseport"] == 0
    assert said["grpc.max_receive_message_length"] > 0
