"""Who comes in by which door, who waits too long, and what a flood of them costs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from remote_gym.server.carriers import door as door_module
from remote_gym.server.carriers.admission import Admission, Visitor
from remote_gym.server.carriers.client_hello import in_plaintext
from remote_gym.server.carriers.door import Door, Entrance
from remote_gym.server.carriers.passage import Passages
from remote_gym.server.sockets import listen_tcp, listen_unix
from remote_gym.wire.direct import MAGIC

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class House:
    """A door on a port of loopback, with a socket behind it that nobody reads unless a test does."""

    def __init__(self, limit: int | None, per_peer: int, direct: bool) -> None:
        self.loop = asyncio.get_running_loop()
        self.passages = Passages(self.loop)
        self.admission = Admission(limit, per_peer)
        self.direct: list[tuple[socket.socket, Visitor]] = []
        self.behind = listen_unix(self.passages.path("1"))
        (self.listening,), self.port = listen_tcp("127.0.0.1", 0)
        taken_over = (lambda connection, visitor: self.direct.append((connection, visitor))) if direct else None
        self.door = Door(self.loop, self.admission, self.passages, taken_over)
        self.judged: list[bytes] = []
        self.door.open(Entrance(self.listening, self._judge, self.passages.path("1")))
        self.clients: list[socket.socket] = []

    def _judge(self, data: bytes) -> bool | None:
        self.judged.append(data)
        return in_plaintext(data)

    async def client(self, says: bytes = b"", address: str = "127.0.0.1") -> socket.socket:
        client = socket.socket()
        self.clients.append(client)
        client.setblocking(False)
        client.bind((address, 0))
        await asyncio.wait_for(self.loop.sock_connect(client, ("127.0.0.1", self.port)), 5.0)
        client.send(says)
        return client

    async def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(1_000):
            if condition():
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the condition did not come true")

    async def hears(self, client: socket.socket) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            return await asyncio.wait_for(self.loop.sock_recv(client, 1_000), 5.0)
        return b""

    def close(self) -> None:
        self.door.close()
        self.passages.close()
        self.behind.close()
        for client in self.clients:
            client.close()
        for connection, visitor in self.direct:
            connection.close()
            visitor.leave()


def play(
    test: Callable[[House], Awaitable[None]], limit: int | None = None, per_peer: int = 256, direct: bool = True
) -> None:
    async def main() -> None:
        house = House(limit, per_peer, direct)
        try:
            await test(house)
        finally:
            house.close()
        assert (house.admission.descriptors, house.admission.silent) == (0, 0)

    asyncio.run(main())


def test_the_magic_is_direct_and_nothing_of_it_is_taken() -> None:
    async def test(house: House) -> None:
        client = await house.client(MAGIC + b"and more")
        await house.until(lambda: house.direct)
        ((connection, visitor),) = house.direct
        assert connection.recv(100) == MAGIC + b"and more"
        assert not connection.getblocking()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert visitor.peer == "ipv4:{}:{}".format(*client.getsockname())
        assert not house.passages.running
        visitor.spoke()
        assert house.admission.silent == 0

    play(test)


def test_a_beginning_in_pieces_is_waited_for_without_asking_all_the_time() -> None:
    async def test(house: House) -> None:
        client = await house.client()
        for place in range(len(MAGIC)):
            client.send(MAGIC[place : place + 1])
            await asyncio.sleep(0.02)
        await house.until(lambda: house.direct)
        assert house.judged[-1] == MAGIC
        assert len(house.judged) < 16

    play(test)


def test_half_a_beginning_costs_next_to_nothing_and_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door_module, "DECISION_SECONDS", 0.5)

    async def test(house: House) -> None:
        half, nothing, gone = await house.client(MAGIC[:5]), await house.client(), await house.client()
        gone.close()
        assert await house.hears(half) == b""
        assert await house.hears(nothing) == b""
        await house.until(lambda: not house.door.undecided)
        assert len(house.judged) < 12
        assert not house.direct and not house.passages.running

    play(test)


@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("says", [PREFACE, b"\0", b"\x16\x03\x01", MAGIC])
def test_all_else_is_passed_through(says: bytes, direct: bool) -> None:
    if direct and says == MAGIC:
        pytest.skip("that is direct")

    async def test(house: House) -> None:
        client = await house.client(says)
        inner, _ = await asyncio.wait_for(house.loop.sock_accept(house.behind), 5.0)
        with inner:
            assert await asyncio.wait_for(house.loop.sock_recv(inner, 100), 5.0) == says
            await house.loop.sock_sendall(inner, b"answer")
            assert await house.hears(client) == b"answer"
            assert house.admission.descriptors == 3

    play(test, direct=direct)


def test_when_nobody_is_behind_the_connection_ends() -> None:
    async def test(house: House) -> None:
        os.unlink(house.passages.path("1"))
        assert await house.hears(await house.client(PREFACE)) == b""
        assert house.admission.descriptors == 0

    play(test)


def test_an_error_of_who_takes_over_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def test(house: House) -> None:
        def bad(_connection: socket.socket, _visitor: Visitor) -> None:
            raise ValueError("a bug of ours")

        house.door._direct = bad
        assert await house.hears(await house.client(MAGIC)) == b""
        assert "a bug of ours" in caplog.text

    play(test)


def test_one_peers_silent_connections_keep_nobody_out() -> None:
    async def test(house: House) -> None:
        other = await house.client()
        for _ in range(20):
            await house.client(address="127.0.0.2")
        await house.until(lambda: len(house.door.undecided) == 5)
        assert await house.hears(house.clients[1]) == b""
        other.send(MAGIC)
        (await house.client(address="127.0.0.2")).send(MAGIC)
        await house.until(lambda: len(house.direct) == 2)

    play(test, per_peer=4)


def test_at_the_limit_silent_ones_go_and_others_stay(caplog: pytest.LogCaptureFixture) -> None:
    async def test(house: House) -> None:
        silent = await house.client()
        for number in range(4):
            await house.client(MAGIC)
            await house.until(lambda number=number: len(house.direct) == number + 1)
            house.direct[number][1].begin_session()
        assert await house.hears(silent) == b""
        assert await house.hears(await house.client(MAGIC)) == b""
        assert await house.hears(await house.client(MAGIC)) == b""
        assert len(house.direct) == 4
        assert caplog.text.count("as many connections as") == 1
        house.direct[0][1].leave()
        await house.client(MAGIC)
        await house.until(lambda: len(house.direct) == 5)

    play(test, limit=4)


class Exhausted:
    """A listening socket, of a process that may open no more files for a while."""

    def __init__(self, listening: socket.socket) -> None:
        self._listening = listening
        self.failures = 0
        self.exhausted = True

    def accept(self) -> Any:
        if self.exhausted:
            self.failures += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._listening.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listening, name)


def test_without_descriptors_nobody_is_accepted_and_the_loop_does_not_spin(caplog: pytest.LogCaptureFixture) -> None:
    async def test(house: House) -> None:
        silent = await house.client()
        await house.until(lambda: house.door.undecided)
        house.door.shut()
        (listening,), house.port = listen_tcp("127.0.0.1", 0)
        exhausted: Any = Exhausted(listening)
        house.door.open(Entrance(exhausted, in_plaintext, house.passages.path("1")))
        await house.client(MAGIC)
        assert await house.hears(silent) == b""  # it makes room
        await asyncio.sleep(0.35)
        assert 2 <= exhausted.failures < 10
        assert caplog.text.count("nobody can connect for now: Too many open files") == 1
        exhausted.exhausted = False
        await house.until(lambda: house.direct)

    play(test)


def test_shut_it_lets_nobody_in_and_frees_the_port() -> None:
    async def test(house: House) -> None:
        undecided = await house.client()
        await house.until(lambda: house.door.undecided)
        house.door.shut()
        house.door.shut()
        with pytest.raises(ConnectionRefusedError):
            await house.client()
        (again,), _ = listen_tcp("127.0.0.1", house.port)
        again.close()
        undecided.send(MAGIC)
        await house.until(lambda: house.direct)

    play(test)
