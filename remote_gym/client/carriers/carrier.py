"""Trainer process: what brings a session's frames there and back, as an interface. No I/O here.

A carrier knows nothing of sessions: no numbers, no answers, no retries. It carries whole frames until it ends, and then
says how it ended, once and for all in the words of `End`. `direct` is the quick carrier, `grpc` the one that is always
there, `fake` the one for tests; `dialing` chooses.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

Landing = Callable[[int], memoryview]
"""Called with the bytes of a frame once its header is known; returns the writable buffer, of that size, to read it
into. So who knows what is coming decides where it lands, and nothing is copied."""


class End(Enum):
    """How a carrier ended, as far as that says what to do."""

    BROKEN = "the connection, or the server's end: another carrier may do"
    FOREIGN = "the peer does not know this service"
    MISUNDERSTOOD = "the server could not read what it was sent"
    OVERSIZE = "the server refused a message for its size"
    OTHER = "anything else"


ENDS = {
    1: End.BROKEN,  # CANCELLED
    3: End.MISUNDERSTOOD,  # INVALID_ARGUMENT
    8: End.OVERSIZE,  # RESOURCE_EXHAUSTED
    12: End.FOREIGN,  # UNIMPLEMENTED
    13: End.BROKEN,  # INTERNAL
    14: End.BROKEN,  # UNAVAILABLE
}
"""By the code of a gRPC status, which either carrier may end with; of any other code, `End.OTHER`."""


class CarrierEnded(Exception):
    """A carrier has ended, or could not begin.

    Attributes:
        end: How.
    """

    def __init__(self, detail: str, end: End = End.BROKEN) -> None:
        """Say how, and in `detail` what is known besides."""
        self.end = end
        super().__init__(detail)


class Carrier(Protocol):
    """One connection, or one call, in use.

    Guarantees: frames arrive whole and in order, or it ends. Closing contract: `close` returns at once, may be called
    by any thread and any number of times, and makes a `receive` that waits raise.
    """

    def send(self, frame: bytes) -> None:
        """Queue `frame`; never waits for the peer, and raises nothing: what is wrong, `receive` says."""

    def receive(self, landing: Landing) -> bytes | memoryview:
        """Wait for the next frame and return it; one thread at a time.

        Args:
            landing: Where to put it; it is returned then, and the caller's alone from then on. What a carrier has in a
                buffer of its own already may be returned as bytes instead.

        Raises:
            CarrierEnded: Nothing will come any more.
            ProtocolError: What comes is no frame.
        """

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
