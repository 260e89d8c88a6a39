"""Trainer process, no I/O: exactly-once delivery. What was asked and is not here yet; what is here and not read yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from remote_gym.errors import ProtocolError
from remote_gym.messages import Failure, Indices, Load, Refused, Returned, Transition, every

Answer = Transition | Returned | Refused

ANSWERS = frozenset((Transition, Returned, Refused))
"""Their types; nothing is derived from them."""

SPARE_ANSWERS = 64
"""How many more answers than two for each environment one carrier may bring that are not waited for. An honest server
repeats few; one that answers again and again must not keep the reader busy for ever."""

MESSAGE_BYTES = 512
"""Counted for each unread answer besides its own bytes: what Python needs for it."""


@dataclass(slots=True)
class Arrival:
    """An answer that is here.

    Attributes:
        answer: It.
        about: What the asker noted with the request.
        size: Bytes it is counted for.
        seconds: From the request's way to the carrier until the answer was here.
        read: What its reader has made of it; an interrupt before it was popped must not make it twice.
    """

    answer: Answer
    about: Any
    size: int
    seconds: float = 0.0
    read: Any = None


class Sent(Arrival):
    """A request, and the arrival that it becomes if it is answered whole.

    Attributes:
        data: Its bytes, to be sent again if the server never got them.
        indices: The env indices it is for; None: all.
        missing: Those that are not answered; None until some have been.
        began: When it was made, by the performance counter.
    """

    __slots__ = ("began", "data", "indices", "missing")

    def __init__(self, data: bytes, indices: Indices, about: Any) -> None:
        """Begin unanswered."""
        self.data = data
        self.indices = indices
        self.missing: set[int] | None = None
        self.about = about
        self.read = None
        self.began = perf_counter()

    @property
    def left(self) -> Indices:
        """Whose answers are missing."""
        return self.indices if self.missing is None else sorted(self.missing)


class Outstanding:
    """Requests by number, and the inbox. Guarantees: each part of an answer is taken in once.

    One thread, the caller, adds and pops; another one, the reader, takes in and asks what is missing, but for the times
    in which the caller itself takes in, in the reader's stead. A request exists once `highest` says so, every read of
    more than one of them is of a copy, and the deque's own methods are atomic.

    Attributes:
        highest: Of all numbers ever added.
        carried: The highest number that a carrier has brought to the server.
        sent: Requests that are not wholly answered, by number.
        inbox: What has arrived and was not popped yet, the oldest first.
        answers: How many ever were taken in.
        received: Bytes of the answers that ever were taken in; written by the reader.
        popped: Bytes of those that were popped; written by the caller, who may be interrupted before that.
        unasked: How many came, since this was set to 0, that nobody waits for.
        sent_bytes: Of all requests ever made.
        load: What the server has told of itself last; None: nothing.
        reattached: How often a carrier has brought the session back.
    """

    def __init__(self, num_envs: int) -> None:
        """Begin with nothing outstanding."""
        self._every = range(num_envs)
        self.highest = 0
        self.carried = 0
        self.sent: dict[int, Sent] = {}
        self.inbox: deque[Arrival] = deque()
        self.answers = 0
        self.unasked = 0
        self._moving = False  # an answer is on its way from `sent` to `inbox`
        self.received = self.popped = self.sent_bytes = 0
        self.load: Load | None = None
        self.reattached = self._loads = 0

    def add(self, number: int, indices: Indices, data: bytes, about: Any = None) -> None:
        """Make a request: it will be sent, once, and answered; `data` are its bytes, `about` comes with its answers."""
        self.sent[number] = Sent(data, indices, about)
        self.sent_bytes += len(data)
        self.highest = number  # last: an interrupt before it means that nothing was asked

    def take(self, answer: Answer, size: int) -> bool:
        """Take in an answer of `size` bytes; return whether it is in the inbox now, False if it was here before.

        Raises:
            ProtocolError: It answers what was never asked, or names env indices that its request did not; or too many
                came that nobody waits for.
        """
        sent = self.sent.get(answer.number)
        if sent is None or not self._expects(answer, sent):
            self._count_unasked(answer)
            return False
        size += MESSAGE_BYTES
        self.received += size
        self.answers += 1
        self._moving = True
        if isinstance(answer, Refused) or (answer.indices is None and sent.missing is None):
            del self.sent[answer.number]
        else:
            self._cross_off(answer, sent)
        self.inbox.append(Arrival(answer, sent.about, size, perf_counter() - sent.began))
        self._moving = False
        return True

    def take_usual(self, answer: Transition, size: int) -> bool:
        """Take in an answer if it is the usual one: whole, to a request over all, of a step in which nothing failed.

        Returns:
            Whether it was. If not, nothing has happened; `take` says what there is to say.

        Wherever an interrupt strikes, the answer is either waited for or in the inbox, never neither, and never both.
        """
        sent = self.sent.get(answer.number)
        if sent is None or sent.indices is not None or sent.missing is not None:
            return False
        if answer.indices is not None or answer.failures:
            return False
        sent.answer, sent.size, sent.seconds = answer, size + MESSAGE_BYTES, perf_counter() - sent.began
        self.received += sent.size
        self.answers += 1
        # One call, and no line of Python in it: nothing comes between the two.
        self.inbox.extend(map(self.sent.pop, (answer.number,)))
        return True

    def take_load(self, load: Load) -> None:
        """Take note of what the server tells of itself.

        Raises:
            ProtocolError: It does so more often than it answers.
        """
        self._loads += 1
        if self._loads > self.answers + SPARE_ANSWERS:
            raise ProtocolError("a server that tells its load again and again")
        self.load = load

    @property
    def received_bytes(self) -> int:
        """Bytes of the answers that ever were taken in, as they came."""
        return self.received - MESSAGE_BYTES * self.answers

    @property
    def unread_bytes(self) -> int:
        """Bytes of what is in the inbox."""
        return self.received - self.popped if self.inbox else 0

    def __bool__(self) -> bool:
        """Whether answers are here or to come."""
        return bool(self.sent) or self._moving or bool(self.inbox)  # in the order in which an answer goes

    def _count_unasked(self, answer: Answer) -> None:
        if answer.number > self.highest:
            raise ProtocolError(f"an answer to request {answer.number}, the last one was {self.highest}")
        self.unasked += 1
        if self.unasked > 2 * len(self._every) + SPARE_ANSWERS:
            raise ProtocolError("more answers than were asked for")

    def _expects(self, answer: Answer, sent: Sent) -> bool:
        """Return whether `answer` is waited for; False if it was taken in before."""
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

    def _check_indices(self, indices: Indices, sent: Sent) -> None:
        named, asked = every(indices, len(self._every)), every(sent.indices, len(self._every))
        distinct = set(named)
        if len(distinct) != len(named) or not distinct.issubset(asked):
            raise ProtocolError("an answer for environments that its request did not name, or for one twice")

    @staticmethod
    def _check_failures(failures: Sequence[Failure], indices: Sequence[int]) -> None:
        # Not that they are distinct: two things may have gone wrong in one environment.
        if not {failure.index for failure in failures}.issubset(indices):
            raise ProtocolError("a failure of an environment that the answer is not for")

    def _cross_off(self, answer: Transition | Returned, sent: Sent) -> None:
        missing = set(self._every if sent.indices is None else sent.indices) if sent.missing is None else sent.missing
        missing = missing - set(self._every if answer.indices is None else answer.indices)
        if missing:
            sent.missing = missing
        else:
            del self.sent[answer.number]

    def missing(self) -> list[tuple[int, Indices]]:
        """Return (number, env indices) of all that was not answered."""
        return [(number, sent.left) for number, sent in list(self.sent.items())]

    def unanswered(self) -> list[tuple[Any, Indices]]:
        """Return the same with what was noted with the request, instead of its number."""
        return [(sent.about, sent.left) for sent in list(self.sent.values())]
