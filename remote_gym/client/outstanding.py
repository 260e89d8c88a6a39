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
    """Requests by number. Guarantees: `take` accepts each part of an answer once, whatever comes twice."""

    def __init__(self, num_envs: int) -> None:
        """Begin with nothing outstanding."""
        self._every = range(num_envs)
        self._sent: dict[int, _Sent] = {}

    def add(self, number: int, indices: Indices, data: bytes) -> None:
        """Note that a request is made; `data` are its bytes."""
        self._sent[number] = _Sent(data, indices, None)

    def take(self, answer: Answer) -> bool:
        """Take note of what `answer` answers; False if that was known already."""
        sent = self._sent.get(answer.number)
        if sent is None:
            return False
        if isinstance(answer, Refused) or (answer.indices is None and sent.missing is None):
            del self._sent[answer.number]
            return True
        if sent.missing is None:
            sent.missing = set(self._every if sent.indices is None else sent.indices)
        covered = set(self._every if answer.indices is None else answer.indices)
        if not covered <= sent.missing:
            return False
        sent.missing -= covered
        if not sent.missing:
            del self._sent[answer.number]
        return True

    def missing(self) -> list[tuple[int, Indices]]:
        """Return (number, env indices) of all that was not answered."""
        return [
            (number, sent.indices if sent.missing is None else sorted(sent.missing))
            for number, sent in self._sent.items()
        ]

    def above(self, highest: int) -> Iterator[bytes]:
        """Yield the requests that a server whose highest number is `highest` has never got, in order."""
        yield from (sent.data for number, sent in self._sent.items() if number > highest)
