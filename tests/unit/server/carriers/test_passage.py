"""Bytes pass both ways as they come; ends, halves of ends, and errors as well; nothing is kept but one buffer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
from collections.abc import Awaitable, Callable

import pytest

from remote_gym.server.carriers import passage as passage_module
from remote_gym.server.carriers.admission import Admission, Visitor
from remote_gym.server.carriers.passage import BUFFER_BYTES, Passages


class Ends:
    """A client and a gRPC, with a passage in between."""

    def __init__(self, passages: Passages, admission: Admission, listening: socket.socket) -> None:
        self.passages = passages
        self.admission = admission
        self.loop = asyncio.get_running_loop()
        self.client, outer = socket.socketpair()
        self.visitor = Visitor(admission, "ipv4:10.0.0.1:5", lambda: None)
        outer.setblocking(False)
        self.client.setblocking(False)
        assert admission.admit(self.visitor)
        self.passage = passages.begin(outer, self.visitor, passages.path("1"))
        self.server, name = listening.accept()
        self.name = f"unix-abstract:{name[1:].decode()}" if isinstance(name, bytes) else f"unix:{name}"
        self.server.setblocking(False)

    async def says(self, sender: socket.socket, data: bytes) -> None:
        await asyncio.wait_for(self.loop.sock_sendall(sender, data), 5.0)

    async def hears(self, receiver: socket.socket, count: int = 1) -> bytes:
        """Return `count` bytes, or fewer at the end."""
        heard = b""
        while len(heard) < count:
            data = await asyncio.wait_for(self.loop.sock_recv(receiver, count - len(heard)), 5.0)
            if not data:
                break
            heard += data
        return heard

    async def passed(self) -> None:
        """Let the loop do what there is to do."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def until_over(self) -> None:
        for _ in range(1_000):
            if not self.passages.running:
                return
            await asyncio.sleep(0.005)
        raise AssertionError("the passage goes on")


def play(test: Callable[[Ends], Awaitable[None]]) -> None:
    async def main() -> None:
        passages, admission = Passages(asyncio.get_running_loop()), Admission(None)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(passages.path("1"))
            listening.listen()
            ends = Ends(passages, admission, listening)
            try:
                await test(ends)
            finally:
                passages.close()
                ends.client.close()
                ends.server.close()
        assert admission.descriptors == 0
        assert not passages.peers and not passages.visitors

    asyncio.run(main())


def test_bytes_pass_both_ways() -> None:
    async def test(ends: Ends) -> None:
        data = os.urandom(3 * BUFFER_BYTES + 1)
        for sender, receiver in ((ends.client, ends.server), (ends.server, ends.client)):
            _, heard = await asyncio.gather(ends.says(sender, data), ends.hears(receiver, len(data)))
            assert heard == data
        for _ in range(3):
            await ends.says(ends.client, b"ping")
            assert await ends.hears(ends.server, 4) == b"ping"
            await ends.says(ends.server, b"pong")
            assert await ends.hears(ends.client, 4) == b"pong"

    play(test)


def test_who_does_not_read_holds_the_other_side_back() -> None:
    async def test(ends: Ends) -> None:
        sent = 0
        for _ in range(200):
            with contextlib.suppress(BlockingIOError):
                sent += ends.client.send(bytes(1 << 16))
            await ends.passed()
        assert len(ends.passage.up._rest) <= BUFFER_BYTES
        held = sent
        for _ in range(50):
            with contextlib.suppress(BlockingIOError):
                sent += ends.client.send(bytes(1 << 16))
            await ends.passed()
        assert sent == held < 200 << 16
        await ends.says(ends.server, b"the other way is open")
        assert await ends.hears(ends.client, 21) == b"the other way is open"
        assert len(await ends.hears(ends.server, sent)) == sent

    play(test)


def test_half_an_end_is_passed_on_after_all_bytes() -> None:
    async def test(ends: Ends) -> None:
        data = os.urandom(2 * BUFFER_BYTES)
        await asyncio.gather(ends.says(ends.client, data), ends.hears(ends.server, BUFFER_BYTES))
        ends.client.shutdown(socket.SHUT_WR)
        assert len(await ends.hears(ends.server, 2 * BUFFER_BYTES)) == BUFFER_BYTES
        assert await ends.hears(ends.server) == b""
        await ends.says(ends.server, data)
        assert await ends.hears(ends.client, len(data)) == data
        assert ends.passages.running
        ends.server.close()
        assert await ends.hears(ends.client) == b""
        await ends.until_over()

    play(test)


@pytest.mark.parametrize("unread", [False, True])
def test_the_end_of_the_client_is_the_end(unread: bool) -> None:
    async def test(ends: Ends) -> None:
        if unread:
            await ends.says(ends.server, bytes(1_000))
            await ends.passed()
        ends.client.close()
        with contextlib.suppress(ConnectionError):
            assert await ends.hears(ends.server) == b""
        ends.server.close()
        await ends.until_over()

    play(test)


def test_a_client_hears_grpcs_last_bytes_but_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage_module, "LAST_BYTES_SECONDS", 0.1)

    async def test(ends: Ends) -> None:
        await ends.says(ends.server, b"goodbye")
        ends.server.close()
        assert await ends.hears(ends.client, 100) == b"goodbye"
        await ends.until_over()

    play(test)


def test_grpc_leaving_a_client_that_does_not_read_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passage_module, "LAST_BYTES_SECONDS", 0.1)
    monkeypatch.setattr(passage_module, "WATCH_SECONDS", 0.05)

    async def test(ends: Ends) -> None:
        for _ in range(200):
            with contextlib.suppress(BlockingIOError):
                ends.server.send(bytes(1 << 16))
            await ends.passed()
        assert ends.passage.down._rest
        ends.server.close()
        await ends.until_over()

    play(test)


def test_at_the_end_last_bytes_are_waited_for_and_clients_that_stay_are_not() -> None:
    async def test(ends: Ends) -> None:
        data = os.urandom(20 * BUFFER_BYTES)
        saying = asyncio.ensure_future(ends.says(ends.server, data))
        saying.add_done_callback(lambda _: ends.server.close())
        ending = asyncio.ensure_future(ends.passages.ended(5.0))
        await ends.passed()
        assert not ending.done()
        assert await ends.hears(ends.client, len(data)) == data
        began = ends.loop.time()
        await ending
        assert ends.loop.time() - began < 2.0
        assert not ends.passages.running

    play(test)


def test_grpcs_name_of_a_peer_leads_to_the_true_one() -> None:
    async def test(ends: Ends) -> None:
        assert ends.passages.peer(ends.name) == "ipv4:10.0.0.1:5"
        assert ends.passages.peer("unix:") == "unix:"
        ends.passage.end()
        ends.passage.end()
        assert ends.passages.peer(ends.name) == ends.name

    play(test)


def test_a_client_is_silent_until_it_has_answered_an_answer() -> None:
    async def test(ends: Ends) -> None:
        await ends.says(ends.client, b"hello")
        assert await ends.hears(ends.server, 5) == b"hello"
        await ends.says(ends.client, b"more of it")
        assert await ends.hears(ends.server, 10) == b"more of it"
        assert ends.admission.silent == 1
        await ends.says(ends.server, b"hello")
        assert await ends.hears(ends.client, 5) == b"hello"
        assert ends.admission.silent == 1
        await ends.says(ends.client, b"and you?")
        assert await ends.hears(ends.server, 8) == b"and you?"
        assert ends.admission.silent == 0

    play(test)


def test_a_silent_one_can_be_sent_away() -> None:
    async def test(ends: Ends) -> None:
        assert ends.admission.make_room()
        assert not ends.passages.running
        assert await ends.hears(ends.client) == b""
        assert await ends.hears(ends.server) == b""

    play(test)


def test_the_folder_is_this_users_alone_and_goes() -> None:
    async def main() -> None:
        passages = Passages(asyncio.get_running_loop())
        folder = os.path.dirname(passages.path("x"))
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
        with socket.socket(socket.AF_UNIX) as connection, pytest.raises(FileNotFoundError):
            passages.begin(connection, Visitor(Admission(None), "unix:", lambda: None), passages.path("none"))
        await passages.ended(0.0)
        passages.close()
        passages.close()
        assert not os.path.exists(folder)

    asyncio.run(main())
