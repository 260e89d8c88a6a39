"""Server process, no I/O: bytes as a connection brings them -> frames. Accounts for what it holds of the next one."""

from __future__ import annotations

from collections.abc import Iterator

from remote_gym.server.holdings import LIMIT, Holdings
from remote_gym.server.refusals import RefusalError
from remote_gym.wire.direct import HEADER, MAX_CONTROL_BYTES, check_length
from remote_gym.wire.limits import MAX_MESSAGE_BYTES

COUNTED_BYTES = 65_536
"""Less is not counted: what connections hold without being asked is bounded by their number."""


class Frames:
    """The frames of one connection, in order; the first is a greeting."""

    def __init__(self, holdings: Holdings) -> None:
        """Begin with nothing."""
        self._holdings = holdings
        self._partial = bytearray()  # of a frame that is not whole: its header and what has come of it
        self._counted = 0
        self._greeted = False

    def feed(self, data: memoryview) -> Iterator[bytes]:
        """Yield the frames that are whole with `data`, which may be used again afterwards.

        Raises:
            ProtocolError: One is longer than any may be.
            RefusalError: The server holds too many unfinished messages.
        """
        partial = self._partial
        while data:
            if not partial and len(data) >= HEADER.size:  # the usual case: it is all here
                end = HEADER.size + self._length(data)
                if end <= len(data):
                    self._greeted = True
                    yield bytes(data[HEADER.size : end])
                    data = data[end:]
                    continue
            missing = self._missing()
            partial += data[:missing]
            data = data[missing:]
            if len(partial) >= HEADER.size and not self._missing():
                frame = bytes(memoryview(partial)[HEADER.size :])
                self._partial = partial = bytearray()
                self._count(0)
                self._greeted = True
                yield frame
        self._count(len(partial) if len(partial) > COUNTED_BYTES else 0)

    def _length(self, data: memoryview | bytearray) -> int:
        (length,) = HEADER.unpack_from(data)
        return check_length(length, MAX_MESSAGE_BYTES if self._greeted else MAX_CONTROL_BYTES)

    def _missing(self) -> int:
        """Return how many bytes the partial frame lacks, as far as that is known."""
        have = len(self._partial)
        return HEADER.size - have if have < HEADER.size else HEADER.size + self._length(self._partial) - have

    def _count(self, held: int) -> None:
        more = held - self._counted
        if more < 0:
            self._holdings.give("fragments", -more)
        elif more and not self._holdings.take("fragments", more, self._counted):
            raise RefusalError(
                LIMIT, f"the server holds {self._holdings.limit_bytes:,} bytes of unfinished messages: try later"
            )
        self._counted = held

    def close(self) -> None:
        """Give back what is held; may be called twice."""
        self._partial = bytearray()
        self._count(0)
