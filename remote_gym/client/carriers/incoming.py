"""Trainer process, no I/O: the bytes of a direct connection -> its frames, each where it is to lie.

Who reads puts bytes into the stash, in which there may be many small frames, or, once a large one has begun, straight
into the buffer that is to hold it::

    stash    [ taken | start ... end | free ]        frame    [ filled | to come ]
"""

from __future__ import annotations

from remote_gym.client.carriers.carrier import ENDS, CarrierEnded, End, Landing
from remote_gym.errors import ProtocolError
from remote_gym.texts import shortened
from remote_gym.wire.direct import HEADER, LAST, MAX_CONTROL_BYTES, check_length, read_ended
from remote_gym.wire.limits import MAX_MESSAGE_BYTES

STASH_BYTES = 32 * 1024
"""Read at once while no frame has begun: a TLS record has 16 KiB at most, and in it may be many small frames."""


class Incoming:
    """What was read and not taken.

    Attributes:
        stash: Where to read to while no frame has begun.
        start: Where what is in it begins.
        end: Where it ends; whoever has read to there moves it.
        frame: The frame that has begun and is not whole.
        filled: How much of it is there; whoever has read into it moves it.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self.stash = memoryview(bytearray(STASH_BYTES))
        self.start = self.end = 0
        self.frame: memoryview | None = None
        self.filled = 0
        self._returned: bytes | memoryview | None = None

    def room(self) -> memoryview:
        """Return where to read to: the rest of the frame that has begun, else of the stash."""
        if self.frame is not None:
            return self.frame[self.filled :]
        if self.start:  # what is there moves to the front
            left = self.end - self.start
            self.stash[:left] = bytes(self.stash[self.start : self.end])
            self.start, self.end = 0, left
        return self.stash[self.end :]

    def put_back(self, frame: bytes | memoryview) -> None:
        """Let `next` return `frame`, which it has returned last, once more."""
        self._returned = frame

    @property
    def has_more(self) -> bool:
        """Whether there is something that `next` may find."""
        return self.start < self.end or self._returned is not None

    def next(self, landing: Landing) -> bytes | memoryview | None:
        """Return the next frame as far as it was read; None: more is to be read.

        Raises:
            CarrierEnded: It is the last one.
            ProtocolError: It is none.
        """
        if self._returned is not None:
            returned, self._returned = self._returned, None
            return returned
        frame = self.frame
        while frame is None:
            start = self.start
            if self.end - start < HEADER.size:
                return None
            (length,) = HEADER.unpack_from(self.stash, start)
            if length & LAST:
                self._take_last(length ^ LAST)
                return None
            start += HEADER.size
            stop = start + length
            if stop <= self.end:
                self._move(stop)
                if length:
                    return self.stash[start:stop].tobytes()
                continue  # an answer to a ping
            if length > MAX_MESSAGE_BYTES:
                check_length(length)
            self.start = start
            frame = self.frame = landing(length)
            self.filled = 0
        size, filled = len(frame), self.filled
        if (count := min(size - filled, self.end - self.start)) > 0:
            frame[filled : filled + count] = self.stash[self.start : self.start + count]
            self._move(self.start + count)
            filled += count
        if filled < size:
            self.filled = filled
            return None
        self.frame = None
        return frame

    def _move(self, start: int) -> None:
        """Take note that all before `start` was taken; an empty stash begins at its front again."""
        if start == self.end:
            self.start = self.end = 0
        else:
            self.start = start

    def _take_last(self, length: int) -> None:
        """Raise what the last frame says, if it is whole."""
        if length > MAX_CONTROL_BYTES:
            raise ProtocolError(f"the last frame has {length:,} bytes, the most is {MAX_CONTROL_BYTES:,}")
        begin = self.start + HEADER.size
        if self.end - begin >= length:
            ended = read_ended(bytes(self.stash[begin : begin + length]))
            raise CarrierEnded(shortened(ended.detail), ENDS.get(ended.code, End.OTHER))
