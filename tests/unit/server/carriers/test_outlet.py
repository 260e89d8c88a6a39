"""What waits to be written: in order, bundled where small, in pieces where large, and no more than a client reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from remote_gym.messages import Bundle, Closed, Fragment, Lost
from remote_gym.server.carriers.outlet import BUNDLE_BYTES, UNREAD_BYTES, OutletQueue
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import pack_server, read_server

SMALL = pack_server(Closed())


class Wire:
    """Remembers what is written, and holds the writer up while it is shut."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def write(self, message: bytes) -> None:
        await self.open.wait()
        self.messages.append(message)


def play(test: Callable[[OutletQueue, Wire, Counters], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        counters = Counters()
        outlet, wire = OutletQueue(counters), Wire()
        writer = asyncio.ensure_future(outlet.write(wire.write))
        await test(outlet, wire, counters)
        outlet.end()
        await asyncio.wait_for(writer, 5.0)

    asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_what_is_sent_alone_travels_as_it_is_and_is_told_when_written() -> None:
    async def test(outlet: OutletQueue, wire: Wire, counters: Counters) -> None:
        told: list[int] = []
        outlet.send(SMALL, lambda: told.append(1))
        assert told == []
        await settle()
        assert (wire.messages, told, counters.sent_bytes) == ([SMALL], [1], len(SMALL))

    play(test)


def test_what_waits_meanwhile_is_bundled_in_order() -> None:
    async def test(outlet: OutletQueue, wire: Wire, _counters: Counters) -> None:
        told: list[int] = []
        wire.open.clear()
        outlet.send(SMALL)
        await settle()
        for number in range(3):
            outlet.send(pack_server(Lost(str(number))), lambda number=number: told.append(number))
        wire.open.set()
        await settle()
        first, bundle = wire.messages
        assert first == SMALL
        assert read_server(bundle) == Bundle([pack_server(Lost(str(number))) for number in range(3)])
        assert told == [0, 1, 2]

    play(test)


def test_a_bundle_is_not_larger_than_it_may_be() -> None:
    async def test(outlet: OutletQueue, wire: Wire, _counters: Counters) -> None:
        half = pack_server(Lost("x" * (BUNDLE_BYTES // 2 - 20)))
        for _ in range(3):
            outlet.send(half)
        await settle()
        assert [type(read_server(message)) for message in wire.messages] == [Bundle, Lost]

    play(test)


def test_large_frames_travel_in_pieces() -> None:
    async def test(outlet: OutletQueue, wire: Wire, _counters: Counters) -> None:
        outlet.send(bytes(40 * 2**20))
        await settle()
        pieces = [read_server(message) for message in wire.messages]
        assert all(isinstance(piece, Fragment) for piece in pieces)
        assert sum(len(piece.data) for piece in pieces) == 40 * 2**20

    play(test)


def test_what_is_queued_is_still_written_at_the_end() -> None:
    async def test(outlet: OutletQueue, wire: Wire, _counters: Counters) -> None:
        outlet.send(SMALL)
        outlet.end()
        await settle()
        assert wire.messages == [SMALL]

    play(test)


def test_of_a_client_that_does_not_read_no_more_is_read_than_its_session_stores() -> None:
    async def test(outlet: OutletQueue, wire: Wire, _counters: Counters) -> None:
        wire.open.clear()
        outlet.send(bytes(UNREAD_BYTES + 1))
        await asyncio.wait_for(outlet.wait_for_reader(lambda: UNREAD_BYTES + 1), 1.0)
        waiting = asyncio.ensure_future(outlet.wait_for_reader(lambda: UNREAD_BYTES))
        await settle()
        assert not waiting.done()
        wire.open.set()
        await asyncio.wait_for(waiting, 1.0)

    play(test)
