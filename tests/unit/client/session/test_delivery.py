"""What a carrier brings: the usual answer the short way, which a caller may go; all else for the thread."""

from __future__ import annotations

from typing import Any

import pytest
from faking import asked, opened, transition

from remote_gym.client.carriers.carrier import CarrierEnded
from remote_gym.client.session.delivery import Delivery, landing
from remote_gym.client.session.outstanding import MESSAGE_BYTES, SPARE_ANSWERS
from remote_gym.client.session.protocol import SessionProtocol
from remote_gym.errors import ProtocolError
from remote_gym.messages import Attached, Bundle, Failure, FailureKind, Fragment, Load, Lost, Refused, Returned
from remote_gym.wire.codec import pack_server, read_server


def session(*requests: Any) -> SessionProtocol:
    """A session on a carrier, and requests for these env indices."""
    protocol = SessionProtocol(asked(), "fake:1", 1.0, 5.0)
    protocol.began(0.0)
    protocol.arrived(opened(), 0.0)
    for number, indices in enumerate(requests, 1):
        protocol.outstanding.add(number, indices, b"", f"about {number}")
    return protocol


def state(protocol: SessionProtocol) -> Any:
    outstanding = protocol.outstanding
    inbox = [(one.answer, one.about, one.size) for one in outstanding.inbox]
    return inbox, outstanding.missing(), outstanding.answers, outstanding.received, outstanding.unasked


@pytest.mark.parametrize("answer", [transition(1), transition(1, rewards=b"", terminations=b"", truncations=b"")])
def test_the_short_way_leads_where_the_long_one_does(answer: Any) -> None:
    short, long = session(None, None), session(None, None)
    frame = pack_server(answer)
    read_server(frame)  # from the second time on it is read by what is remembered of the first
    assert Delivery(short).take_usual(frame)
    thread = Delivery(long)
    assert [thread.take(one) for one in thread.messages(frame)] == [True]
    assert state(short) == state(long)
    assert len(short.outstanding.inbox) == 1


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"no message",
        *map(
            pack_server,
            [
                transition(2),
                transition(7),
                transition(1, [0]),
                transition(1, failures=[Failure(0, FailureKind.RAISED, "E", "e", "")]),
                transition(3),
                Returned(1, None, [b"", b"", b""]),
                Refused(1, "", ""),
                Attached(1, 1.0),
                Lost("FENCED"),
                Bundle([pack_server(transition(1))]),
                Fragment(b"x", False, 10),
            ],
        ),
    ],
)
def test_what_is_not_usual_is_left_as_it_is(frame: bytes) -> None:
    """A request for some, or answered in part; an answer to nothing; whatever is no whole answer without failures."""
    protocol = session(None, [0, 1], None)
    assert protocol.outstanding.take(transition(3, [0]), 1)
    before = state(protocol)
    assert not Delivery(protocol).take_usual(frame)
    assert state(protocol) == before


@pytest.mark.parametrize("why", ["closing", "detached", "in pieces"])
def test_there_is_a_time_without_answers(why: str) -> None:
    protocol = session(None)
    delivery = Delivery(protocol)
    if why == "closing":
        protocol.close(0.0)
    elif why == "detached":
        protocol.ended(CarrierEnded("cut"), 0.0)
    else:
        assert list(delivery.messages(pack_server(Fragment(b"x", False, 10)))) == []
    frame = pack_server(transition(1))
    assert not delivery.take_usual(frame)
    if why == "in pieces":
        with pytest.raises(ProtocolError):
            list(delivery.messages(frame))
    else:
        (message,) = delivery.messages(frame)
        assert delivery.take(message) is (False if why == "closing" else None)
    assert protocol.outstanding.missing() == [(1, None)]


def test_frames_are_counted_with_the_next_answer() -> None:
    protocol = session(None, None)
    delivery = Delivery(protocol)
    attached, frame = pack_server(Attached(1, 1.0)), pack_server(transition(1))
    (message,) = delivery.messages(attached)
    assert delivery.take(message) is None
    assert delivery.take_usual(frame)
    assert delivery.take_usual(pack_server(transition(2)))
    sizes = [one.size - MESSAGE_BYTES for one in protocol.outstanding.inbox]
    assert sizes == [len(attached) + len(frame), len(frame)]


def test_no_two_frames_share_a_buffer() -> None:
    first, second = landing(4), landing(4)
    second[:] = bytes(4)
    first[:] = b"1234"
    assert bytes(second) == bytes(4) and not first.readonly


def test_the_load_is_taken_note_of_and_is_no_answer() -> None:
    protocol = session(None)
    delivery = Delivery(protocol)
    frame = pack_server(Load(2, 64, 0.001, 0.01, 0.02, 0.03))
    assert not delivery.take_usual(frame), "it is the thread's to read"
    assert [delivery.take(one) for one in delivery.messages(frame)] == [False]
    assert protocol.outstanding.load == Load(2, 64, 0.001, 0.01, 0.02, 0.03)
    assert not protocol.outstanding.inbox and protocol.outstanding.missing() == [(1, None)]
    assert delivery.take_usual(pack_server(transition(1)))


def test_the_load_has_its_place_and_its_measure() -> None:
    new = SessionProtocol(asked(), "fake:1", 1.0, 5.0)
    new.began(0.0)
    assert Delivery(new).take(Load(1, 1)) is None, "no session is open"
    delivery = Delivery(session(None))
    for _ in range(SPARE_ANSWERS):
        assert delivery.take(Load(1, 1)) is False
    with pytest.raises(ProtocolError, match="tells its load again and again"):
        delivery.take(Load(1, 1))
