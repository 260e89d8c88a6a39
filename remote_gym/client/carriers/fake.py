"""Trainer process: a carrier for tests, without any I/O: the test is the server.

::

    dialer = FakeDialer()
    session = Session(address, Open(1, 1, b"", num_envs=3), 1.0, 1.0, dialer)   # in a thread: it waits for Opened
    carrier = dialer.next()
    assert isinstance(carrier.sent(), Open)
    carrier.bring(Opened(...))
    carrier.end()                                                               # the session attaches with the next one
"""

from __future__ import annotations

import queue
from collections.abc import Sized

from remote_gym.client.carriers.carrier import CarrierEnded, End, Landing, Take
from remote_gym.messages import Bundle, ClientMessage, Fragment, ServerMessage
from remote_gym.wire.codec import pack_server, read_client

WAIT_SECONDS = 10.0
"""How long a test waits for what must happen."""


class FakeCarrier:
    """A `Carrier` whose far end is in the test's hands.

    Attributes:
        closed: Whether the session has closed it.
        taken: How many frames the session has taken.
        tended: How often it was tended.
    """

    def __init__(self) -> None:
        """Begin with nothing on the way."""
        self.closed = False
        self.taken = 0
        self.tended = 0
        self._up: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._down: queue.SimpleQueue[bytes | CarrierEnded] = queue.SimpleQueue()

    def send(self, frame: bytes) -> None:
        """See `Carrier`."""
        self._up.put(frame)

    def receive(self, landing: Landing) -> memoryview:
        """See `Carrier`; reads into the landing, as a socket would."""
        item = self._down.get()
        if isinstance(item, CarrierEnded):
            self._down.put(item)  # it stays ended
            raise item
        self.taken += 1
        buffer = landing(len(item))
        buffer[:] = item
        return buffer

    def stand_in(self, landing: Landing, awaited: Sized, take: Take, seconds: float | None) -> bool:
        """See `Carrier`; knows no such thing."""
        return False

    def call(self) -> None:
        """See `Carrier`; nobody stands in."""

    def tend(self) -> None:
        """See `Carrier`."""
        self.tended += 1

    def close(self) -> None:
        """See `Carrier`."""
        self.closed = True
        self.end("closed")

    # The far end

    def sent(self) -> ClientMessage | Fragment:
        """Return the next message that the session has sent.

        Raises:
            queue.Empty: It has sent none.
        """
        return read_client(self._up.get(timeout=WAIT_SECONDS))

    @property
    def silent(self) -> bool:
        """Whether the session has sent nothing more than was looked at."""
        return self._up.empty()

    def bring(self, *messages: ServerMessage | Fragment | Bundle | bytes) -> None:
        """Let the session receive `messages`."""
        for message in messages:
            self._down.put(message if isinstance(message, bytes) else pack_server(message))

    def end(self, detail: str = "cut", end: End = End.BROKEN) -> None:
        """Let it end, after what was brought."""
        self._down.put(CarrierEnded(detail, end))


class FakeDialer:
    """A `Dialer` of fake carriers.

    Attributes:
        unreachable: What `wait_until_ready` raises; None: nothing.
        refuses: Whether no carrier is to be had.
        refused: How often one was asked for meanwhile.
        interrupted: How often it was interrupted.
        closed: Whether the session has let go of it.
    """

    def __init__(self) -> None:
        """Begin reachable."""
        self.unreachable: Exception | None = None
        self.refuses = False
        self.refused = 0
        self.interrupted = 0
        self.closed = False
        self._begun: queue.SimpleQueue[FakeCarrier] = queue.SimpleQueue()

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """See `Dialer`."""
        if self.unreachable is not None:
            raise self.unreachable

    def begin(self) -> FakeCarrier:
        """See `Dialer`."""
        if self.refuses:
            self.refused += 1
            raise CarrierEnded("refused")
        carrier = FakeCarrier()
        self._begun.put(carrier)
        return carrier

    def interrupt(self) -> None:
        """See `Dialer`."""
        self.interrupted += 1

    def close(self) -> None:
        """See `Dialer`."""
        self.closed = True

    # The far end

    def next(self) -> FakeCarrier:
        """Return the next carrier that the session has begun.

        Raises:
            queue.Empty: It has begun none.
        """
        return self._begun.get(timeout=WAIT_SECONDS)
