"""The direct carrier over real TLS: frames whole and in order, or an end that says why."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from direct_peer import WAIT_SECONDS, Link, peer, tls_peer
from striking import Interrupted, Striking

from remote_gym.client.carriers import direct, incoming, liveness
from remote_gym.client.carriers.carrier import CarrierEnded, Dialer, End
from remote_gym.client.carriers.connecting import Patience, connect
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.errors import ProtocolError
from remote_gym.wire.direct import HEADER, LAST, PING, Ended, framed, pack_ended
from remote_gym.wire.limits import MAX_MESSAGE_BYTES

Begin = Callable[..., DirectCarrier]


def landing(size: int) -> memoryview:
    return memoryview(bytearray(size))


@pytest.fixture(params=["tls", "plain"])
def begin(request: Any) -> Iterator[Begin]:
    """Connect to a peer that runs a script after the greetings."""
    with contextlib.ExitStack() as stack:

        def start(script: Callable[[Link], object]) -> DirectCarrier:
            def run(link: Link) -> None:
                link.greet()
                script(link)

            running = stack.enter_context((tls_peer if request.param == "tls" else peer)(run))
            carrier = connect(running.address, Patience(time.monotonic() + WAIT_SECONDS))
            stack.callback(carrier.close)
            return carrier

        yield start


def echo(link: Link) -> None:
    while True:
        link.answer(link.frame())


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("size", [1, 100, 16_384, 70_000, 300_000, 5_000_000])
def test_frames_go_there_and_back(begin: Begin, size: int) -> None:
    carrier = begin(echo)
    for number in range(3):
        frame = bytes([number]) + os.urandom(size - 1)
        carrier.send(frame)
        got = carrier.receive(landing)
        assert got == frame
        assert isinstance(got, bytes) or not got.readonly


def test_a_frame_lies_where_the_landing_says(begin: Begin) -> None:
    carrier = begin(echo)
    taken = []

    def land(size: int) -> memoryview:
        taken.append(bytearray(size))
        return memoryview(taken[-1])

    for size in (3, 200_000):  # what one read has brought is no landing's
        carrier.send(bytes(size))
        got = carrier.receive(land)
        assert len(got) == size
        assert not taken or (isinstance(got, memoryview) and got.obj is taken[-1])
    assert [len(one) for one in taken] == [200_000]


def test_many_frames_in_one_segment(begin: Begin) -> None:
    frames = [bytes([n % 256]) * n for n in range(1, 400)]
    carrier = begin(lambda link: (link.answer(*frames), link.wait_for_end()))
    assert [bytes(carrier.receive(landing)) for _ in frames] == frames


def test_segments_of_one_byte(begin: Begin) -> None:
    frames = [b"a", b"bcd", b"e" * 50]

    def script(link: Link) -> None:
        for byte in b"".join(map(framed, frames)):
            link.say(bytes([byte]))
        link.wait_for_end()

    carrier = begin(script)
    assert [bytes(carrier.receive(landing)) for _ in frames] == frames


@pytest.mark.parametrize("cut", range(len(framed(b"12345")) * 2))
def test_an_end_at_every_byte(begin: Begin, cut: int) -> None:
    data = framed(b"12345") * 2
    carrier = begin(lambda link: link.say(data[:cut]))
    for _ in range(cut // 9):
        assert carrier.receive(landing) == b"12345"
    for _ in range(2):  # it stays ended
        with pytest.raises(CarrierEnded) as ended:
            carrier.receive(landing)
        assert ended.value.end is End.BROKEN


@pytest.mark.parametrize(("code", "end"), [
    (14, End.BROKEN), (13, End.BROKEN), (12, End.FOREIGN), (3, End.MISUNDERSTOOD), (8, End.OVERSIZE), (7, End.OTHER),
    (99, End.OTHER),
])  # fmt: skip
def test_the_last_frame_says_how_it_ended(begin: Begin, code: int, end: End) -> None:
    carrier = begin(lambda link: link.say(framed(b"first") + pack_ended(Ended(code, "because"))))
    assert carrier.receive(landing) == b"first"
    with pytest.raises(CarrierEnded, match="because") as ended:
        carrier.receive(landing)
    assert ended.value.end is end


def test_a_last_frame_that_is_cut_is_a_broken_connection(begin: Begin) -> None:
    carrier = begin(lambda link: link.say(pack_ended(Ended(3, "because"))[:-1]))
    with pytest.raises(CarrierEnded) as ended:
        carrier.receive(landing)
    assert ended.value.end is End.BROKEN


@pytest.mark.parametrize("length", [MAX_MESSAGE_BYTES + 1, LAST - 1, LAST | 4_097, LAST | (LAST - 1)])
def test_lengths_are_checked_before_memory_is_taken(begin: Begin, length: int) -> None:
    carrier = begin(lambda link: link.say(HEADER.pack(length)))

    def land(size: int) -> memoryview:
        raise AssertionError("it must not land")

    with pytest.raises(ProtocolError):
        carrier.receive(land)


@pytest.mark.parametrize("said", [LAST, LAST | 3])
def test_a_last_frame_that_says_nothing_readable(begin: Begin, said: int) -> None:
    carrier = begin(lambda link: link.say(HEADER.pack(said) + b"\xff\xff\xff"))
    with pytest.raises((CarrierEnded, ProtocolError)):
        carrier.receive(landing)


# Sending


def test_a_peer_that_does_not_read_delays_nobody(begin: Begin) -> None:
    reading, got = threading.Event(), []
    frames = [os.urandom(size) for size in (15_000_000, 10, 1_000_000, 70_000, 1, 2_000_000)]

    def script(link: Link) -> None:
        assert reading.wait(WAIT_SECONDS)
        got.extend(link.frame() for _ in frames)
        link.answer(b"all")
        link.wait_for_end()

    carrier = begin(script)
    answers: list[bytes] = []
    thread = threading.Thread(target=lambda: answers.append(bytes(carrier.receive(landing))))
    thread.start()
    began = time.monotonic()
    for frame in frames:
        carrier.send(frame)
    assert time.monotonic() - began < 2
    reading.set()
    thread.join(WAIT_SECONDS)
    assert answers == [b"all"]
    assert got == frames


def test_both_sides_full_at_once(begin: Begin) -> None:
    frames = [os.urandom(8_000_000) for _ in range(2)]
    got: list[bytes] = []

    def script(link: Link) -> None:
        writer = threading.Thread(target=lambda: link.answer(*frames))
        if not hasattr(link.connection, "pending"):  # the peer's own TLS is not to be used by two threads
            writer.start()
            got.extend(link.frame() for _ in frames)
            writer.join()
        else:
            link.answer(*frames)
            got.extend(link.frame() for _ in frames)
        link.answer(b"end")
        link.wait_for_end()

    carrier = begin(script)
    for frame in frames:
        carrier.send(frame)
    assert [carrier.receive(landing) for _ in frames] == frames
    assert carrier.receive(landing) == b"end"
    assert got == frames


def test_two_threads_at_once(begin: Begin) -> None:
    carrier = begin(echo)
    frames = [os.urandom(1 + 37 * n % 40_000) for n in range(600)]
    thread = threading.Thread(target=lambda: [carrier.send(frame) for frame in frames])
    thread.start()
    for frame in frames:
        assert carrier.receive(landing) == frame
    thread.join()


def test_nothing_waits_for_what_openssl_has_decrypted(begin: Begin) -> None:
    # A frame and a bit in one record: the rest is in OpenSSL, of which the socket tells nothing.
    first, second = os.urandom(9_000), os.urandom(7_000)
    carrier = begin(lambda link: (link.answer(b"x" * 40_000, first, second), link.wait_for_end()))
    began = time.monotonic()
    assert [carrier.receive(landing) for _ in range(3)] == [b"x" * 40_000, first, second]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("size", [50, 600_000])
def test_an_interrupt_leaves_no_half_frame(begin: Begin, size: int) -> None:
    """Wherever it strikes in `send`: what the peer gets is whole frames, each once, in order."""
    frames = [bytes([n]) * size for n in range(3)]
    for at in range(1, 200):
        got: list[bytes] = []
        done = threading.Event()

        def script(link: Link, got: list[bytes] = got, done: threading.Event = done) -> None:
            try:
                while True:
                    got.append(link.frame())
            finally:
                done.set()

        carrier = begin(script)
        striking = Striking(at, direct.__file__, incoming.__file__, ssl.__file__)
        carrier.send(frames[0])
        with contextlib.suppress(Interrupted):
            sys.settrace(striking.trace)
            try:
                carrier.send(frames[1])
            finally:
                sys.settrace(None)
        carrier.send(frames[2])

        def read(carrier: DirectCarrier = carrier) -> None:
            with contextlib.suppress(CarrierEnded):
                carrier.receive(landing)

        reader = threading.Thread(target=read)
        reader.start()
        wait_until(lambda carrier=carrier: not carrier._outbox or carrier._broken is not None)  # type: ignore[misc]
        carrier.close()
        reader.join(WAIT_SECONDS)
        assert done.wait(WAIT_SECONDS)
        assert got in (frames[:1], [], frames[:2], [frames[0], frames[2]], frames), [one[:1] for one in got]
        if striking.left > 0:
            break
    else:
        raise AssertionError("never without an interrupt")
    assert at > 10


# Silence


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "PING_SECONDS", 0.1)
    monkeypatch.setattr(liveness, "SILENCE_SECONDS", 0.4)


def test_a_ping_when_nothing_comes(begin: Begin, short: None) -> None:
    def script(link: Link) -> None:
        for _ in range(8):
            assert link.frame() == b""
            link.say(PING)
        link.answer(b"still there")
        link.wait_for_end()

    assert begin(script).receive(landing) == b"still there"


def test_a_silent_peer_is_taken_for_dead(begin: Begin, short: None) -> None:
    heard: list[bytes] = []
    carrier = begin(lambda link: heard.append(link.wait_for_end()))
    began = time.monotonic()
    with pytest.raises(CarrierEnded, match="sent nothing") as ended:
        carrier.receive(landing)
    assert ended.value.end is End.BROKEN
    assert 0.35 < time.monotonic() - began < 5
    carrier.close()
    wait_until(lambda: bool(heard))
    assert heard[0] in (PING * 2, PING * 3)


def test_a_peer_that_takes_is_not_dead(begin: Begin, short: None) -> None:
    def script(link: Link) -> None:
        size = HEADER.unpack(link.exactly(4))[0]
        while size:
            size -= len(link.exactly(min(size, 1_000_000)))
            time.sleep(0.02)
        link.answer(b"taken")
        link.wait_for_end()

    carrier = begin(script)
    carrier.send(bytes(40_000_000))
    assert carrier.receive(landing) == b"taken"


def test_who_is_not_read_from_is_pinged_still(begin: Begin, short: None) -> None:
    heard: list[bytes] = []
    carrier = begin(lambda link: heard.append(link.frame()))
    deadline = time.monotonic() + WAIT_SECONDS
    while not heard and time.monotonic() < deadline:
        carrier.tend()
        time.sleep(0.02)
    assert heard == [b""]


# The end


def test_closing_from_another_thread_ends_a_wait(begin: Begin) -> None:
    carrier = begin(lambda link: link.wait_for_end())
    ends: list[CarrierEnded] = []

    def receive() -> None:
        with pytest.raises(CarrierEnded) as ended:
            carrier.receive(landing)
        ends.append(ended.value)

    thread = threading.Thread(target=receive)
    thread.start()
    wait_until(lambda: carrier._receiving)
    time.sleep(0.02)
    began = time.monotonic()
    carrier.close()
    carrier.close()
    thread.join(WAIT_SECONDS)
    assert time.monotonic() - began < 1
    assert ends
    carrier.send(b"nothing happens")
    carrier.tend()
    with pytest.raises(CarrierEnded):
        carrier.receive(landing)


def test_closing_gives_all_descriptors_back_and_tells_the_peer(begin: Begin) -> None:
    ended = threading.Event()

    def script(link: Link) -> None:
        link.wait_for_end()
        ended.set()

    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    carrier = begin(script)
    carrier.close()
    assert ended.wait(WAIT_SECONDS)
    assert carrier._socket.fileno() == -1
    if before:
        # The peer's listener and what its threads still close aside.
        assert len(os.listdir("/proc/self/fd")) <= before + 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forks_child_closes_what_it_inherits_without_a_goodbye(begin: Begin) -> None:
    carrier = begin(echo)
    descriptor = carrier._socket.fileno()
    child = os.fork()
    if child == 0:
        try:
            os.fstat(descriptor)
        except OSError:
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    carrier.send(b"the parent goes on")
    assert carrier.receive(landing) == b"the parent goes on"


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals go to processes only")
def test_signals_disturb_nothing(begin: Begin) -> None:
    carrier = begin(echo)
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.0005):
            signal.pthread_kill(main, signal.SIGUSR1)

    main = threading.get_ident()
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for n in range(80):
            carrier.send(bytes(1_000 * n + 1))
            assert carrier.receive(landing) == bytes(1_000 * n + 1)
    finally:
        stop.set()
        thread.join()
        signal.signal(signal.SIGUSR1, old)


def test_it_is_a_carrier() -> None:
    from remote_gym.client.carriers.carrier import Carrier
    from remote_gym.client.carriers.dialing import DirectDialer

    def carrier(_: Carrier) -> None: ...
    def dialer(_: Dialer) -> None: ...

    if False:
        carrier(DirectCarrier(socket.socket()))
        dialer(DirectDialer(None))  # type: ignore[arg-type]
