"""What is the same for every carrier, with one that is a list of messages: no gRPC, no workers."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from edge_fakes import FakeSession, FakeSessions

from remote_gym.errors import ProtocolError
from remote_gym.messages import Attach, Bundle, Closed, Fragment, Lost, Open, Refused, Render
from remote_gym.server.carriers import edge
from remote_gym.server.carriers.edge import Edge, Incoming
from remote_gym.server.holdings import LIMIT, Holdings
from remote_gym.server.principals import ANONYMOUS
from remote_gym.server.refusals import RefusalError
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import pack_client, read_server

OPEN = pack_client(Open(1, 1, b"n" * 16, 1))
ATTACH = pack_client(Attach(b"s", b"t", b"e", 1))


class Carrier:
    """Brings what it is given, then waits for ever or, if told so, ends."""

    peer = "a test"
    principal = ANONYMOUS
    visitor = None

    def __init__(self, *messages: bytes, ends: bool = True) -> None:
        self._messages = list(messages)
        self._ends = ends
        self.written: list[Any] = []

    async def read(self) -> bytes | None:
        if self._messages:
            return self._messages.pop(0)
        if not self._ends:
            await asyncio.Event().wait()
        return None

    async def write(self, message: bytes) -> None:
        said = read_server(message)
        self.written += map(read_server, said.messages) if isinstance(said, Bundle) else [said]


@pytest.fixture
def sessions() -> Any:
    return FakeSessions()


def carried(sessions: Any, carrier: Carrier) -> BaseException | None:
    async def main() -> BaseException | None:
        return await asyncio.wait_for(Edge(sessions).carry(carrier), 5.0)

    return asyncio.run(main())


def test_the_first_message_opens_the_others_are_requests_and_the_end_detaches(sessions: Any) -> None:
    carrier = Carrier(OPEN, pack_client(Render(1)), pack_client(Render(2)))
    assert carried(sessions, carrier) is None
    assert [message.number for message in sessions.session.received] == [1, 2]
    assert len(sessions.session.detached) == 1
    assert carrier.written[0] == FakeSession.opened
    assert sessions.counters.received_bytes == len(OPEN) + 2 * len(pack_client(Render(1)))


def test_attaching_says_nothing_of_its_own(sessions: Any) -> None:
    carrier = Carrier(ATTACH, pack_client(Render(1)))
    assert carried(sessions, carrier) is None
    assert carrier.written == [Closed()]


def test_a_refused_opening_is_told_and_counted(sessions: Any) -> None:
    sessions.instead = RefusalError("max_envs", "no room")
    carrier = Carrier(OPEN, pack_client(Render(1)))
    assert carried(sessions, carrier) is None
    assert carrier.written == [Refused(0, "max_envs", "no room")]
    assert sessions.counters.refusals["max_envs"] == 1
    assert sessions.session.received == []


def test_a_session_that_is_not_there_is_told(sessions: Any) -> None:
    sessions.instead = Lost("EXPIRED", "")
    carrier = Carrier(ATTACH)
    assert carried(sessions, carrier) is None
    assert carrier.written == [Lost("EXPIRED", "")]
    assert sessions.session.detached == []


@pytest.mark.parametrize(
    ("first", "instead", "told"),
    [
        (OPEN, RefusalError("max_envs", "evil\nforged"), "refused to open: principal anonymous, peer "),
        (ATTACH, Lost("EXPIRED", "evil\nforged"), "refused to attach: principal anonymous, peer "),
    ],
    ids=["open", "attach"],
)
def test_who_is_refused_is_told_of_and_forges_nothing(
    sessions: Any, caplog: pytest.LogCaptureFixture, first: bytes, instead: Any, told: str
) -> None:
    caplog.set_level(logging.INFO, "remote_gym.server")
    sessions.instead = instead
    carrier = Carrier(first)
    carrier.peer = "unix:/tmp/\n2026-01-01 forged"  # where a client has bound its own socket
    carried(sessions, carrier)
    (message,) = caplog.messages
    assert message.startswith(told)
    assert message.isprintable()
    assert message.count("forged") == 2


def test_who_says_nothing_is_told_nothing(sessions: Any) -> None:
    carrier = Carrier()
    assert carried(sessions, carrier) is None
    assert carrier.written == []


@pytest.mark.parametrize("first", [b"\xff\xff", pack_client(Render(1))])
def test_what_is_no_beginning_ends_the_carrier(sessions: Any, first: bytes) -> None:
    assert isinstance(carried(sessions, Carrier(first, ends=False)), ProtocolError)


def test_what_is_no_message_ends_the_carrier_and_detaches(sessions: Any) -> None:
    assert isinstance(carried(sessions, Carrier(OPEN, b"\xff\xff", ends=False)), ProtocolError)
    assert len(sessions.session.detached) == 1


def test_a_bug_of_ours_is_logged_told_and_detaches(sessions: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "remote_gym.server")
    assert isinstance(carried(sessions, Carrier(OPEN, pack_client(Render(66)), ends=False)), RuntimeError)
    assert "a bug of ours" in caplog.text
    assert len(sessions.session.detached) == 1


def test_a_carrier_that_breaks_while_it_is_written_detaches(sessions: Any) -> None:
    class Breaking(Carrier):
        async def write(self, message: bytes) -> None:
            raise ConnectionError("gone")

    assert carried(sessions, Breaking(OPEN, ends=False)) is None
    assert len(sessions.session.detached) == 1


def test_ending_all_ends_those_that_still_could_read(sessions: Any) -> None:
    async def main() -> None:
        whole = Edge(sessions)
        carriers = [Carrier(OPEN, ends=False), Carrier(ATTACH, ends=False)]
        tasks = [asyncio.ensure_future(whole.carry(carrier)) for carrier in carriers]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        whole.end_all()
        assert await asyncio.wait_for(asyncio.gather(*tasks), 5.0) == [None, None]

    asyncio.run(main())


def piece(data: bytes, last: bool, total: int) -> bytes:
    return pack_client(Fragment(data, last, total))


@pytest.mark.parametrize("ticks", range(6))
def test_who_is_cancelled_just_as_something_comes_ends(sessions: Any, ticks: int) -> None:
    class Late(Carrier):
        def __init__(self) -> None:
            super().__init__(ends=False)
            self.first = asyncio.get_running_loop().create_future()

        async def read(self) -> bytes | None:
            return await super().read() if self.first.done() else await self.first

    async def main() -> None:
        carrier = Late()
        carrying = asyncio.ensure_future(Edge(sessions).carry(carrier))
        for _ in range(5):
            await asyncio.sleep(0)
        carrier.first.set_result(OPEN)
        for _ in range(ticks):
            await asyncio.sleep(0)
        carrying.cancel()
        done, _ = await asyncio.wait([carrying], timeout=5.0)
        assert done and carrying.cancelled()

    asyncio.run(main())


def test_an_unfinished_message_is_accounted_for_until_it_is_whole() -> None:
    holdings = Holdings(1_000)
    incoming = Incoming(holdings, Counters())
    whole = pack_client(Render(1, range(50)))
    assert incoming.feed(piece(whole[:20], False, len(whole))) is None
    assert incoming.unfinished
    assert holdings.bytes["fragments"] == 20
    assert incoming.feed(piece(whole[20:], True, len(whole))) == Render(1, list(range(50)))
    assert not incoming.unfinished
    assert holdings.bytes["fragments"] == 0


def test_more_unfinished_messages_than_there_is_room_for_are_refused_and_given_back() -> None:
    holdings, counters = Holdings(1_000), Counters()
    first, second = Incoming(holdings, counters), Incoming(holdings, counters)
    first.feed(piece(bytes(900), False, 5_000))
    with pytest.raises(RefusalError) as caught:
        second.feed(piece(bytes(900), False, 5_000))
    assert caught.value.limit == LIMIT
    assert counters.refusals[LIMIT] == 1
    for incoming in (first, second):
        incoming.close()
        incoming.close()
    assert holdings.bytes["fragments"] == 0


def test_the_rest_of_a_message_must_come_in_time(sessions: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "FRAGMENT_SECONDS", 0.05)
    error = carried(sessions, Carrier(OPEN, piece(b"\x08", False, 50), ends=False))
    assert "did not come within 0.05 s" in str(error)
    assert sessions.holdings.bytes["fragments"] == 0
