"""A caller reads a direct connection in the receiver's stead: that goes on waiting, and nothing is lost or late."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from direct_peer import WAIT_SECONDS, Link, peer, tls_peer
from striking import Interrupted

from remote_gym.client.carriers import direct, liveness
from remote_gym.client.carriers import turn as turns
from remote_gym.client.carriers.carrier import CarrierEnded
from remote_gym.client.carriers.connecting import Patience, connect
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.client.carriers.waiting import _Selected
from remote_gym.errors import ProtocolError
from remote_gym.wire.direct import HEADER, LAST, PING, Ended, framed, pack_ended

AWAITED = [1]


def landing(size: int) -> memoryview:
    return memoryview(bytearray(size))


class Received:
    """A carrier with a thread that receives, as a session has one, and the test as the caller.

    Attributes:
        carrier: It.
        frames: What the thread has received.
        ended: How it ended; None while it goes on.
        taken: What the caller has taken.
    """

    def __init__(self, carrier: DirectCarrier) -> None:
        self.carrier = carrier
        self.frames: list[bytes] = []
        self.ended: Exception | None = None
        self.taken: list[bytes] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.wait_until_idle()

    def _run(self) -> None:
        try:
            while True:
                frame = self.carrier.receive(landing)
                self.frames.append(bytes(frame))
        except (CarrierEnded, ProtocolError) as ended:
            self.carrier.close()
            self.ended = ended

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def wait_until_idle(self) -> None:
        """Return when the thread waits for the socket."""

        def idle() -> bool:
            if not self.carrier._turn.try_to_take():
                return False
            called = self.carrier._readiness.poll(0.0)
            self.carrier._turn.release()
            return not called

        self.wait_until(lambda: self.carrier._receiving and idle())

    def stand_in(
        self, ask: bytes = b"", seconds: float | None = None, take: Callable[[Any], bool] | None = None
    ) -> bool:
        """Stand in; only then ask, so that the thread cannot be first. Takes what comes, unless told otherwise."""
        lent = self.carrier._lent
        assert lent is not None
        poll = lent.poll

        def asking(milliseconds: float) -> Any:
            lent.poll = poll
            self.carrier.send(ask)
            return poll(milliseconds)

        def keep(frame: Any) -> bool:
            self.taken.append(bytes(frame))
            return True

        if ask:
            lent.poll = asking
        try:
            return self.carrier.stand_in(landing, AWAITED, take or keep, seconds)
        finally:
            lent.poll = poll

    def close(self) -> None:
        self.carrier.close()
        self._thread.join(WAIT_SECONDS)
        assert not self._thread.is_alive()


Begin = Callable[[Callable[[Link], object]], Received]


@pytest.fixture(params=["tls", "plain"])
def begin(request: Any) -> Iterator[Begin]:
    """Connect to a peer that runs a script after the greetings, and receive."""
    with contextlib.ExitStack() as stack:

        def start(script: Callable[[Link], object]) -> Received:
            def run(link: Link) -> None:
                link.greet()
                script(link)

            running = stack.enter_context((tls_peer if request.param == "tls" else peer)(run))
            received = Received(connect(running.address, Patience(time.monotonic() + WAIT_SECONDS)))
            stack.callback(received.close)
            return received

        yield start


def echo(link: Link) -> None:
    while True:
        link.answer(link.frame())


@pytest.mark.parametrize("size", [1, 20_000, 3_000_000])
def test_the_caller_reads_and_the_thread_is_not_woken(begin: Begin, size: int) -> None:
    def script(link: Link) -> None:
        while True:
            link.answer(link.frame() * size)

    received = begin(script)
    for number in range(10):
        received.wait_until_idle()
        assert received.stand_in(bytes([number]))
        assert received.taken.pop() == bytes([number]) * size
    assert received.frames == []


def test_afterwards_the_thread_receives_again(begin: Begin) -> None:
    received = begin(echo)
    for number in range(20):
        if number % 2:
            received.wait_until_idle()
            assert received.stand_in(b"%d" % number)
        else:
            received.carrier.send(b"%d" % number)
            received.wait_until(lambda number=number: received.frames[-1:] == [b"%d" % number])  # type: ignore[misc]
    assert received.taken == [b"%d" % number for number in range(1, 20, 2)]
    assert received.frames == [b"%d" % number for number in range(0, 20, 2)]


def test_what_is_not_taken_is_received(begin: Begin) -> None:
    received = begin(echo)
    assert not received.stand_in(b"unusual", take=lambda frame: False)
    received.wait_until(lambda: received.frames == [b"unusual"])


def test_what_comes_behind_is_received(begin: Begin) -> None:
    """Also what is in the stash, or in OpenSSL, of which the socket tells nothing."""
    received = begin(lambda link: (link.frame(), link.answer(b"1", b"2", b"3" * 60_000), link.wait_for_end()))
    assert received.stand_in(b"go on")
    received.wait_until(lambda: len(received.frames) == 2)
    assert received.taken == [b"1"] and received.frames == [b"2", b"3" * 60_000]


def test_half_a_frame_is_waited_for(begin: Begin) -> None:
    def script(link: Link) -> None:
        link.frame()
        for byte in framed(b"bit by bit"):
            link.say(bytes([byte]))
        link.wait_for_end()

    received = begin(script)
    assert received.stand_in(b"go on")
    assert received.taken == [b"bit by bit"]


def test_nobody_stands_in_while_the_thread_reads(begin: Begin) -> None:
    dealing, done = threading.Event(), threading.Event()
    received = begin(echo)
    received.frames = Slow(dealing, done)
    received.carrier.send(b"to deal with")
    assert dealing.wait(WAIT_SECONDS)
    assert not received.stand_in()
    done.set()


class Slow(list[bytes]):
    """Frames of which each is dealt with until somebody says so."""

    def __init__(self, dealing: threading.Event, done: threading.Event) -> None:
        super().__init__()
        self._dealing, self._done = dealing, done

    def append(self, frame: bytes) -> None:
        self._dealing.set()
        self._done.wait(WAIT_SECONDS)
        super().append(frame)


def test_nobody_waits_for_what_has_come(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread may have brought it just before it went to wait again."""
    monkeypatch.setattr(direct, "STAND_IN_SECONDS", WAIT_SECONDS)
    received = begin(echo)
    began = time.monotonic()
    assert not received.carrier.stand_in(landing, [], lambda frame: True, None)
    assert time.monotonic() - began < WAIT_SECONDS / 2


@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_a_wait_ends(begin: Begin, seconds: float) -> None:
    received = begin(echo)
    began = time.monotonic()
    assert not received.stand_in(seconds=seconds)
    assert time.monotonic() - began >= seconds
    received.carrier.send(b"later")
    received.wait_until(lambda: received.frames == [b"later"])


def test_a_wait_ends_though_there_is_always_something_to_read(begin: Begin) -> None:
    """A server that answers pings that nobody has sent, for ever, keeps nobody beyond the time it has."""

    def script(link: Link) -> None:
        link.frame()
        while True:
            link.say(PING * 10_000)

    received = begin(script)
    began = time.monotonic()
    assert not received.stand_in(b"go on", seconds=0.2)
    assert time.monotonic() - began < WAIT_SECONDS / 2


def test_no_wait_is_long(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "STAND_IN_SECONDS", 0.05)
    received = begin(echo)
    assert not received.stand_in()
    assert not received.stand_in(seconds=3_600.0)


def in_a_moment(do: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(0.05, do)
    timer.start()
    return timer


@pytest.mark.parametrize("how", ["call", "close"])
def test_a_word_or_the_end_lets_the_caller_go(begin: Begin, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    monkeypatch.setattr(direct, "STAND_IN_SECONDS", WAIT_SECONDS)
    received = begin(echo)
    began = time.monotonic()
    timer = in_a_moment(getattr(received.carrier, how))
    assert not received.stand_in()
    assert time.monotonic() - began < WAIT_SECONDS / 2
    timer.join()
    if how == "close":
        received.wait_until(lambda: received.ended is not None)
        assert received.carrier._socket.fileno() == -1
        assert not received.stand_in()
        received.carrier.call()
    else:
        received.wait_until_idle()
        assert received.stand_in(b"on we go")


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (b"", "ended"),
        (HEADER.pack(5) + b"half", "ended"),
        (pack_ended(Ended(14, "so it goes")), "so it goes"),
    ],
)
def test_how_it_ends_is_the_threads_to_say(begin: Begin, said: bytes, says: str) -> None:
    received = begin(lambda link: (link.frame(), link.say(said)))
    assert not received.stand_in(b"go on")
    received.wait_until(lambda: received.ended is not None)
    assert says in str(received.ended) and received.taken == []


def test_what_is_no_frame_is_the_threads_to_say(begin: Begin) -> None:
    received = begin(lambda link: (link.frame(), link.say(HEADER.pack(LAST - 1)), link.wait_for_end()))
    assert not received.stand_in(b"go on")
    received.wait_until(lambda: received.ended is not None)
    assert isinstance(received.ended, ProtocolError)


def test_the_thread_pings_while_a_caller_stands_in(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PING_SECONDS", 0.1)
    monkeypatch.setattr(direct, "STAND_IN_SECONDS", WAIT_SECONDS)
    pinged = threading.Event()

    def script(link: Link) -> None:
        while link.frame():
            pass
        pinged.set()
        link.wait_for_end()

    received = begin(script)
    assert not received.stand_in(b"whatever")
    assert pinged.wait(WAIT_SECONDS)


def test_who_never_lets_go_ends_it(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a second interrupt strikes where the first is dealt with."""
    monkeypatch.setattr(turns, "LEAVE_SECONDS", 0.05)
    received = begin(echo)
    received.carrier._turn.take()
    received.carrier.send(b"read me")
    received.wait_until(lambda: received.ended is not None)
    assert "interrupted" in str(received.ended)
    assert received.carrier._socket.fileno() == -1
    assert not received.stand_in()


@pytest.mark.parametrize("error", [Interrupted, TimeoutError, ValueError])
def test_an_interrupt_while_waiting_changes_nothing(begin: Begin, error: type[BaseException]) -> None:
    """A signal's handler may raise what it likes, and the caller gets that."""
    received = begin(echo)
    lent = received.carrier._lent
    assert lent is not None
    poll = lent.poll

    def interrupted(_: float) -> Any:
        raise error

    lent.poll = interrupted
    with pytest.raises(error):
        received.stand_in()
    lent.poll = poll
    received.wait_until_idle()
    assert received.stand_in(b"on we go")
    assert received.taken == [b"on we go"] and received.ended is None


@pytest.mark.parametrize("taken", [False, True])
def test_an_interrupt_while_reading_ends_it(begin: Begin, taken: bool) -> None:
    received = begin(echo)

    def interrupted(frame: Any) -> bool:
        if taken:
            received.taken.append(bytes(frame))
        raise Interrupted

    with pytest.raises(Interrupted):
        received.stand_in(b"read me", take=interrupted)
    received.wait_until(lambda: received.ended is not None)
    assert "interrupted" in str(received.ended) and received.frames == []
    assert not received.stand_in()


def test_where_the_system_lends_nothing_nobody_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "readiness", _Selected)
    with peer(lambda link: (link.greet(), echo(link))) as running:
        carrier = connect(running.address, Patience(time.monotonic() + WAIT_SECONDS))
        try:
            carrier.send(b"as ever")
            assert not carrier.stand_in(landing, AWAITED, lambda frame: True, None)
            assert carrier.receive(landing) == b"as ever"
        finally:
            carrier.close()
