"""The one thread of a session, and what callers let it do: flush, close, pause, and an inbox with room."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from faking import ADDRESS, asked, close_session, open_session, opened, step, transition
from helpers import wait_until

from remote_gym import ConnectError, ProtocolError, RemoteGymError
from remote_gym.client.carriers.carrier import CUT_SHORT, CarrierEnded
from remote_gym.client.carriers.fake import FakeDialer
from remote_gym.client.session import living
from remote_gym.client.session import reader as module
from remote_gym.client.session.outstanding import MESSAGE_BYTES
from remote_gym.client.session.protocol import Phase, SessionProtocol
from remote_gym.client.session.reader import Reader
from remote_gym.client.session.session import Session
from remote_gym.messages import Attach, Attached, Bundle, Close, Closed, Fragment, Lost, Open, Reset
from remote_gym.texts import printable
from remote_gym.wire import codec
from remote_gym.wire.codec import pack_client, pack_server, read_client


@pytest.fixture
def dialer() -> Iterator[FakeDialer]:
    before = set(living.readers)
    yield FakeDialer()
    for left in set(living.readers) - before:
        left.protocol.lose(RuntimeError("the test has ended"))  # type: ignore[attr-defined]
        left.abort()  # type: ignore[attr-defined]
        left.join(5.0)
        living.readers.discard(left)


def made(dialer: Any, opens: bool = True) -> Reader:
    """A reader without a thread; its session is open."""
    protocol = SessionProtocol(asked(), "fake:1", 1.0, 5.0)
    if opens:
        protocol.began(0.0)
        protocol.arrived(opened(), 0.0)
    return Reader(protocol, dialer, "fake:1", 1.0)


def let_go(session: Session) -> None:
    """End a session whose server says nothing any more: whoever forgets it would wait for that."""
    session._protocol.lose(RuntimeError("the test has ended"))
    session._reader.abort()


class Strip:
    """A carrier that keeps what it is given, and is interrupted by one frame: before it is there, or after."""

    def __init__(self, strikes_at: int | None = None, arrives: bool = False) -> None:
        self.frames: list[bytes] = []
        self.closed = self.called = 0
        self.strikes_at, self.arrives = strikes_at, arrives

    def send(self, frame: bytes) -> None:
        strikes = self.strikes_at == len(self.frames)
        if strikes:
            self.strikes_at = None
        if not strikes or self.arrives:
            self.frames.append(frame)
        if strikes:
            raise KeyboardInterrupt

    def call(self) -> None:
        self.called += 1

    def close(self) -> None:
        self.closed += 1


def flushing(dialer: FakeDialer, carrier: Strip, *requests: bytes) -> Reader:
    """A reader with this carrier, and requests for it."""
    reader = made(dialer)
    reader._carrier = carrier  # type: ignore[assignment]
    for number, data in enumerate(requests, 1):
        reader.protocol.outstanding.add(number, None, data)
    return reader


# Flush


def test_everything_is_sent_once_and_in_order(dialer: FakeDialer) -> None:
    carrier = Strip()
    reader = flushing(dialer, carrier, b"one", b"two")
    reader.flush()
    reader.flush()
    assert carrier.frames == [b"one", b"two"] and reader.protocol.outstanding.carried == 2


def test_what_was_answered_is_not_sent_again(dialer: FakeDialer) -> None:
    carrier = Strip()
    reader = flushing(dialer, carrier, b"one", b"two", b"three")
    assert reader.protocol.outstanding.take(transition(2), 1)
    reader.flush()
    assert carrier.frames == [b"one", b"three"]


def test_what_is_large_goes_in_pieces(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FRAGMENT_BYTES", 4)
    monkeypatch.setattr(codec, "FRAGMENT_BYTES", 4)
    carrier = Strip()
    flushing(dialer, carrier, b"1234", b"123456789").flush()
    first, *pieces = carrier.frames
    assert first == b"1234"
    fragments = [read_client(piece) for piece in pieces]
    assert [(bytes(one.data), one.last) for one in fragments if isinstance(one, Fragment)] == [
        (b"1234", False), (b"5678", False), (b"9", True),
    ]  # fmt: skip


@pytest.mark.parametrize("attaching", [True, False])
def test_nothing_is_sent_to_a_carrier_that_has_not_the_session(dialer: FakeDialer, attaching: bool) -> None:
    carrier = Strip()
    reader = flushing(dialer, carrier, b"one")
    if attaching:
        reader.protocol.began(0.0)
    else:
        reader.protocol.phase = Phase.DETACHED
    reader.flush()
    assert carrier.frames == [] and reader.protocol.outstanding.carried == 0


def test_without_a_carrier_the_thread_sees_to_it(dialer: FakeDialer) -> None:
    reader = made(dialer)
    reader.protocol.ended(CarrierEnded("cut"), 0.0)
    reader.protocol.outstanding.add(1, None, pack_client(Reset(1)))
    reader.flush()
    carrier = dialer.next()
    assert isinstance(carrier.sent(), Attach)
    carrier.bring(Attached(0, 1.0))
    assert carrier.sent() == Reset(1)


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupt_leaves_a_doubt_that_only_attaching_settles(dialer: FakeDialer, at: int, arrives: bool) -> None:
    carrier = Strip(at, arrives)
    reader = flushing(dialer, carrier, b"one", b"two", b"three")
    with pytest.raises(KeyboardInterrupt):
        reader.flush()
    outstanding = reader.protocol.outstanding
    assert outstanding.carried == at and not carrier.closed
    before = list(carrier.frames)
    reader.flush()
    assert carrier.closed == 1 and carrier.frames == before, "nothing is sent twice"
    reader._in_doubt = False  # as a new carrier begins
    outstanding.carried = int(arrives) + at  # and says what has come
    reader.flush()
    assert carrier.frames == [b"one", b"two", b"three"]


def test_without_an_interrupt_there_is_no_doubt(dialer: FakeDialer) -> None:
    carrier = Strip()
    reader = flushing(dialer, carrier, b"one")
    reader.flush()
    reader.protocol.outstanding.add(2, None, b"two")
    reader.flush()
    assert not carrier.closed and carrier.frames == [b"one", b"two"]


def test_who_closes_says_only_that_and_once_whatever_is_in_doubt(dialer: FakeDialer) -> None:
    carrier = Strip(0)
    reader = flushing(dialer, carrier, b"one")
    with pytest.raises(KeyboardInterrupt):
        reader.flush()
    reader.begin_close()
    reader.begin_close()
    reader.flush()
    assert list(map(read_client, carrier.frames)) == [Close()] and not carrier.closed


def test_a_close_that_is_interrupted_is_said_later(dialer: FakeDialer) -> None:
    carrier = Strip(0)
    reader = flushing(dialer, carrier)
    with pytest.raises(KeyboardInterrupt):
        reader.begin_close()
    assert reader.protocol.closing and not reader.protocol.close_sent
    reader.close()
    assert list(map(read_client, carrier.frames)) == [Close()]


# Start


def test_one_thread_however_often_it_is_started(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    thread = session._reader._thread
    for _ in range(3):
        session._reader.start()
    assert session._reader._thread is thread
    close_session(session, carrier)
    session._reader.start()
    assert session._reader._thread is thread and thread is not None and not thread.is_alive(), "it has ended for good"


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupted_start_is_made_up_for(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        if when == "after":
            start(thread)
        raise KeyboardInterrupt

    reader = made(dialer, opens=False)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            reader.start()
    reader.start()
    assert isinstance(dialer.next().sent(), Open)
    assert dialer._begun.empty(), "a second thread would begin a carrier, too"


def test_a_thread_that_is_not_the_newest_ends_at_once(dialer: FakeDialer) -> None:
    reader = made(dialer, opens=False)
    reader._thread = threading.Thread()
    reader._run()
    assert not reader._running and dialer._begun.empty() and not dialer.closed


def test_an_interpreter_that_ends_starts_no_threads(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_thread: object) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reader = made(dialer)
    reader.start()
    assert dialer.closed and reader not in living.readers


def test_in_a_forked_child_nothing_is_done(dialer: FakeDialer) -> None:
    carrier = Strip()
    reader = flushing(dialer, carrier)
    reader._process = -1
    reader.start()
    reader.begin_close()
    reader.close()
    assert reader._thread is None and carrier.frames == [] and not reader.protocol.closing


# What goes wrong in the thread


@pytest.mark.parametrize(
    "error, kind", [(ConnectError("fake:1", "no answer"), ConnectError), (ValueError("odd"), ProtocolError)]
)
def test_who_cannot_be_reached(dialer: FakeDialer, error: Exception, kind: type[Exception]) -> None:
    dialer.unreachable = error
    reader = made(dialer, opens=False)
    reader.start()
    wait_until(lambda: reader not in living.readers)
    assert isinstance(reader.protocol.lost, kind) and dialer.closed
    reader.bell.wait(None)  # whoever waits is told


def test_a_dialer_that_fails_in_an_unexpected_way(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MemoryError("none left")

    monkeypatch.setattr(dialer, "begin", fail)
    reader = made(dialer, opens=False)
    reader.start()
    wait_until(lambda: reader not in living.readers)
    assert isinstance(reader.protocol.lost, ProtocolError) and "none left" in str(reader.protocol.lost)


@pytest.mark.parametrize(
    "closing, detail, level",
    [(False, "cut \x1b[2J", logging.WARNING), (True, "cut \x1b[2J", logging.DEBUG), (False, CUT_SHORT, logging.INFO)],
)
def test_a_break_is_logged_as_loud_as_it_is_unexpected(
    dialer: FakeDialer, caplog: pytest.LogCaptureFixture, closing: bool, detail: str, level: int
) -> None:
    caplog.set_level(logging.DEBUG, "remote_gym.client")
    session, carrier = open_session(dialer)
    step(session)
    session._protocol.closing = closing
    carrier.end(detail)
    wait_until(lambda: caplog.records)
    assert caplog.records[0].levelno == level
    assert caplog.records[0].getMessage() == f"the connection to fake:1 broke ({printable(detail)}); attaching again"
    if not closing:
        dialer.next().bring(Attached(1, 1.0))
        wait_until(lambda: caplog.records[-1].getMessage() == "attached to fake:1 again")
    let_go(session)


# What comes


def test_frames_are_counted_once_whatever_they_hold(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    step(session)
    bundle = pack_server(Bundle([pack_server(transition(2, [index])) for index in range(2)]))
    single = pack_server(transition(2, [2]))
    carrier.bring(transition(1), bundle)
    carrier.bring(Fragment(single[:5], False, len(single)), Fragment(single[5:], True, len(single)))
    wait_until(lambda: len(session.unread()) == 4)
    _, first, second, third = (arrival.size - MESSAGE_BYTES for arrival in session.unread())
    assert (first, second) == (len(bundle), 0), "of a bundle, the first message counts for all"
    assert third > len(single), "both pieces, with what is around them"
    close_session(session, carrier)


def test_who_closes_takes_no_more_answers(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    session._reader.begin_close()
    carrier.bring(transition(1), Closed())
    wait_until(lambda: dialer.closed)
    assert session.unread() == []


# In the thread's stead


class Lending(Strip):
    """A carrier that lets a caller stand in, and has this answer for it."""

    def __init__(self, *answers: bytes) -> None:
        super().__init__()
        self.answers = list(answers)
        self.waits: list[float | None] = []

    def stand_in(self, landing: Any, awaited: Any, take: Any, seconds: float | None) -> bool:
        self.waits.append(seconds)
        return bool(awaited) and bool(self.answers) and take(self.answers.pop(0))


def test_who_waits_for_one_answer_reads_it(dialer: FakeDialer) -> None:
    carrier = Lending(pack_server(transition(1)))
    reader = flushing(dialer, carrier, b"one")
    reader.stand_in(2.5)
    assert [arrival.answer.number for arrival in reader.protocol.outstanding.inbox] == [1]
    assert carrier.waits == [2.5]


@pytest.mark.parametrize("requests", [0, 2])
def test_who_waits_for_none_or_several_is_woken_by_the_thread(dialer: FakeDialer, requests: int) -> None:
    carrier = Lending(pack_server(transition(1)))
    reader = flushing(dialer, carrier, *[b"request"] * requests)
    reader.stand_in(None)
    assert carrier.waits == []


def test_without_a_carrier_nobody_stands_in(dialer: FakeDialer) -> None:
    reader = made(dialer)
    reader.protocol.outstanding.add(1, None, b"one")
    reader.stand_in(None)
    assert not reader.protocol.outstanding.inbox


def test_who_stands_in_already_is_refused(dialer: FakeDialer) -> None:
    """It would wait for ever for what the call below it waits for."""

    class Struck(Lending):
        def stand_in(self, *_: Any) -> bool:
            with pytest.raises(RemoteGymError, match="only `close` may be called there"):
                reader.stand_in(None)
            return super().stand_in(*_)

    carrier = Struck(pack_server(transition(1)))
    reader = flushing(dialer, carrier, b"one")
    reader.stand_in(2.5)
    assert len(reader.protocol.outstanding.inbox) == 1 and carrier.waits == [2.5]


def test_who_closes_while_it_sends_says_so_behind_that(dialer: FakeDialer) -> None:
    """As a signal's handler may: neither does it wait for itself, nor does Close come within a message."""

    class Struck(Strip):
        def send(self, frame: bytes) -> None:
            reader.close()
            super().send(frame)

    carrier = Struck()
    reader = flushing(dialer, carrier, b"one")
    reader.flush()
    assert carrier.frames == [b"one", pack_client(Close())]


def test_closing_calls_who_stands_in(dialer: FakeDialer) -> None:
    carrier = Lending()
    flushing(dialer, carrier, b"one").begin_close()
    assert carrier.called


# Room


def crowded(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A session whose inbox has room for one answer, and whose server has brought three."""
    monkeypatch.setattr(module, "MAX_UNREAD_BYTES", MESSAGE_BYTES)
    session, carrier = open_session(dialer)
    step(session)
    carrier.bring(*(transition(1, [index]) for index in range(3)))
    wait_until(lambda: session._reader.wants_room)
    return session, carrier


def test_nothing_is_taken_while_there_is_no_room(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    session, carrier = crowded(dialer, monkeypatch)
    assert len(session.unread()) == 1 and carrier.taken == 2  # Opened, and an answer
    for index in range(3):
        answer = session.wait(5.0).answer
        assert answer.indices == [index]
        session.took(answer)
    wait_until(lambda: not session._reader.wants_room)
    close_session(session, carrier)


@pytest.mark.parametrize("how", ["lost", "closed", "paused"])
def test_a_wait_for_room_ends_with_what_it_is_for(
    dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    session, carrier = crowded(dialer, monkeypatch)
    reader = session._reader
    if how == "lost":
        reader.protocol.lose(RemoteGymError("enough"))
        reader.abort()
    elif how == "closed":
        reader.begin_close()
        carrier.bring(Closed())
    else:
        reader.pause()
    reader.join(5.0)
    assert not reader._thread.is_alive() and not reader.wants_room
    assert (reader in living.readers) is (how == "paused")
    let_go(session)


# Pause


def test_a_paused_session_is_whole_and_goes_on_with_its_next_use(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    reader = session._reader
    reader.pause()
    reader.join(5.0)
    assert carrier.closed and reader._thread is not None and not reader._thread.is_alive()
    assert reader.protocol.lost is None and not dialer.closed and reader in living.readers
    reader.flush()
    again = dialer.next()
    attach = again.sent()
    assert isinstance(attach, Attach) and attach.missing == [(1, None)]
    again.bring(Attached(1, 1.0), transition(1))
    session.took(session.wait(5.0).answer)
    close_session(session, again)


def test_who_waits_starts_a_paused_thread_again(dialer: FakeDialer) -> None:
    session, _ = open_session(dialer)
    step(session)
    session._reader.pause()
    session._reader.join(5.0)
    session._reader.waited(0.0)
    assert isinstance(dialer.next().sent(), Attach)
    let_go(session)


def test_an_error_while_it_pauses_is_the_forks_doing(dialer: FakeDialer) -> None:
    reader = made(dialer)
    reader._pausing = True
    reader._fail(ValueError("the channel was closed"))
    assert reader.protocol.lost is None
    reader._pausing = False
    reader._fail(ValueError("odd"))
    assert isinstance(reader.protocol.lost, ProtocolError)


def test_nobody_joins_itself(dialer: FakeDialer) -> None:
    reader = made(dialer)
    reader._thread = threading.current_thread()
    reader.join(5.0)
    reader.close()  # by the garbage collector, in that very thread
    assert reader.protocol.closing


# Close


def test_closing_waits_for_the_servers_word(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    with ThreadPoolExecutor(1) as thread:
        closing = thread.submit(session._reader.close)
        assert isinstance(carrier.sent(), Close)
        assert not closing.done() and not dialer.closed
        carrier.bring(Closed())
        closing.result(timeout=5.0)
    assert dialer.closed and carrier.closed and session._reader not in living.readers
    session._reader.close()


def test_the_deadline_counts_from_where_closing_began(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    session, carrier = open_session(dialer)
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_SECONDS", 0.0)
    session._reader.begin_close()
    monkeypatch.setattr(module, "CLOSE_TIMEOUT_SECONDS", 60.0)
    began = time.monotonic()
    session._reader.close()
    assert time.monotonic() - began < 5.0
    assert carrier.closed and dialer.closed
    with pytest.raises(RemoteGymError, match="did not confirm the end"):
        raise session._protocol.lost  # type: ignore[misc]


def test_closing_before_the_first_answer_leaves_the_thread_to_notice(dialer: FakeDialer) -> None:
    reached = threading.Event()
    dialer.wait_until_ready = lambda _timeout: reached.wait(10.0)  # type: ignore[assignment, method-assign]
    reader = made(dialer, opens=False)
    reader.start()
    reader.close()
    assert reader._thread is not None and reader._thread.is_alive(), "it did not wait"
    reached.set()
    reader.join(5.0)
    assert dialer.closed and dialer._begun.empty(), "the server has never heard of it"


def test_closing_what_never_started_says_nothing(dialer: FakeDialer) -> None:
    reader = made(dialer, opens=False)
    reader.close()
    assert reader.protocol.over and dialer._begun.empty()


def test_closed_just_before_its_carrier_is_used(dialer: FakeDialer) -> None:
    reader = made(dialer, opens=False)
    reader.protocol.lose(RemoteGymError("closed"))
    with pytest.raises(CarrierEnded):
        reader._begin()
    carrier = dialer.next()
    assert carrier.closed and carrier.silent


def test_closing_what_is_lost_asks_nobody(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    carrier.bring(Lost("EXPIRED"))
    wait_until(lambda: dialer.closed)
    session._reader.close()
    assert carrier.silent and session._reader not in living.readers


def test_without_a_thread_nobody_waits_for_ever(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def limited(self: threading.Thread) -> None:
        if self.name == "remote_gym session":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(RemoteGymError, match="a session needs a thread of its own: can't start new thread"):
        Session(ADDRESS, asked(), 1.0, 5.0, dialer)
