"""A session and its thread, on a fake carrier."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from faking import ADDRESS, asked, close_session, open_session, opened, step, transition
from gymnasium.error import ClosedEnvironmentError
from helpers import wait_until

from remote_gym import ConnectError, ProtocolError, RefusedError, SessionLost, failpoints
from remote_gym.client.carriers.fake import FakeCarrier, FakeDialer
from remote_gym.client.session import living, reader
from remote_gym.client.session.outstanding import Answer
from remote_gym.client.session.session import Session
from remote_gym.messages import Attach, Attached, Bundle, Close, Closed, Fragment, Lost, Open, Refused, Step
from remote_gym.wire.codec import pack_server


@pytest.fixture
def dialer() -> Iterator[FakeDialer]:
    before = set(living.readers)
    yield FakeDialer()
    failpoints.disarm()
    for left in set(living.readers) - before:
        left.protocol.lose(RuntimeError("the test has ended"))
        left.abort()


def test_one_thread_and_no_more(dialer: FakeDialer) -> None:
    before = set(threading.enumerate())
    session, carrier = open_session(dialer)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["remote_gym session"]
    close_session(session, carrier)
    assert set(threading.enumerate()) <= before and dialer.closed and carrier.closed


def test_an_answer_stays_until_it_is_taken(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session, about="mine")
    assert isinstance(carrier.sent(), Step)
    carrier.bring(transition(1))
    answer = receive(session, 5.0)
    assert receive(session, 5.0) is answer and session.waiting
    assert session.unread()[0].about == "mine"
    session.took(answer)
    assert not session.waiting
    with pytest.raises(TimeoutError):
        receive(session, 0.01)
    close_session(session, carrier)


def receive(session: Session, timeout: float | None = None) -> Answer:
    return session.wait(timeout).answer


def ask_and_receive(session: Session, carrier: FakeCarrier) -> None:
    step(session)
    carrier.bring(transition(1))
    receive(session, 5.0)


@pytest.mark.parametrize("point", ["client.answer.received", "client.request.sent", "client.request.send"])
def test_an_interrupt_leaves_the_inbox_whole(dialer: FakeDialer, point: str) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    session, carrier = open_session(dialer)
    failpoints.arm(point, interrupt, every=None)
    with pytest.raises(KeyboardInterrupt):
        ask_and_receive(session, carrier)
    if point == "client.request.send":
        assert session.highest == 0 and not session.waiting, "nothing was asked"
        step(session)
    if point != "client.answer.received":
        carrier.bring(transition(1))
    session.took(receive(session, 5.0))
    assert isinstance(carrier.sent(), Step) and carrier.silent, "it was sent once"
    close_session(session, carrier)


def test_an_interrupt_between_making_and_sending_is_made_up_for(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    session._protocol.outstanding.add(1, None, b"\x1a\x02\x08\x01")
    with pytest.raises(TimeoutError):
        receive(session, 0.01)
    assert carrier.sent().number == 1  # type: ignore[union-attr]


def test_a_doubt_about_what_was_sent_is_settled_by_attaching(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    session._reader._in_doubt = True  # an interrupt within `send`
    step(session)
    again = dialer.next()
    assert carrier.silent and isinstance(again.sent(), Attach)
    again.bring(Attached(0, 1.0))
    assert isinstance(again.sent(), Step)
    close_session(session, again)


def test_a_broken_carrier_is_replaced(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session, [0])
    step(session, [1, 2])
    carrier.bring(transition(1, [0]))
    carrier.end()
    again = dialer.next()
    attach = again.sent()
    assert isinstance(attach, Attach) and attach.missing == [(2, [1, 2])]
    again.bring(Attached(1, 1.0))
    request = again.sent()
    assert isinstance(request, Step) and request.number == 2
    again.bring(transition(2, [1, 2]))
    for number in (1, 2):
        answer = receive(session, 5.0)
        assert answer.number == number
        session.took(answer)
    close_session(session, again)


def test_nobody_attaches_until_it_is_needed(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    carrier.end()
    wait_until(lambda: carrier.closed)
    assert dialer._begun.empty()
    step(session)
    again = dialer.next()
    again.sent()
    again.bring(Attached(0, 1.0))
    close_session(session, again)


def test_a_timeout_holds_while_nobody_is_there(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    dialer.refuses = True
    carrier.end()
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        receive(session, 0.05)
    assert time.monotonic() - began < 1.0
    dialer.refuses = False
    again = dialer.next()
    again.bring(Attached(1, 1.0), transition(1))
    assert receive(session, 5.0).number == 1


def test_patience_ends(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer, reconnect_timeout=0.2)
    step(session)
    dialer.refuses = True
    carrier.end()
    wait_until(lambda: dialer.refused > 3)
    time.sleep(0.3)  # longer than it is: nobody waits
    session.check()
    with pytest.raises(SessionLost, match="UNREACHABLE"):
        receive(session)
    with pytest.raises(SessionLost):
        step(session)
    session.close()
    assert dialer.closed


def test_what_came_before_a_loss_is_read_first(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    carrier.bring(transition(1), Lost("EXPIRED"))
    wait_until(lambda: session._protocol.over)
    answer = receive(session)
    session.took(answer)
    with pytest.raises(SessionLost, match="EXPIRED"):
        receive(session)


@pytest.mark.parametrize("answer", [b"\xff", Closed(), transition(2), Fragment(b"1", True, 5)])
def test_what_cannot_be_read_ends_the_session(dialer: FakeDialer, answer: bytes) -> None:
    session, carrier = open_session(dialer)
    step(session)
    carrier.bring(answer)
    with pytest.raises(ProtocolError, match="fake"):
        receive(session, 5.0)
    wait_until(lambda: carrier.closed)


def test_what_a_caller_cannot_read_ends_it_too(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    carrier.bring(transition(1))
    receive(session, 5.0)
    assert isinstance(session.misread(KeyError("x")), ProtocolError)
    with pytest.raises(ProtocolError):
        receive(session, 5.0)
    wait_until(lambda: carrier.closed)


def test_bundles_are_opened(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    carrier.bring(Bundle([pack_server(transition(1, [index])) for index in (2, 0, 1)]))
    for index in (2, 0, 1):
        answer = receive(session, 5.0)
        assert answer.indices == [index]  # type: ignore[union-attr]
        session.took(answer)
    close_session(session, carrier)


def test_unread_answers_are_bounded(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_UNREAD_BYTES", 10_000)
    monkeypatch.setattr(reader, "TEND_SECONDS", 0.01)
    session, carrier = open_session(dialer, num_envs=20)
    step(session)
    carrier.bring(*(transition(1, [index], observations=[bytes(2_000)]) for index in range(20)))
    wait_until(lambda: session._reader.wants_room)
    assert carrier.taken < 8
    wait_until(lambda: carrier.tended > 2)  # the server must not take us for dead
    for index in range(20):
        answer = receive(session, 5.0)
        assert answer.indices == [index]  # type: ignore[union-attr]
        session.took(answer)
    close_session(session, carrier)


# Opening and closing


def test_who_cannot_be_reached(dialer: FakeDialer) -> None:
    dialer.unreachable = ConnectError("fake:1", "no answer")
    with pytest.raises(ConnectError):
        Session(ADDRESS, asked(), 1.0, 1.0, dialer)
    assert dialer.closed


def test_who_is_refused(dialer: FakeDialer) -> None:
    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(Session, ADDRESS, asked(), 1.0, 1.0, dialer)
        dialer.next().bring(Refused(0, "max_envs", "full"))
        with pytest.raises(RefusedError, match="full"):
            opening.result(timeout=5.0)
    assert dialer.closed


def test_an_interrupt_while_it_opens_takes_the_session_along(
    dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        carrier.append(dialer.next())
        assert isinstance(carrier[0].sent(), Open)
        threading.Timer(0.05, carrier[0].bring, [opened(), Closed()]).start()
        raise KeyboardInterrupt

    carrier: list = []  # type: ignore[type-arg]
    monkeypatch.setattr("remote_gym.client.session.session.wait_for", interrupt)
    with pytest.raises(KeyboardInterrupt):
        Session(ADDRESS, asked(), 1.0, 1.0, dialer)
    assert isinstance(carrier[0].sent(), Close) and dialer.closed


def test_closing_ends_a_wait(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(receive, session)
        wait_until(lambda: session._protocol.awaited)
        close_session(session, carrier)
        with pytest.raises(ClosedEnvironmentError):
            waiting.result(timeout=5.0)
    session.close()


def test_closing_an_interrupted_close_goes_on(dialer: FakeDialer) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    session, carrier = open_session(dialer)
    failpoints.arm("client.close.sent", interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.close()
    assert isinstance(carrier.sent(), Close)
    carrier.bring(Closed())
    wait_until(lambda: dialer.closed)
    session.close()


def test_closing_a_silent_server_is_bounded(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "CLOSE_TIMEOUT_SECONDS", 0.1)
    session, carrier = open_session(dialer)
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 2.0 and carrier.closed and dialer.closed


def test_closing_without_a_server_is_soon_over(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    dialer.refuses = True
    carrier.end()
    began = time.monotonic()
    session.close()
    assert time.monotonic() - began < 3.0 and dialer.closed


def test_who_forgets_to_close(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    carrier.bring(Closed())
    threading.Timer(0.0, lambda: None).start()
    with pytest.raises(ProtocolError):
        receive(session, 5.0)
    session, carrier = open_session(dialer)
    threading.Timer(0.1, carrier.bring, [Closed()]).start()
    del session
    gc.collect()
    assert isinstance(carrier.sent(), Close)
    wait_until(lambda: carrier.closed)


def test_the_end_of_the_interpreter_closes_what_is_left(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    threading.Timer(0.1, carrier.bring, [Closed()]).start()
    living.close_all([session._reader])
    assert isinstance(carrier.sent(), Close) and dialer.closed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_no_thread_is_there_during_a_fork(dialer: FakeDialer) -> None:
    session, carrier = open_session(dialer)
    step(session)
    thread = session._reader._thread
    assert thread is not None
    pid = os.fork()
    if pid == 0:
        try:
            receive(session, 1.0)
        except Exception as error:
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(1)
    assert not thread.is_alive() and carrier.closed
    assert os.waitpid(pid, 0)[1] == 0
    with pytest.raises(TimeoutError):
        receive(session, 0.01)
    again = dialer.next()
    assert isinstance(again.sent(), Attach)
    again.bring(Attached(1, 1.0), transition(1))
    assert receive(session, 5.0).number == 1
    close_session(session, again)


def test_who_starts_a_thread_holds_no_lock_meanwhile(dialer: FakeDialer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the new thread, before `start` returns, the garbage collector may close a session, which takes the lock."""
    session, _ = open_session(dialer)
    session._reader.pause()
    session._reader.join(5.0)
    start, free = threading.Thread.start, []

    def look() -> None:
        free.append(living.lock.acquire(timeout=5.0))
        living.lock.release()

    def started(thread: threading.Thread) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with ThreadPoolExecutor(1) as other:
                other.submit(look).result()
            start(thread)

    monkeypatch.setattr(threading.Thread, "start", started)
    session._reader.start()
    assert free == [True]
