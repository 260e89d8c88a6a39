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

A principal may have a limit of its own within the server's, of each kind again; of that, nothing is over.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal

from remote_gym.messages import Refused
from remote_gym.server.ledger import Ledger
from remote_gym.texts import printable
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
        limit: The limit's name.
    """

    limit = LIMIT

    def __init__(self, limit_bytes: int, on_free: Callable[[int], None] = lambda _size: None) -> None:
        """Hold nothing yet; `on_free` is called with how many bytes are free again."""
        self.limit_bytes = limit_bytes
        self._on_free = on_free
        self.bytes: dict[Kind, int] = {"kwargs": 0, "fragments": 0, "results": 0}
        self._droppable: OrderedDict[tuple[StoredResults, int], None] = OrderedDict()  # sent, oldest first

    def without_room(self, kind: Kind, size: int, own: int = 0) -> Holdings | None:
        """Return whose limit is too low for `size` more bytes of `kind`; None: there is room.

        Args:
            kind: Of what.
            size: Bytes.
            own: Bytes already held of the very same item, which comes in pieces.
        """
        held = self.bytes[kind]
        return self if held + size > self.limit_bytes and held - own > self.limit_bytes // 2 else None

    def without_room_for_result(self, size: int) -> Holdings | None:
        """The same for a result that is to be stored whole."""
        return self if size > LARGEST * self.limit_bytes else self.without_room("results", size)

    def said(self, kind: Kind, size: int) -> str:
        """Return what is said to whom `size` more bytes of `kind` are refused; "of results", say, may follow."""
        return f"the server holds {self.limit_bytes:,} bytes"

    def take(self, kind: Kind, size: int) -> None:
        """Count `size` more bytes of `kind`, for which there is room."""
        self.bytes[kind] += size

    def give(self, kind: Kind, size: int) -> None:
        """Take note that `size` bytes of `kind` are free again."""
        self.bytes[kind] -= size
        self._on_free(size)

    def may_drop(self, results: StoredResults, number: int) -> None:
        """Take note that the result of request `number` was sent, and may be dropped when room is needed."""
        self._droppable[results, number] = None

    def forget(self, results: StoredResults, number: int) -> None:
        """Take note that it is there no more."""
        self._droppable.pop((results, number), None)

    def drop_results(self, room: int) -> None:
        """Drop results that were sent, the oldest first, until `room` bytes more are within the limit."""
        while self._droppable and self.bytes["results"] + room > self.limit_bytes:
            (results, number), _ = self._droppable.popitem(last=False)
            results.drop(number, self)


class PrincipalHoldings(Holdings):
    """The bytes held for one principal, which are among the server's."""

    limit = "principal_bytes"

    def __init__(self, whole: Holdings, name: str, limit_bytes: int | None) -> None:
        """Hold nothing yet, of the bytes of `whole`, for `name`, who may have so many; None: no limit of its own."""
        super().__init__(sys.maxsize if limit_bytes is None else limit_bytes)
        self._whole = whole
        self._name = printable(name)

    def without_room(self, kind: Kind, size: int, own: int = 0) -> Holdings | None:
        """Return whose limit is too low, the principal's or the server's; the principal's has no exceptions."""
        return self if self.bytes[kind] + size > self.limit_bytes else self._whole.without_room(kind, size, own)

    def without_room_for_result(self, size: int) -> Holdings | None:
        """The same for a result that is to be stored whole."""
        own = self.without_room("results", size)
        return own if own is self else self._whole.without_room_for_result(size)

    def said(self, kind: Kind, size: int) -> str:
        """Return what is said to whom `size` more bytes of `kind` are refused; 0: they are dropped."""
        asked = f"asked for {size:,} bytes and " if size else ""
        return f"{self._name} {asked}has {self.bytes[kind]:,} of its limit of {self.limit_bytes:,} bytes"

    def take(self, kind: Kind, size: int) -> None:
        """Count `size` more bytes of `kind`, for which there is room."""
        super().take(kind, size)
        self._whole.take(kind, size)

    def give(self, kind: Kind, size: int) -> None:
        """Take note that `size` bytes of `kind` are free again."""
        super().give(kind, size)
        self._whole.give(kind, size)

    def may_drop(self, results: StoredResults, number: int) -> None:
        """Take note that a result was sent, and may be dropped when the principal or the server needs the room."""
        super().may_drop(results, number)
        self._whole.may_drop(results, number)

    def forget(self, results: StoredResults, number: int) -> None:
        """Take note that it is there no more."""
        super().forget(results, number)
        self._whole.forget(results, number)

    def drop_results(self, room: int) -> None:
        """Drop what was sent, the principal's own first, until `room` bytes more are within both limits."""
        super().drop_results(room)
        self._whole.drop_results(room)


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
        if self._holdings.without_room_for_result(size) is not None:
            return False
        self._holdings.take("results", size)
        self.frames[number] = frame
        return True

    def number_of(self, frame: bytes) -> int:
        """Return the number of the request that `frame`, the very object, answers, if it is counted here; else 0."""
        return next((number for number, stored in self.frames.items() if stored is frame), 0)

    def sent(self, number: int) -> None:
        """Take note that a result is on its way: it may be dropped when room is needed, at once if that is now."""
        if number in self.frames:
            self._holdings.may_drop(self, number)
            self._holdings.drop_results(0)

    def drop(self, number: int, to_make_room: Holdings) -> None:
        """Put a refusal in the place of a result that was sent; a client that never got it is told."""
        frame = self.frames[number]
        self._forget(number)
        gone = f"the result of {len(frame):,} bytes was sent once and is gone"
        self._ledger.replace(number, _refusal(number, gone, to_make_room))

    def refusal(self, number: int, size: int) -> bytes:
        """Return the answer that stands for a result of `size` bytes that cannot be kept; its operation has run."""
        full = self._holdings.without_room_for_result(size) or self._holdings
        return _refusal(number, f"the result of {size:,} bytes was dropped", full, size)

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
        self._holdings.forget(self, number)


def _refusal(number: int, what: str, full: Holdings, size: int = 0) -> bytes:
    text = f"{what}: {full.said('results', size)} of results for its clients; ask fewer environments at once, or again"
    return pack_server(Refused(number, full.limit, text))
