"""Frames into a socket that takes as much as the test says: whole, in order, the same bytes again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest

from remote_gym import failpoints
from remote_gym.messages import Closed, Lost
from remote_gym.server.carriers.outlet import SLICE_BYTES, TURN_SLICES, SocketOutlet
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import pack_server
from remote_gym.wire.direct import PING, framed

SMALL = pack_server(Closed())
OTHER = pack_server(Lost("another"))
LARGE = pack_server(Lost("x" * (2 * SLICE_BYTES + 7)))


class Socket:
    """Takes what it has room for; with TLS all of what it is given or nothing."""

    def __init__(self, tls: bool) -> None:
        self.room = 1 << 40
        self.took = b""
        self.refused: bytes | None = None
        self.broken: Exception | None = None
        self._tls = tls
        self._pair = socket.socketpair()  # to be waited for: always writable

    def fileno(self) -> int:
        return self._pair[0].fileno()

    def close(self) -> None:
        for one in self._pair:
            one.close()

    def send(self, data: Any) -> int:
        if self.broken is not None:
            raise self.broken
        if self._tls and self.refused is not None:
            assert bytes(data) == self.refused, "OpenSSL wants the same bytes again"
        if self.room < (len(data) if self._tls else 1):
            self.refused = bytes(data)
            raise ssl.SSLWantWriteError if self._tls else BlockingIOError
        self.refused = None
        took = min(self.room, len(data))
        self.took += bytes(data[:took])
        self.room -= took
        return took


class Lab:
    def __init__(self, tls: bool) -> None:
        self.socket = Socket(tls)
        self.counters = Counters()
        self.finished = 0
        self.errors: list[Exception] = []
        self.writer = SocketOutlet(
            self.socket,  # type: ignore[arg-type]
            self.counters,
            lambda: setattr(self, "finished", self.finished + 1),
            self.errors.append,
        )


Play = Callable[[Callable[[Lab], Any]], None]


@pytest.fixture(params=[True, False], ids=["tls", "plaintext"])
def play(request: pytest.FixtureRequest) -> Play:
    def run(test: Callable[[Lab], Any]) -> None:
        async def main() -> None:
            lab = Lab(request.param)
            try:
                await asyncio.wait_for(test(lab), 10.0)
            finally:
                lab.writer.close()
                lab.socket.close()

        asyncio.run(main())

    return run


async def turns(lab: Lab, until: Callable[[], object]) -> None:
    while not until():
        await asyncio.sleep(0)
    assert not lab.errors


def test_what_there_is_room_for_is_written_at_once(play: Play) -> None:
    async def test(lab: Lab) -> None:
        told: list[int] = []
        lab.writer.send(SMALL, lambda: told.append(1))
        assert lab.socket.took == framed(SMALL)
        assert (told, lab.writer.unread_bytes) == ([1], 0)
        assert lab.counters.sent_bytes == len(SMALL)

    play(test)


@pytest.mark.parametrize("room", [0, 1, 3, 4, 5, SLICE_BYTES, SLICE_BYTES + 1])
def test_whatever_the_socket_takes_the_bytes_are_the_same(play: Play, room: int) -> None:
    async def test(lab: Lab) -> None:
        lab.socket.room = room
        told: list[str] = []
        lab.writer.send(LARGE, lambda: told.append("large"))
        lab.writer.pong()
        lab.writer.pong()
        lab.writer.send(SMALL, lambda: told.append("small"))
        assert told == []
        assert lab.writer.unread_bytes == len(LARGE) + len(SMALL)
        expected = framed(LARGE) + PING + framed(SMALL)
        while lab.socket.took != expected:
            lab.socket.room += SLICE_BYTES if room else len(expected)
            await asyncio.sleep(0)
        await turns(lab, lambda: len(told) == 2)
        assert told == ["large", "small"]
        assert lab.writer.unread_bytes == 0

    play(test)


@pytest.mark.parametrize("room", [0, 1, 4, len(framed(OTHER)) - 1, len(framed(OTHER))])
def test_a_small_frame_is_counted_and_told_of_once_whatever_the_socket_takes(play: Play, room: int) -> None:
    async def test(lab: Lab) -> None:
        lab.socket.room = room
        told: list[str] = []
        for point in ("server.frame.write", "server.frame.written"):
            failpoints.arm(point, lambda point=point: told.append(point))
        try:
            lab.writer.send(OTHER, lambda: told.append("sent"))
            lab.writer.on_written = lambda: told.append("read on")
            lab.writer.pong()
            lab.writer.send(SMALL)
            waits = room < len(framed(OTHER))
            assert lab.writer.unread_bytes == (len(OTHER) + len(SMALL) if waits else len(SMALL))
            lab.socket.room = 1 << 40
            await turns(lab, lambda: lab.writer.unread_bytes == 0)
        finally:
            failpoints.disarm()
        whole = ["server.frame.write", "server.frame.written"]
        assert told == [*whole, "sent", *(["read on"] if waits else []), *whole, "read on"]
        assert lab.counters.sent_bytes == len(OTHER) + len(SMALL)
        assert lab.socket.took == framed(OTHER) + PING + framed(SMALL)

    play(test)


def test_small_frames_that_wait_are_bundled(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.socket.room = 0
        for frame in (SMALL, OTHER, SMALL):
            lab.writer.send(frame)
        lab.socket.room = 1 << 20
        await turns(lab, lambda: lab.writer.unread_bytes == 0)
        assert lab.socket.took.startswith(framed(SMALL))
        assert lab.socket.took.count(OTHER) == 1
        assert len(lab.socket.took) < 3 * len(framed(OTHER)) + 20

    play(test)


def test_others_have_their_turn(play: Play) -> None:
    async def test(lab: Lab) -> None:
        large = pack_server(Lost("x" * (SLICE_BYTES * TURN_SLICES * 2)))
        lab.writer.send(large)
        assert len(lab.socket.took) == SLICE_BYTES * TURN_SLICES
        await turns(lab, lambda: lab.writer.unread_bytes == 0)
        assert lab.socket.took == framed(large)

    play(test)


def test_the_end_comes_after_what_was_sent_and_once(play: Play) -> None:
    async def test(lab: Lab) -> None:
        lab.socket.room = 0
        lab.writer.send(SMALL)
        lab.writer.end()
        lab.writer.end()
        lab.writer.send(OTHER)
        assert lab.finished == 0
        lab.socket.room = 1 << 20
        await turns(lab, lambda: lab.finished)
        lab.writer.pong()
        assert (lab.socket.took, lab.finished) == (framed(SMALL) + PING, 1)

    play(test)


def test_a_last_frame_comes_after_what_is_being_written_and_instead_of_the_rest(play: Play) -> None:
    async def test(lab: Lab) -> None:
        told: list[int] = []
        lab.socket.room = SLICE_BYTES
        lab.writer.send(LARGE, lambda: told.append(1))
        lab.writer.send(SMALL, lambda: told.append(2))
        lab.writer.end(b"the last")
        lab.socket.room = 1 << 30
        await turns(lab, lambda: lab.finished)
        assert lab.socket.took == framed(LARGE) + b"the last"
        assert told == []

    play(test)


def fail() -> None:
    raise failpoints.FailpointError("armed")


@pytest.mark.parametrize("where", ["socket", "failpoint"])
def test_what_breaks_is_told_on_the_next_turn_and_nothing_more_is_written(play: Play, where: str) -> None:
    async def test(lab: Lab) -> None:
        if where == "socket":
            lab.socket.broken = ConnectionResetError("gone")
            lab.writer.send(SMALL)
        else:
            with failpoints.armed("server.frame.write", fail):
                lab.writer.send(SMALL)
        assert lab.errors == []
        lab.socket.broken = None
        lab.writer.send(OTHER)
        await asyncio.sleep(0.01)
        assert len(lab.errors) == 1
        assert lab.socket.took == b""

    play(test)
