"""The carrier for tests keeps the promises of `Carrier` and `Dialer`, and shows a test what a session does."""

from __future__ import annotations

import queue
import threading

import pytest
from faking import opened

from remote_gym import ConnectError
from remote_gym.client.carriers import fake
from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.client.carriers.fake import FakeCarrier, FakeDialer
from remote_gym.messages import Close, Closed, Reset
from remote_gym.wire.codec import pack_client, pack_server, read_server


def landing(size: int) -> memoryview:
    return memoryview(bytearray(size))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "WAIT_SECONDS", 0.01)


def test_what_a_session_sends_is_seen_in_order() -> None:
    carrier = FakeCarrier()
    assert carrier.silent
    for message in (Reset(1), Close()):
        carrier.send(pack_client(message))
    assert not carrier.silent
    assert [carrier.sent(), carrier.sent()] == [Reset(1), Close()]
    assert carrier.silent
    with pytest.raises(queue.Empty):
        carrier.sent()


def test_what_a_test_brings_lands_where_the_session_says() -> None:
    carrier, buffers = FakeCarrier(), []

    def land(size: int) -> memoryview:
        buffers.append(bytearray(size))
        return memoryview(buffers[-1])

    carrier.bring(opened(), b"raw")
    frame = carrier.receive(land)
    assert frame.obj is buffers[0] and frame == pack_server(opened()) == bytes(buffers[0])
    assert read_server(bytes(frame)) == read_server(pack_server(opened()))
    assert bytes(carrier.receive(land)) == b"raw" and carrier.taken == 2


@pytest.mark.parametrize("end", list(End))
def test_it_ends_after_what_was_brought_and_stays_ended(end: End) -> None:
    carrier = FakeCarrier()
    carrier.bring(Closed())
    carrier.end("because", end)
    carrier.receive(landing)
    for _ in range(2):
        with pytest.raises(CarrierEnded, match="because") as ended:
            carrier.receive(landing)
        assert ended.value.end is end
    assert carrier.taken == 1 and not carrier.closed


def test_closing_ends_a_wait() -> None:
    carrier, ends = FakeCarrier(), []

    def wait() -> None:
        try:
            carrier.receive(landing)
        except CarrierEnded as ended:
            ends.append(ended)

    thread = threading.Thread(target=wait)
    thread.start()
    carrier.close()
    carrier.close()
    thread.join(5.0)
    assert carrier.closed and [ended.end for ended in ends] == [End.BROKEN]


def test_a_dialers_carriers_are_seen_in_order() -> None:
    dialer = FakeDialer()
    carriers = [dialer.begin(), dialer.begin()]
    assert [dialer.next(), dialer.next()] == carriers
    with pytest.raises(queue.Empty):
        dialer.next()


def test_a_dialer_may_have_none() -> None:
    dialer = FakeDialer()
    dialer.wait_until_ready(0.0)
    dialer.unreachable = ConnectError("fake:1", "no answer")
    with pytest.raises(ConnectError):
        dialer.wait_until_ready(0.0)
    dialer.refuses = True
    for count in (1, 2):
        with pytest.raises(CarrierEnded) as ended:
            dialer.begin()
        assert ended.value.end is End.BROKEN and dialer.refused == count
    dialer.refuses = False
    assert dialer.begin() is dialer.next()
    dialer.close()
    dialer.close()
    assert dialer.closed
