"""Server process, no I/O: what is held in memory for clients that may never come for it, and how much that may be.

Three kinds, each with the same limit in bytes:

=========  ==========================================  ========================================  ====================
kind       what                                        how long                                  over the limit
=========  ==========================================  ========================================  ====================
kwargs     a session's packed keyword arguments, for   as long as the session                    Open is refused
           building its environments again
fragments  messages of which the last piece has not    until it comes, or the stream ends        the stream ends
           come
results    of calls and renders, in case the stream    until the environments' next operation    the oldest that
           breaks before they have arrived                                                       were sent are dropped
=========  ==========================================  ========================================  ====================

Observations, rewards and infos are not among them: they are never dropped, and what they take is known when a session
is opened. One item that alone is over the limit is held if there is little else: the limit bounds what many small
clients, or one that does not read, can make a server keep, not what one honest request may be.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from remote_gym.messages import Refused
from remote_gym.server.ledger import Ledger
from remote_gym.wire.codec import pack_server

Kind = Literal["kwargs", "fragments", "results"]

LIMIT = "max_held_bytes"
"""The name of the limit, in refusals."""

COUNTED_BYTES = 4_096
"""Smaller results are not counted: an environment has one at most, and 16,384 of them are the default limit."""

LARGEST = 4
"""How many times the limit one result may be; with the default limit, the frames of 350 CartPoles."""


class Holdings:
    """The bytes held by one server.

    Attributes:
        limit_bytes: Of each kind.
        bytes: Now held, by kind.
    """

    def __init__(self, limit_bytes: int, on_free: Callable[[int], None] = lambda _size: None) -> None:
        """Hold nothing yet; `on_free` is called with how many bytes are free again."""
        self.limit_bytes = limit_bytes
        self._on_free = on_free
        self.bytes: dict[Kind, int] = {"kwargs": 0, "fragments": 0, "results": 0}
        self.droppable: OrderedDict[tuple[StoredResults, int], None] = OrderedDict()  # sent, oldest first

    def take(self, kind: Kind, size: int, own: int = 0) -> bool:
        """Count `size` more bytes of `kind` and return True, unless that is over the limit.

        Args:
            kind: Of what.
            size: Bytes.
            own: Bytes already held of the very same item, which comes in pieces.
        """
        held = self.bytes[kind]
        if held + size > self.limit_bytes and held - own > self.limit_bytes // 2:
            return False
        self.bytes[kind] = held + size
        return True

    def give(self, kind: Kind, size: int) -> None:
        """Take note that `size` bytes of `kind` are free again."""
        self.bytes[kind] -= size
        self._on_free(size)

    def drop_results(self, room: int) -> None:
        """Drop results that were sent, the oldest first, until `room` bytes more are within the limit."""
        while self.droppable and self.bytes["results"] + room > self.limit_bytes:
            (results, number), _ = self.droppable.popitem(last=False)
            results.drop(number)


class StoredResults:
    """What one session's ledger stores of calls and renders. Relies on: the event loop's thread.

    Attributes:
        frames: What is counted, by request number. While it is empty, nothing here need be called for an answer.
    """

    def __init__(self, ledger: Ledger, holdings: Holdings) -> None:
        """Count what `ledger` stores from now on."""
        self._ledger = ledger
        self._holdings = holdings
        self.frames: dict[int, bytes] = {}

    def keep(self, number: int, frame: bytes) -> bool:
        """Count the result `frame` of request `number`, or return False: it cannot be held."""
        size = len(frame)
        if size < COUNTED_BYTES:
            return True
        self._holdings.drop_results(size)
        if size > LARGEST * self._holdings.limit_bytes or not self._holdings.take("results", size):
            return False
        self.frames[number] = frame
        return True

    def number_of(self, frame: bytes) -> int:
        """Return the number of the request that `frame`, the very object, answers, if it is counted here; else 0."""
        return next((number for number, stored in self.frames.items() if stored is frame), 0)

    def sent(self, number: int) -> None:
        """Take note that a result is on its way: it may be dropped when room is needed, at once if that is now."""
        if number in self.frames:
            self._holdings.droppable[self, number] = None
            self._holdings.drop_results(0)

    def drop(self, number: int) -> None:
        """Put a refusal in the place of a result that was sent; a client that never got it is told."""
        frame = self.frames[number]
        self._forget(number)
        gone = f"the result of {len(frame):,} bytes was sent once and is gone"
        self._ledger.replace(number, self.refusal(number, gone))

    def refusal(self, number: int, what: str) -> bytes:
        """Return the answer that stands for the result of request `number`, whose operation has run."""
        limit = f"the server holds {self._holdings.limit_bytes:,} bytes of results for its clients"
        return pack_server(Refused(number, LIMIT, f"{what}: {limit}; ask fewer environments at once, or again"))

    def prune(self) -> None:
        """Forget what the ledger has freed: the environments have been asked for something else since."""
        for number in [number for number in self.frames if not self._ledger.holds(number)]:
            self._forget(number)

    def clear(self) -> None:
        """Forget everything: the session has ended."""
        for number in list(self.frames):
            self._forget(number)

    def _forget(self, number: int) -> None:
        self._holdings.give("results", len(self.frames.pop(number)))
        self._holdings.droppable.pop((self, number), None)
