"""Sessions over connections of their own: real sockets, with and without TLS; what stands behind the edge is fake."""

from __future__ import annotations

import asyncio
import logging
import struct
import threading
from typing import Any

import pytest
from direct_lab import ATTACH, HELLO, OPEN, Lab, request
from edge_fakes import FakeSession
from helpers import wait_until

from remote_gym.messages import Close, Closed, Fragment, Lost, Refused
from remote_gym.server.carriers import connection as connections
from remote_gym.server.carriers.outlet import UNREAD_BYTES
from remote_gym.server.refusals import RefusalError
from remote_gym.server.shares import SPARE_CONNECTIONS
from remote_gym.wire.codec import FRAGMENT_BYTES, Joiner, pack_client, pack_server, read_server
from remote_gym.wire.direct import LAST, PING, framed


def test_each_side_greets_and_the_server_says_which_start_of_it_this_is(lab: Lab) -> None:
    hello = lab.dial().greet()
    assert (hello.protocol_min, hello.protocol_max, hello.server_epoch) == (1, 1, lab.sessions.epoch)


def test_the_first_message_opens_and_the_others_are_requests(lab: Lab) -> None:
    client = lab.opened()
    client.say(request(1), request(2))
    answers = [client.message()]
    while sum(len(one) if isinstance(one, list) else 1 for one in answers) < 2:
        answers.append(client.message())
    assert [message.number for message in lab.sessions.session.received] == [1, 2]


def test_attaching_says_nothing_of_its_own(lab: Lab) -> None:
    client = lab.dial()
    client.greet()
    client.say(ATTACH, request(1))
    assert client.message() == Closed()


@pytest.mark.parametrize("frame", [HELLO, OPEN, request(1)])
def test_frames_may_come_byte_by_byte(lab: Lab, frame: bytes) -> None:
    client = lab.dial()
    stream = HELLO + OPEN + request(1)
    at = stream.index(frame)
    client.say(stream[:at])
    for byte in frame:
        client.say(bytes([byte]))
    client.say(stream[at + len(frame) :])
    client.frame()
    assert [client.message(), client.message()] == [FakeSession.opened, Closed()]


def test_who_goes_away_detaches(lab: Lab) -> None:
    client = lab.opened()
    client.socket.close()
    wait_until(lambda: lab.sessions.session.detached and not lab.direct.connections)
    assert len(lab.sessions.session.detached) == 1


def test_what_comes_while_a_session_is_opened_waits_for_it(lab: Lab) -> None:
    go = threading.Event()
    at_once = lab.sessions.open

    async def slowly(*asked: Any) -> Any:
        await lab.loop.run_in_executor(None, go.wait)
        return await at_once(*asked)

    lab.sessions.open = slowly
    client = lab.dial()
    client.greet()
    client.say(OPEN, request(1), PING)
    assert client.frame() == b""  # answered meanwhile
    go.set()
    assert [client.message(), client.message()] == [FakeSession.opened, Closed()]


def test_who_goes_away_while_a_session_is_opened_is_not_waited_for(lab: Lab) -> None:
    begun = threading.Event()

    async def never(*_asked: Any) -> Any:
        begun.set()
        await asyncio.Event().wait()

    lab.sessions.open = never
    client = lab.dial()
    client.greet()
    client.say(OPEN)
    assert begun.wait(5.0)
    client.socket.close()
    wait_until(lambda: not lab.direct.connections)


def test_a_flood_while_a_session_is_opened_is_not_taken_in(lab: Lab) -> None:
    async def never(*_asked: Any) -> Any:
        await asyncio.Event().wait()

    lab.sessions.open = never
    client = lab.dial()
    client.greet()
    client.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        client.say(OPEN, *[framed(bytes(1_000))] * 100_000)
    (connection,) = lab.direct.connections
    assert connection._early_bytes < 2 * UNREAD_BYTES


def test_a_refused_opening_is_told_and_ends(lab: Lab) -> None:
    lab.sessions.instead = RefusalError("max_envs", "no room")
    client = lab.dial()
    client.greet()
    client.say(OPEN)
    assert client.message() == Refused(0, "max_envs", "no room")
    assert client.ended


def test_a_session_that_is_not_there_is_told(lab: Lab) -> None:
    lab.sessions.instead = Lost("EXPIRED", "")
    client = lab.dial()
    client.greet()
    client.say(ATTACH)
    assert client.message() == Lost("EXPIRED", "")
    assert client.ended
    assert lab.sessions.session.detached == []


@pytest.mark.parametrize(
    ("said", "code", "why"),
    [
        ([framed(b"\xff" * 9)], 3, "malformed"),
        ([PING], 3, "a ping before the greeting"),
        ([framed(bytes(5_000))], 3, "a frame of 5,000 bytes"),
        ([HELLO, framed(b"\xff" * 9)], 3, ""),
        ([HELLO, request(1)], 3, ""),
        ([HELLO, OPEN, framed(b"\xff" * 9)], 3, ""),
        ([HELLO, OPEN, struct.pack("<I", 1 << 30)], 3, "a frame of 1,073,741,824 bytes"),
        ([HELLO, OPEN, struct.pack("<I", LAST)], 3, "a frame of 2,147,483,648 bytes"),
        ([HELLO, OPEN, request(66)], 13, "a bug of ours"),
    ],
)
def test_who_breaks_the_contract_is_told_why_and_let_go(
    lab: Lab, said: list[bytes], code: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "remote_gym.server")
    client = lab.dial()
    for one in said[:-1]:
        client.say(one)
        client.frame()
    client.say(said[-1], request(5))  # which nobody reads any more
    ended = client.last()
    assert (ended.code, why in ended.detail) == (code, True)
    assert ("a bug of ours" in caplog.text) is (code == 13)
    assert lab.sessions.session.received == []
    if OPEN in said:
        wait_until(lambda: len(lab.sessions.session.detached) == 1)


def test_an_unfinished_message_is_accounted_for(lab: Lab) -> None:
    client = lab.opened()
    client.say(framed(pack_client(Fragment(bytes(900), False, 5_000))))
    wait_until(lambda: lab.sessions.holdings.bytes["fragments"] == 900)
    assert lab.sessions.shares.statistics()["principal_held_bytes"] == {"other": 900}
    client.say(framed(pack_client(Fragment(bytes(5_000), False, 5_000))))
    assert client.last().code == 3
    wait_until(lambda: lab.sessions.holdings.bytes["fragments"] == 0)
    wait_until(lambda: lab.sessions.shares.statistics()["principal_connections"] == {"other": 0})
    assert lab.sessions.shares.statistics()["principal_held_bytes"] == {"other": 0}


def test_a_frame_that_is_not_whole_is_its_principals_too(lab: Lab) -> None:
    lab.sessions.holdings.limit_bytes = 1_000_000
    client = lab.opened()
    client.say(framed(bytes(500_000))[:300_000])
    wait_until(lambda: lab.sessions.holdings.bytes["fragments"] > 290_000)
    held = lab.sessions.shares.statistics()["principal_held_bytes"]
    assert held == {"other": lab.sessions.holdings.bytes["fragments"]}
    client.socket.close()
    wait_until(lambda: lab.sessions.holdings.bytes["fragments"] == 0)
    assert lab.sessions.shares.statistics()["principal_held_bytes"] == {"other": 0}


def test_who_has_too_many_connections_is_told_and_may_come_again(lab: Lab) -> None:
    others = [lab.opened() for _ in range(2 * 3 + SPARE_CONNECTIONS)]
    refused = lab.dial()
    refused.greet()
    refused.say(OPEN)
    assert refused.message().limit == "principal_connections"
    sent_away = lab.dial()
    sent_away.greet()
    sent_away.say(ATTACH)
    assert sent_away.last().code == 8
    others[0].socket.close()
    wait_until(lambda: lab.sessions.shares.statistics()["principal_connections"]["other"] == len(others) - 1)
    back = lab.dial()
    back.greet()
    back.say(ATTACH, request(1))
    assert back.message() == Closed()
    assert lab.sessions.counters.refusals["principal_connections"] == 2


def test_the_rest_of_a_message_must_come_in_time(lab: Lab) -> None:
    def look() -> None:
        for connection in list(lab.direct.connections):
            connection.look(40.0)

    client = lab.opened()
    piece = framed(pack_client(Fragment(bytes(100), False, 5_000)))
    for total in (100, 200, 300):
        client.say(piece)
        wait_until(lambda: lab.sessions.holdings.bytes["fragments"] == total)  # noqa: B023
        lab.soon(look)
    client.say(PING)
    assert client.frame() == b""
    lab.soon(look)
    client.say(PING)
    assert client.frame() == b""
    lab.soon(look)
    assert "did not come within 60 s" in client.last().detail


def test_pings_are_answered_and_are_no_frames(lab: Lab) -> None:
    client = lab.dial()
    client.greet()
    client.say(PING)
    assert client.frame() == b""
    client.say(OPEN, PING, PING, PING)
    while (frame := client.frame()) == b"":
        pass
    assert read_server(frame) == FakeSession.opened
    client.say(PING, request(1))
    while (frame := client.frame()) == b"":
        pass
    assert read_server(frame) == Closed()


def test_a_large_answer_comes_whole_in_slices_and_pieces(lab: Lab) -> None:
    client = lab.opened(receive_bytes=65_536)
    (connection,) = lab.direct.connections
    told = threading.Event()
    answer = pack_server(Lost("x" * (2 * FRAGMENT_BYTES + 5)))
    lab.soon(connection.outlet.send, answer, told.set)
    lab.soon(connection.outlet.send, pack_server(Closed()))
    assert not told.is_set() and connection.outlet.unread_bytes > len(answer)
    joiner = Joiner(read_server)
    messages = []
    while not messages:
        client.say(PING)
        if frame := client.frame():
            whole = joiner.feed(frame)
            messages += [] if whole is None else [whole]
    assert messages == [Lost("x" * (2 * FRAGMENT_BYTES + 5))]
    while (frame := client.frame()) == b"":
        pass
    assert read_server(frame) == Closed()
    assert told.wait(5.0)
    wait_until(lambda: connection.outlet.unread_bytes == 0)


def test_a_client_that_does_not_read_is_not_read_either(lab: Lab) -> None:
    client = lab.opened(receive_bytes=65_536)
    (connection,) = lab.direct.connections
    lab.soon(connection.outlet.send, bytes(20 * UNREAD_BYTES))
    client.say(request(1), request(2))
    client.socket.settimeout(1.0)
    with pytest.raises(TimeoutError):
        client.say(*[request(3)] * 1_000_000)
    read = len(lab.sessions.session.received)
    client.socket.settimeout(10.0)
    for _ in range(19):
        client.bytes(UNREAD_BYTES)
    wait_until(lambda: len(lab.sessions.session.received) > read)


def test_who_does_not_close_what_was_ended_is_closed(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.1)
    client = lab.opened()
    lab.soon(lab.edge.end_all)
    wait_until(lambda: not lab.direct.connections)
    assert client.ended


def test_a_session_that_ends_says_so_and_then_the_connection_ends(lab: Lab) -> None:
    client = lab.opened()

    def end(_message: Any, outlet: Any) -> None:
        outlet.send(pack_server(Closed()))
        outlet.end()

    lab.sessions.session.receive = end
    client.say(framed(pack_client(Close())))
    assert client.message() == Closed()
    assert client.ended


def test_what_breaks_while_it_is_written_is_not_raised_into_who_sends(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = lab.opened()
    (connection,) = lab.direct.connections

    def broken(_data: Any) -> int:
        raise ConnectionResetError("gone")

    class Breaking:
        def __getattr__(self, name: str) -> Any:
            return broken if name == "send" else getattr(real, name)

    real = connection.outlet._socket
    connection.outlet._socket = Breaking()  # type: ignore[assignment]
    lab.soon(connection.outlet.send, pack_server(Closed()))
    wait_until(lambda: not lab.direct.connections)
    lab.soon(connection.outlet.send, pack_server(Closed()))
    lab.soon(connection.outlet.end)
    assert client.ended
    assert len(lab.sessions.session.detached) == 1


def test_who_does_not_greet_or_begin_is_let_go(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BEGIN_SECONDS", 0.1)
    silent, polite = lab.dial(), lab.dial()
    polite.greet()
    assert silent.ended and polite.ended


def test_who_falls_silent_is_let_go_and_who_pings_is_not(lab: Lab) -> None:
    silent, there = lab.opened(), lab.opened()
    wait_until(lambda: len(lab.direct.connections) == 2)

    def look() -> None:
        for connection in list(lab.direct.connections):
            connection.look(30.0)

    lab.soon(look)  # what was said so far counts
    there.say(PING)
    assert there.frame() == b""
    lab.soon(look)
    there.say(PING)
    assert there.frame() == b""
    lab.soon(look)
    assert silent.ended
    there.say(PING)
    assert there.frame() == b""
