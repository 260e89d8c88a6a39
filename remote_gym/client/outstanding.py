"""Trainer process, no I/O: requests that are not wholly answered. What a client misses when its stream breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from remote_gym.batches import Indices, Refused, Returned, Transition

Answer = Transition | Returned | Refused


@dataclass
class _Sent:
    """A request: its bytes, to be sent again if the server never got them."""

    data: bytes
    indices: Sequence[int] | None
    missing: set[int] | None  # None until a first part has been answered


class Outstanding:
    """Requests by number. Guarantees: `expects` accepts each part of an answer until it is taken, and not after."""

    def __init__(self, num_envs: int) -> None:
        """Begin with nothing outstanding."""
        self._every = range(num_envs)
        self.highest = 0  # of all numbers ever added
        self._sent: dict[int, _Sent] = {}

    def add(self, number: int, indices: Indices, data: bytes) -> None:
        """Note that a request is made; `data` are its bytes."""
        self._sent[number] = _Sent(data, indices, None)
        self.highest = number

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self._sent)

    def expects(self, answer: Answer) -> bool:
        """Return whether `answer` is waited for; False if it was taken before."""
        sent = self._sent.get(answer.number)
        if sent is None:
            return False
        if isinstance(answer, Refused) or sent.missing is None:
            return True
        return set(self._every if answer.indices is None else answer.indices) <= sent.missing

    def take(self, answer: Answer) -> None:
        """Take note that `answer` was dealt with; it will not come again."""
        sent = self._sent.get(answer.number)
        if sent is None:
            return
        if isinstance(answer, Refused) or (answer.indices is None and sent.missing is None):
            del self._sent[answer.number]
            return
        missing = set(self._every if sent.indices is None else sent.indices) if sent.missing is None else sent.missing
        missing = missing - set(self._every if answer.indices is None else answer.indices)
        if missing:
            sent.missing = missing
        else:
            del self._sent[answer.number]

    def missing(self) -> list[tuple[int, Indices]]:
        """Return (number, env indices) of all that was not answered."""
        return [
            (number, sent.indices if sent.missing is None else sorted(sent.missing))
            for number, sent in self._sent.items()
        ]

    def above(self, highest: int) -> Iterator[bytes]:
        """Yield the requests that a server whose highest number is `highest` has never got, in order."""
        yield from (sent.data for number, sent in self._sent.items() if number > highest)
