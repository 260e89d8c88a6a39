"""Where a host name or IP leads to: the families, a free port for all of them, and refusals that say so."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from remote_gym.server import sockets
from remote_gym.server.sockets import listen_tcp, listen_unix, peer_uid

HAS_IPV6 = True
try:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
except OSError:
    HAS_IPV6 = False


@contextlib.contextmanager
def listening(host: str, port: int = 0) -> Iterator[tuple[list[socket.socket], int]]:
    opened, bound = listen_tcp(host, port)
    with contextlib.ExitStack() as stack:
        for one in opened:
            stack.enter_context(one)
        yield opened, bound


def reaches(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5.0):
        return True
    return False


def test_an_address() -> None:
    with listening("127.0.0.1") as (opened, port):
        (one,) = opened
        assert one.getsockname() == ("127.0.0.1", port)
        assert one.getblocking() is False
        assert not one.get_inheritable()
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
        assert not one.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert reaches("127.0.0.1", port)
        assert not reaches("127.0.0.2", port)
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: the port is taken"):
            listen_tcp("127.0.0.1", port)


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_all_addresses_are_of_both_families(host: str) -> None:
    with listening(host) as (opened, port):
        assert len(opened) == 1
        assert reaches("127.0.0.2", port)
        assert reaches("::1", port)
        for other in ("0.0.0.0", "::", "127.0.0.1"):
            with pytest.raises(OSError, match="the port is taken"):
                listen_tcp(other, port)


@pytest.mark.skipif(not HAS_IPV6, reason="no IPv6 here")
def test_localhost_is_both_with_one_port() -> None:
    with listening("localhost") as (opened, port):
        assert {one.getsockname()[:2] for one in opened} == {("127.0.0.1", port), ("::1", port)}


def test_a_port_that_is_taken_for_one_of_the_addresses_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    listen, tried = sockets._listen, []

    def taken_at_first(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
        tried.append(port)
        if len(tried) == 2:
            raise OSError(98, "Address already in use")
        return listen(family, address, port)

    monkeypatch.setattr(sockets, "_listen", taken_at_first)
    addresses = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "127.0.0.2")]
    monkeypatch.setattr(sockets, "_addresses", lambda _host: addresses)
    with listening("two.example") as (opened, port):
        assert [one.getsockname() for one in opened] == [("127.0.0.1", port), ("127.0.0.2", port)]
        assert tried == [0, tried[1], 0, port]


def test_addresses_that_are_not_here_are_left_out_unless_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = (socket.AF_INET, "192.0.2.1")
    monkeypatch.setattr(sockets, "_addresses", lambda _host: [elsewhere, (socket.AF_INET, "127.0.0.1")])
    with listening("two.example") as (opened, port):
        assert [one.getsockname() for one in opened] == [("127.0.0.1", port)]
    monkeypatch.setattr(sockets, "_addresses", lambda _host: [elsewhere])
    with pytest.raises(OSError, match=r"cannot listen on two\.example:0: .* not this machine's"):
        listen_tcp("two.example", 0)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1", "a" * 70, "."])
def test_what_is_no_address_of_this_machine(host: str) -> None:
    with pytest.raises(
        OSError, match=r"cannot listen on .*:0: the port is taken, or the address is not this machine's"
    ):
        listen_tcp(host, 0)


def test_a_path(tmp_path: Path) -> None:
    with listen_unix(str(tmp_path / "s")) as one:
        assert one.getblocking() is False
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
    with pytest.raises(OSError, match=r"cannot listen on unix:.*: the folder cannot be written to"):
        listen_unix(str(tmp_path / "none" / "s"))


def test_a_peer_on_this_machine_is_a_user() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert peer_uid(one) in (os.geteuid(), None)
