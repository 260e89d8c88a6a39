"""What a session decides, without threads, sockets and clocks."""

from __future__ import annotations

from typing import Any

import pytest
from faking import asked, opened, transition

from remote_gym import ConnectError, ProtocolError, RefusedError, SessionLost
from remote_gym.client.carriers.carrier import CarrierEnded, End
from remote_gym.client.carriers.fake import FakeDialer
from remote_gym.client.session import living
from remote_gym.client.session.outstanding import ANSWERS, SPARE_ANSWERS
from remote_gym.client.session.pace import MAX_UNHEARD
from remote_gym.client.session.protocol import Phase, SessionProtocol
from remote_gym.client.session.reader import Reader
from remote_gym.messages import Attach, Attached, Close, Closed, Draining, Lost, Open, Opened, Refused
from remote_gym.wire.codec import read_client

CUT = CarrierEnded("cut")


def attached(highest: int) -> Attached:
    return Attached(highest, 300.0)


class Recorded:
    """A carrier that keeps what it is given, or is interrupted by the first frame."""

    def __init__(self, interrupted: bool = False) -> None:
        self.frames: list[bytes] = []
        self.interrupted = interrupted

    def send(self, frame: bytes) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.frames.append(frame)


class Played:
    """A protocol, opened, and its time."""

    def __init__(self, reconnect_timeout: float = 5.0, opens: bool = True, prompt: bool = False) -> None:
        self.now = 100.0
        self.protocol = SessionProtocol(asked(), "fake:1", 1.0, reconnect_timeout, prompt)
        if opens:
            self.begin()
            self.arrive(opened())

    def begin(self) -> Any:
        return read_client(self.protocol.began(self.now))

    def arrive(self, message: Any) -> bool:
        """Do what the reader does; return whether it was an answer that is in the inbox now."""
        if type(message) in ANSWERS and self.protocol.phase is Phase.ATTACHED:
            return not self.protocol.closing and self.protocol.outstanding.take(message, 10)
        self.protocol.arrived(message, self.now)
        return False

    def end(self, ended: CarrierEnded = CUT) -> None:
        self.protocol.ended(ended, self.now)

    def ask(self, number: int, indices: Any = None) -> None:
        self.protocol.outstanding.add(number, indices, b"%d" % number, f"about {number}")

    def outgoing(self) -> list[bytes]:
        """Return what a carrier is given now."""
        carrier = Recorded()
        self.flush(carrier)
        return carrier.frames

    def flush(self, carrier: Any) -> None:
        """Give a carrier what it is to carry, as the reader does."""
        reader = Reader(self.protocol, FakeDialer(), "fake:1", 1.0)
        living.readers.discard(reader)
        reader._carrier = carrier
        reader.flush()


def test_a_request_goes_out_once() -> None:
    play = Played()
    play.ask(1)
    play.ask(2)
    assert play.outgoing() == [b"1", b"2"]
    assert play.outgoing() == []


def test_what_the_carrier_may_not_have_is_offered_again() -> None:
    play = Played()
    play.ask(1)
    with pytest.raises(KeyboardInterrupt):
        play.flush(Recorded(interrupted=True))
    assert play.outgoing() == [b"1"]


def test_an_answer_is_outstanding_or_in_the_inbox_until_it_is_popped() -> None:
    play = Played()
    play.ask(1)
    outstanding = play.protocol.outstanding
    assert outstanding and not outstanding.inbox
    assert play.arrive(transition(1))
    assert outstanding and outstanding.inbox[0].about == "about 1" and outstanding.unread_bytes > 10
    outstanding.inbox.popleft()
    assert not outstanding and outstanding.unread_bytes == 0


def test_an_answer_comes_once_however_often_it_is_sent() -> None:
    play = Played()
    play.ask(1)
    assert play.arrive(transition(1, [0, 1]))
    assert not play.arrive(transition(1, [1]))
    assert play.arrive(transition(1, [2]))
    assert not play.arrive(transition(1))
    assert [arrival.answer.indices for arrival in play.protocol.outstanding.inbox] == [[0, 1], [2]]


def test_a_flood_of_answers_that_nobody_waits_for_ends() -> None:
    play = Played()
    play.ask(1)
    assert [play.arrive(transition(1)) for _ in range(2 * 3 + SPARE_ANSWERS + 1)].count(True) == 1
    with pytest.raises(ProtocolError, match="more answers"):
        play.arrive(transition(1))
    assert len(play.protocol.outstanding.inbox) == 1


def test_a_new_carrier_asks_for_what_is_not_here_and_brings_what_never_arrived() -> None:
    play = Played()
    for number in (1, 2, 3):
        play.ask(number)
    play.outgoing()
    play.arrive(transition(1))
    play.arrive(transition(2, [0]))
    play.end()
    assert play.protocol.phase is Phase.DETACHED and play.protocol.needs_carrier
    play.ask(4)
    assert play.outgoing() == [], "nobody carries it"
    attach = play.begin()
    assert isinstance(attach, Attach)
    assert attach.missing == [(2, [1, 2]), (3, None), (4, None)], "not what waits in the inbox"
    assert play.outgoing() == []
    play.arrive(attached(2))
    assert play.outgoing() == [b"3", b"4"]


def test_nobody_attaches_for_nothing() -> None:
    play = Played()
    play.end()
    assert not play.protocol.needs_carrier
    play.protocol.awaited = True
    assert play.protocol.needs_carrier
    play.protocol.awaited = False
    play.ask(1)
    assert play.protocol.needs_carrier


def test_attempts_come_at_once_and_then_ever_more_rarely() -> None:
    play = Played()
    play.ask(1)
    play.now += 2.0
    waits = []
    for _ in range(6):
        play.end()
        waits.append(play.protocol.not_before - play.now)
        play.begin()
    assert waits[0] == 0.0 and waits[1] <= 0.075 and 0.2 <= waits[5] <= 0.6


def test_patience_runs_only_while_somebody_waits_without_a_carrier() -> None:
    play = Played(reconnect_timeout=5.0)
    play.ask(1)
    play.protocol.waited(1_000.0)
    assert play.protocol.lost is None and play.protocol.wait_limit is None, "it was carried"
    play.end()
    play.now += 1_000.0
    assert play.protocol.wait_limit == 5.0, "nobody waited"
    play.protocol.waited(4.0)
    play.begin()
    play.arrive(attached(1))
    play.end()
    assert play.protocol.wait_limit == 5.0, "it was taken back"
    play.protocol.waited(3.0)
    assert play.protocol.lost is None
    play.protocol.waited(3.0)
    assert isinstance(play.protocol.lost, SessionLost) and play.protocol.lost.reason == "UNREACHABLE"
    assert "5 s: cut" in str(play.protocol.lost) and play.protocol.over


def test_a_prompt_session_looks_for_its_server_whether_somebody_waits_or_not() -> None:
    play = Played(prompt=True)
    play.end()
    assert play.protocol.needs_carrier and play.protocol.lost is None
    play.begin()
    play.arrive(attached(0))
    play.now += 100.0
    play.end()
    for _ in range(4):
        play.begin()
        play.now += 1.2
        assert play.protocol.lost is None
        play.end()
    play.begin()
    play.now += 1.2
    play.end()
    assert isinstance(play.protocol.lost, SessionLost) and play.protocol.lost.reason == "UNREACHABLE"


def test_the_time_of_a_prompt_session_runs_from_when_its_server_was_heard() -> None:
    play = Played(prompt=True)
    play.end(CarrierEnded("the server has sent nothing for 3 s", silent_seconds=3.0))
    assert play.protocol.patience == 2.0
    play.protocol.waited(100.0, play.now + 1.5)  # while it was attached
    assert play.protocol.lost is None and play.protocol.wait_limit == 0.5
    play.begin()
    play.now += 2.5
    play.end()
    assert isinstance(play.protocol.lost, SessionLost)


def given_up(prompt: bool = True) -> Played:
    """Return a session that was given up just now."""
    play = Played(prompt=prompt)
    play.ask(1)
    play.end()
    play.now += 10.0
    play.begin()
    play.end()
    if not prompt:
        play.protocol.waited(10.0, play.now)
    assert isinstance(play.protocol.lost, SessionLost)
    return play


def test_what_was_given_up_is_closed_when_its_server_is_seen_again() -> None:
    play = given_up()
    assert play.protocol.needs_carrier and not play.protocol.over
    play.protocol.close(play.now)
    play.now += 30.0
    attach = play.begin()
    assert isinstance(attach, Attach) and not attach.missing, "what it was asked is made up for"
    play.arrive(attached(0))
    assert [read_client(frame) for frame in play.outgoing()] == [Close()], "and never asked for again"
    play.arrive(Closed())
    assert play.protocol.over


@pytest.mark.parametrize("message", [Lost("SERVER_RESTARTED"), Lost("EXPIRED"), Closed()])
def test_what_was_given_up_may_be_gone(message: Any) -> None:
    play = given_up()
    play.begin()
    if isinstance(message, Closed):
        play.arrive(attached(0))
        play.outgoing()
    play.arrive(message)
    assert play.protocol.over and "UNREACHABLE" in str(play.protocol.lost), "what it was lost by"


def test_what_was_given_up_is_looked_for_until_the_lease_has_ended() -> None:
    play = given_up()
    for _ in range(3):
        play.now += 100.0
        play.begin()
        play.end()
        assert not play.protocol.over and play.protocol.not_before > play.now + 0.5
    play.now += 100.0
    play.begin()
    play.end()
    assert play.protocol.over


@pytest.mark.parametrize("end", [End.STRANGER, End.FOREIGN, End.MISUNDERSTOOD])
def test_somebody_else_is_there_instead(end: End) -> None:
    play = given_up()
    play.begin()
    play.end(CarrierEnded("who are you?", end))
    assert play.protocol.over


def test_only_a_prompt_session_is_looked_for_after_that() -> None:
    assert given_up(prompt=False).protocol.over


def test_a_server_says_that_it_is_going_away() -> None:
    play = Played()
    assert not play.protocol.draining
    play.arrive(Draining(30.0))
    assert play.protocol.draining and play.protocol.lost is None
    play.end()
    play.begin()
    play.arrive(attached(0))
    play.arrive(Draining(20.0))
    with pytest.raises(ProtocolError, match="Draining twice"):
        play.arrive(Draining(10.0))


def test_a_fork_stops_the_time_of_a_prompt_session() -> None:
    play = Played(prompt=True)
    play.end()
    play.now += 100.0  # nobody has looked for the server: there was no thread
    play.protocol.awoke(play.now)
    play.begin()
    play.end()
    assert play.protocol.lost is None
    play.begin()
    play.arrive(attached(0))
    assert play.protocol.phase is Phase.ATTACHED


def test_who_is_taken_back_only_to_be_cut_again_loses_patience() -> None:
    play = Played(reconnect_timeout=5.0)
    play.ask(1)
    for _ in range(100):
        play.end()
        play.protocol.waited(0.2)
        if play.protocol.over:
            break
        play.begin()
        play.arrive(attached(1))
    assert isinstance(play.protocol.lost, SessionLost)


def test_without_patience_one_attempt_is_made() -> None:
    play = Played(reconnect_timeout=0.0)
    play.end()
    play.protocol.waited(0.01)
    assert not play.protocol.over
    play.protocol.waited(0.1)
    assert play.protocol.over


def test_a_late_attempt_of_our_own_may_fence_us_and_nobody_else() -> None:
    play = Played()
    play.ask(1)
    play.end()
    for _ in range(MAX_UNHEARD + 2):
        play.begin()
        play.end()  # not answered: the server may hear of it later
    for _ in range(MAX_UNHEARD):
        play.begin()
        play.arrive(attached(1))
        with pytest.raises(CarrierEnded):
            play.arrive(Lost("FENCED"))
        play.end()
    play.begin()
    play.arrive(attached(1))
    play.arrive(Lost("FENCED"))
    assert isinstance(play.protocol.lost, SessionLost) and play.protocol.lost.reason == "FENCED"


@pytest.mark.parametrize("phase", ["attached", "attaching"])
def test_a_session_that_is_gone_is_lost(phase: str) -> None:
    play = Played()
    if phase == "attaching":
        play.end()
        play.begin()
    play.arrive(Lost("EXPIRED", "no stream"))
    assert isinstance(play.protocol.lost, SessionLost) and play.protocol.lost.reason == "EXPIRED"


@pytest.mark.parametrize("message", [opened(), attached(0), Closed()])
def test_what_has_no_place_within_a_session(message: Any) -> None:
    with pytest.raises(ProtocolError, match="in the middle"):
        Played().arrive(message)


@pytest.mark.parametrize("message", [opened(), transition(1), Closed(), attached(2)])
def test_what_is_no_answer_to_attach(message: Any) -> None:
    play = Played()
    play.ask(1)
    play.end()
    play.begin()
    with pytest.raises(ProtocolError):
        play.arrive(message)


@pytest.mark.parametrize(("end", "kind"), [(End.MISUNDERSTOOD, ProtocolError), (End.OVERSIZE, RefusedError)])
def test_ends_that_another_carrier_would_meet_too(end: End, kind: type[Exception]) -> None:
    play = Played()
    play.end(CarrierEnded("no", end))
    assert isinstance(play.protocol.lost, kind)


@pytest.mark.parametrize("attaching", [False, True])
def test_who_is_known_no_longer_does_not_try_again(attaching: bool) -> None:
    play = Played()
    if attaching:
        play.end()
        play.now += 1.0
        play.begin()
    play.end(CarrierEnded("the token of 'alice' was revoked", End.STRANGER))
    assert isinstance(play.protocol.lost, SessionLost) and play.protocol.lost.reason == "REVOKED"
    assert "the token of 'alice' was revoked" in str(play.protocol.lost)
    assert play.protocol.over


# Opening


def test_all_attempts_to_open_have_one_nonce() -> None:
    play = Played(opens=False)
    first = play.begin()
    play.end()
    second = play.begin()
    assert isinstance(first, Open) and first.nonce == second.nonce and len(first.nonce) == 16
    play.arrive(opened())
    assert play.protocol.opened is not None


def test_opening_is_given_up_after_the_timeout() -> None:
    play = Played(opens=False)
    play.begin()
    play.end()
    assert play.protocol.lost is None
    play.now += 0.9
    play.begin()
    play.end()
    play.now += 0.9
    play.begin()
    play.end()
    assert isinstance(play.protocol.lost, ConnectError) and "cut" in str(play.protocol.lost)


def test_a_build_that_takes_long_does_not_count() -> None:
    play = Played(opens=False)
    for _ in range(5):
        play.begin()
        play.now += 50.0
        play.end()
    assert play.protocol.lost is None


@pytest.mark.parametrize("end", [End.FOREIGN, End.MISUNDERSTOOD, End.OTHER, End.OVERSIZE, End.STRANGER])
def test_who_cannot_open_is_not_asked_again(end: End) -> None:
    play = Played(opens=False)
    play.begin()
    play.end(CarrierEnded("no", end))
    assert play.protocol.lost is not None


def test_who_is_not_known_is_refused() -> None:
    play = Played(opens=False)
    play.begin()
    play.end(CarrierEnded("no token", End.STRANGER))
    assert isinstance(play.protocol.lost, RefusedError) and play.protocol.lost.limit == "authentication"
    assert "no token" in str(play.protocol.lost)


def test_a_refusal_to_open() -> None:
    play = Played(opens=False)
    play.begin()
    play.arrive(Refused(0, "max_envs", "full"))
    assert isinstance(play.protocol.lost, RefusedError)


# Closing


def test_close_follows_what_was_sent_and_ends_with_closed() -> None:
    play = Played()
    play.ask(1)
    play.outgoing()
    play.protocol.close(play.now)
    assert [read_client(frame) for frame in play.outgoing()] == [Close()]
    assert not play.arrive(transition(1)) and not play.protocol.over
    play.arrive(Closed())
    assert play.protocol.over and play.protocol.lost is None


def test_close_follows_open() -> None:
    play = Played(opens=False)
    play.begin()
    play.protocol.close(play.now)
    assert [read_client(frame) for frame in play.outgoing()] == [Close()]
    play.arrive(opened())
    assert play.outgoing() == [] and not play.protocol.over
    play.arrive(Closed())
    assert play.protocol.over


def test_close_follows_open_again_if_the_carrier_ends() -> None:
    play = Played(opens=False)
    first = play.begin()
    play.protocol.close(play.now)
    play.outgoing()
    play.end()
    again = play.begin()
    assert isinstance(again, Open) and isinstance(first, Open) and again.nonce == first.nonce
    assert [read_client(frame) for frame in play.outgoing()] == [Close()]


def test_who_never_spoke_has_nothing_to_close() -> None:
    play = Played(opens=False)
    play.protocol.close(play.now)
    assert play.protocol.over


def test_a_session_without_a_carrier_is_attached_to_be_closed() -> None:
    play = Played()
    play.end()
    play.protocol.close(play.now)
    assert play.protocol.needs_carrier and play.protocol.not_before <= play.now and play.outgoing() == []
    assert isinstance(play.begin(), Attach)
    play.arrive(attached(0))
    assert [read_client(frame) for frame in play.outgoing()] == [Close()]


def test_who_cannot_be_reached_is_left_to_the_lease() -> None:
    play = Played()
    play.protocol.close(play.now)
    play.end()
    assert not play.protocol.over
    play.now += 1.5
    play.end()
    assert play.protocol.over


@pytest.mark.parametrize("message", [Lost("CLOSED"), Closed()])
def test_closed_twice_is_closed(message: Any) -> None:
    play = Played()
    play.protocol.close(play.now)
    play.arrive(message)
    assert play.protocol.over


def test_opened_is_checked() -> None:
    play = Played(opens=False)
    play.begin()
    with pytest.raises(ProtocolError):
        play.arrive(Opened(1, b"", b"", b"", 1.0, *[opened().observation_space] * 2, "", b"", None, [0, 1, 2]))
