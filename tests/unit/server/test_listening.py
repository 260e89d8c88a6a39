"""Where a server listens, with a fake gRPC server: sockets of others are left alone, ours goes with us."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.server.listening import GrpcListener, SocketListener, check_exposure, options
from remote_gym.server.socket_files import OWNER_ONLY


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


class Pem:
    root: bytes | None = None


Make = Callable[[str], Any]


@pytest.fixture(params=["gRPC's socket", "ours"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """Make a listener, whoever binds."""
    with contextlib.ExitStack() as stack:

        def listen(host: str) -> Any:
            if request.param == "ours":
                return stack.enter_context(contextlib.closing(SocketListener(host, 0)))
            return stack.enter_context(contextlib.closing(GrpcListener(Server(), host, 0, None)))

        yield listen


def test_a_port() -> None:
    listener = GrpcListener(Server(), "127.0.0.1", 0, None)
    assert (listener.port, listener.address) == (4321, "127.0.0.1:4321")
    listener.close()


def test_a_port_that_is_taken_says_so() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1:99: the port is taken"):
        GrpcListener(Server(taken=True), "127.0.0.1", 99, None)


def test_a_port_of_ours() -> None:
    listener = SocketListener("127.0.0.1", 0)
    assert listener.address == f"127.0.0.1:{listener.port}"
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{listener.port}: the port is taken"):
        SocketListener("127.0.0.1", listener.port)
    listener.close()
    listener.close()
    SocketListener("127.0.0.1", listener.port).close()


def test_a_socket_file_is_its_owners_and_goes_with_its_listener(tmp_path: Path, make: Make) -> None:
    path = tmp_path / "s"
    listener = make(f"unix:{path}")
    assert (listener.port, listener.address) == (0, f"unix:{path}")
    assert stat.S_IMODE(os.stat(path).st_mode) == OWNER_ONLY
    listener.close()
    listener.close()
    assert not path.exists()


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
