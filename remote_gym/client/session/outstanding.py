"""Trainer process, no I/O: requests that are not wholly answered. What a client misses when its carrier breaks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from remote_gym.errors import ProtocolError
from remote_gym.messages import Failure, Indices, Refused, Returned, Transition, every

Answer = Transition | Returned | Refused


@dataclass
class _Sent:
    """A request: its bytes, to be sent again if the server never got them."""

    data: bytes
    indices: Sequence[int] | None
    missing: set[int] | None  # None until a first part has been answered
    about: Any  # the asker's note


class Outstanding:
    """Requests by number. Guarantees: `expects` accepts each part of an answer until it is taken, and not after.

    One thread may add while another, the reader, takes and asks what is missing: a request exists once `highest` says
    so, and every read of more than one of them is of a copy.
    """

    def __init__(self, num_envs: int) -> None:
        """Begin with nothing outstanding."""
        self._every = range(num_envs)
        self.highest = 0  # of all numbers ever added
        self._sent: dict[int, _Sent] = {}

    def add(self, number: int, indices: Indices, data: bytes, about: Any = None) -> None:
        """Note that a request is made; `data` are its bytes, and `about` comes back with its answers."""
        self._sent[number] = _Sent(data, indices, None, about)
        self.highest = number  # last: an interrupt before it means that nothing was asked

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self._sent)

    def expects(self, answer: Answer) -> bool:
        """Return whether `answer` is waited for; False if it was taken before.

        Raises:
            ProtocolError: It answers what was never asked, or names env indices that its request did not.
        """
        sent = self._sent.get(answer.number)
        if sent is None:
            if answer.number > self.highest:
                raise ProtocolError(f"an answer to request {answer.number}, the last one was {self.highest}")
            return False
        if isinstance(answer, Refused):
            self._check_failures([] if answer.failure is None else [answer.failure], self._every)
            return True
        if answer.indices is not None or sent.indices is not None:
            self._check_indices(answer.indices, sent)
        if answer.failures:
            self._check_failures(answer.failures, every(answer.indices, len(self._every)))
        if sent.missing is None:
            return True
        return set(self._every if answer.indices is None else answer.indices) <= sent.missing

    def _check_indices(self, indices: Indices, sent: _Sent) -> None:
        named, asked = every(indices, len(self._every)), every(sent.indices, len(self._every))
        distinct = set(named)
        if len(distinct) != len(named) or not distinct.issubset(asked):
            raise ProtocolError("an answer for environments that its request did not name, or for one twice")

    @staticmethod
    def _check_failures(failures: Sequence[Failure], indices: Sequence[int]) -> None:
        # Not that they are distinct: two things may have gone wrong in one environment.
        if not {failure.index for failure in failures}.issubset(indices):
            raise ProtocolError("a failure of an environment that the answer is not for")

    def about(self, number: int) -> Any:
        """Return what the asker of a request noted; None if nothing is outstanding of it."""
        sent = self._sent.get(number)
        return None if sent is None else sent.about

    def take(self, answer: Answer) -> None:
        """Take note that `answer` is here; it will not come again."""
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
            for number, sent in list(self._sent.items())
        ]

    def above(self, highest: int) -> Iterator[tuple[int, bytes]]:
        """Yield number and bytes of what a server whose highest number is `highest` never got, in order."""
        for number in range(highest + 1, self.highest + 1):
            if (sent := self._sent.get(number)) is not None:
                yield number, sent.data
