"""Trainer process: what brings a session's frames there and back, as an interface. No I/O here.

A carrier knows nothing of sessions: no numbers, no answers, no retries. It carries whole frames until it ends, and then
says how it ended, once and for all in the words of `End`. `direct` is the quick carrier, `grpc` the one that is always
there, `fake` the one for tests; `dialing` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sized
from enum import Enum
from typing import Protocol, Union

Landing = Callable[[int], memoryview]
"""Called with the bytes of a frame once its header is known; returns the writable buffer, of that size, to read it
into. So who knows what is coming decides where it lands, and nothing is copied."""

Take = Callable[[Union[bytes, memoryview]], bool]
"""Called with a frame; returns whether it was dealt with. Else it is received once more, by who always receives."""


class End(Enum):
    """How a carrier ended, as far as that says what to do."""

    BROKEN = "the connection, or the server's end: another carrier may do"
    FOREIGN = "the peer does not know this service"
    MISUNDERSTOOD = "the server could not read what it was sent"
    OVERSIZE = "the server refused a message for its size"
    STRANGER = "the server takes nobody by what we have shown of who we are"
    OTHER = "anything else"


ENDS = {
    1: End.BROKEN,  # CANCELLED
    3: End.MISUNDERSTOOD,  # INVALID_ARGUMENT
    8: End.OVERSIZE,  # RESOURCE_EXHAUSTED
    12: End.FOREIGN,  # UNIMPLEMENTED
    13: End.BROKEN,  # INTERNAL
    14: End.BROKEN,  # UNAVAILABLE
    16: End.STRANGER,  # UNAUTHENTICATED
}
"""By the code of a gRPC status, which either carrier may end with; of any other code, `End.OTHER`."""


CLOSED, CUT_SHORT = "closed", "a caller was interrupted in the middle of a frame"
"""What a carrier says that this side has ended: nothing is wrong with the connection, or the server."""


class CarrierEnded(Exception):
    """A carrier has ended, or could not begin.

    Attributes:
        end: How.
        silent_seconds: For how long the peer had been silent, if that is why.
    """

    def __init__(self, detail: str, end: End = End.BROKEN, silent_seconds: float = 0.0) -> None:
        """Say how, and in `detail` what is known besides."""
        self.end = end
        self.silent_seconds = silent_seconds
        super().__init__(detail)

    @property
    def is_ours(self) -> bool:
        """Whether this side has ended it."""
        return str(self) in (CLOSED, CUT_SHORT)


class Carrier(Protocol):
    """One connection, or one call, in use.

    Guarantees: frames arrive whole and in order, or it ends. Closing contract: `close` returns at once, may be called
    by any thread and any number of times, and makes a `receive` that waits raise.
    """

    def send(self, frame: bytes) -> None:
        """Queue `frame`; never waits for the peer, and raises nothing: what is wrong, `receive` says."""

    def receive(self, landing: Landing) -> bytes | memoryview:
        """Wait for the next frame and return it; one thread, the receiver.

        Args:
            landing: Where to put it; it is returned then, and the caller's alone from then on. What a carrier has in a
                buffer of its own already may be returned as bytes instead.

        Raises:
            CarrierEnded: Nothing will come any more.
            ProtocolError: What comes is no frame.
        """

    def stand_in(self, landing: Landing, awaited: Sized, take: Take, seconds: float | None) -> bool:
        """Receive one frame in the receiver's stead, while that waits; return whether it came and was taken.

        For a caller that would have to be woken by the receiver else. Returns False at once if the receiver does not
        wait, or the carrier knows no such thing, and whenever there is anything else to do than to receive.

        An interrupt, wherever it strikes, loses nothing: either nothing was read, or what was read was taken, or the
        carrier ends, as if the connection had broken.

        Args:
            landing: As for `receive`.
            awaited: Empty if nothing is waited for any more; looked at once the receiver can bring nothing.
            take: Given the frame.
            seconds: The most to wait; None: as long as it is good for.
        """

    def call(self) -> None:
        """Let whoever stands in return soon; by any thread."""

    def tend(self) -> None:
        """Do what `receive` does besides receiving: to be called about once a second while nobody receives for long.

        So a peer whose answers nobody takes does not take us for dead.
        """

    def close(self) -> None:
        """End it now; what was sent may or may not arrive."""


class Dialer(Protocol):
    """Makes the carriers of one session, one after another; used by one thread, but for `interrupt`."""

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Return when the server has answered once.

        Raises:
            ConnectError: It did not in time, or never can; lists the likely causes.
            RefusedError: It takes nobody by what was shown of who we are.
            ProtocolError: It speaks no version of the contract that we do.
            CarrierEnded: It was interrupted.
        """

    def begin(self) -> Carrier:
        """Return a new carrier.

        Raises:
            CarrierEnded: There is none to be had now.
            ProtocolError: The server speaks no version of the contract that we do.
        """

    def interrupt(self) -> None:
        """Let what another thread waits for in here, if anything, end soon: nobody needs it any more."""

    def close(self) -> None:
        """Let go of what carriers share, and return once its threads have ended; may be called twice."""
