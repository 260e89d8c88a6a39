"""No I/O: the protocol's memory. The states of a session and of its environments, as tables, and what is owed.

The rules ("Never twice, never lost" in docs/architecture.md): request numbers rise by one and are used once, also by
refusals; an environment has at most one operation in flight; an answer is stored before it is written to a stream and
is freed when the environment's next operation arrives, because only then has the client certainly read it; a returning
client names what it misses and gets each answer exactly once, without anything being executed twice.

The anchors are NFSv4.1's session slots (RFC 8881 §2.10.6) and Raft's client sessions (§6.3 of the thesis): one cached
reply per slot is enough because a slot has one request outstanding.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from remote_gym.errors import ProtocolError


class SessionState(Enum):
    """Where a session is in its life."""

    OPENING = "opening"  # environments are being built
    ATTACHED = "attached"  # a stream carries it
    DETACHED = "detached"  # no stream; the lease runs
    GONE = "gone"  # environments are closed; only the reason is remembered


class SessionEvent(Enum):
    """What happens to a session."""

    OPENED = "opened"
    OPEN_FAILED = "open failed"
    STREAM_ENDED = "stream ended"
    ATTACH = "attach"  # also while attached: the older stream is fenced
    CLOSE = "close"
    EXPIRE = "expire"
    REVOKE = "revoke"  # the server's owner ends it, or what its client has shown of who it is holds no longer
    BREAK = "break"  # the client broke the contract, or a bug of ours keeps it from an answer


_S, _E = SessionState, SessionEvent
SESSION_TABLE: dict[tuple[SessionState, SessionEvent], SessionState] = {
    (_S.OPENING, _E.OPENED): _S.ATTACHED,
    (_S.OPENING, _E.OPEN_FAILED): _S.GONE,
    (_S.ATTACHED, _E.STREAM_ENDED): _S.DETACHED,
    (_S.ATTACHED, _E.ATTACH): _S.ATTACHED,
    (_S.ATTACHED, _E.CLOSE): _S.GONE,
    (_S.ATTACHED, _E.BREAK): _S.GONE,
    (_S.DETACHED, _E.ATTACH): _S.ATTACHED,
    (_S.DETACHED, _E.EXPIRE): _S.GONE,
    (_S.DETACHED, _E.CLOSE): _S.GONE,
    (_S.DETACHED, _E.BREAK): _S.GONE,
    (_S.ATTACHED, _E.REVOKE): _S.GONE,
    (_S.DETACHED, _E.REVOKE): _S.GONE,
}
"""Every allowed change; anything else is a bug of the caller and raises `ProtocolError`."""


class EnvState(Enum):
    """What an environment owes its client."""

    IDLE = 0  # never asked for anything
    RUNNING = 1  # an operation is in flight
    ANSWERED = 2  # the answer of its last operation is stored


class EnvEvent(Enum):
    """What happens to an environment."""

    REQUEST = "request"
    ANSWER = "answer"  # a result, a failure, or the death of its worker: every request gets exactly one


ENV_TABLE: dict[tuple[EnvState, EnvEvent], EnvState] = {
    (EnvState.IDLE, EnvEvent.REQUEST): EnvState.RUNNING,
    (EnvState.RUNNING, EnvEvent.ANSWER): EnvState.ANSWERED,
    (EnvState.ANSWERED, EnvEvent.REQUEST): EnvState.RUNNING,  # frees the stored answer
}


class OutOfOrderError(ProtocolError):
    """A request number was not the next one: the session cannot go on."""


class BusyError(ProtocolError):
    """A request names an environment whose last operation is still in flight: it is refused."""


@dataclass(slots=True)
class _Request:
    """Answers of one request that some environment still holds."""

    owed: int  # environments whose last operation this still is
    frames: list[tuple[Sequence[int] | None, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Replay:
    """What a returning client gets for what it named as missing."""

    frames: tuple[bytes, ...]  # to be sent again, byte for byte
    running: tuple[int, ...]  # env indices whose operation still runs: the answer will follow


class Ledger:
    """One session's numbers, environment states and stored answers.

    Guarantees: `highest` never falls; every admitted (number, env index) is answered once; an answer stays until the
    next operation of its environment is admitted. Relies on: called from one thread.
    """

    def __init__(self, num_envs: int) -> None:
        """Begin with `num_envs` environments that were never asked for anything."""
        self.num_envs = num_envs
        self.state = SessionState.OPENING
        self.highest = 0
        self._number = np.zeros(num_envs, np.int64)  # number of the last operation, by env index
        self._env_state = np.full(num_envs, EnvState.IDLE.value, np.uint8)
        # While whole batches step together, the usual case, this says it for all and the two arrays above are stale.
        self._together: tuple[int, EnvState] | None = (0, EnvState.IDLE)
        self._requests: dict[int, _Request] = {}
        self._refusals: OrderedDict[int, bytes] = OrderedDict()
        self._all = range(num_envs)

    def apply(self, event: SessionEvent) -> SessionState:
        """Move the session by `event` and return its new state.

        Raises:
            ProtocolError: The table has no such change.
        """
        try:
            self.state = SESSION_TABLE[self.state, event]
        except KeyError:
            raise ProtocolError(f"a session that is {self.state.value} cannot take the event {event.value!r}") from None
        return self.state

    def env_state(self, index: int) -> EnvState:
        """Return what the environment owes."""
        if self._together is not None:
            return self._together[1]
        return EnvState(int(self._env_state[index]))

    def number_of(self, index: int) -> int:
        """Return the number of the environment's last operation; 0 when there was none."""
        if self._together is not None:
            return self._together[0]
        return int(self._number[index])

    def _spread(self) -> None:
        """Bring the arrays up to date: environments go their own ways."""
        if self._together is not None:
            self._number[:] = self._together[0]
            self._env_state[:] = self._together[1].value
            self._together = None

    def next_number(self, number: int) -> None:
        """Consume `number`; every request does, refused or not, before anything else is looked at.

        Raises:
            OutOfOrderError: It is not the next one.
        """
        if number != self.highest + 1:
            raise OutOfOrderError(f"request number {number} where {self.highest + 1} was due")
        self.highest = number

    def admit(self, number: int, indices: Sequence[int] | None) -> None:
        """Begin an operation on `indices` (None: all); the answers these environments had stored are freed.

        Relies on `next_number(number)` having been called, and on distinct indices within range.

        Raises:
            BusyError: One of them is still running; nothing has changed.
        """
        if indices is None and self._together is not None and self._together[1] is not EnvState.RUNNING:
            self._requests.pop(self._together[0], None)  # nobody but they, all of them, holds its answers
            self._together = (number, EnvState.RUNNING)
            self._requests[number] = _Request(self.num_envs, [])
            return
        self._spread()
        where = slice(None) if indices is None else np.asarray(indices, np.intp)
        states = self._env_state[where]
        if (states == EnvState.RUNNING.value).any():
            busy = [int(i) for i in (self._all if indices is None else indices) if self.env_state(i).value == 1]
            raise BusyError(f"environments {busy[:8]} have an operation in flight")
        for old, count in self._count(self._number[where]):
            self._free(old, count)
        self._number[where] = number
        self._env_state[where] = EnvState.RUNNING.value
        self._requests[number] = _Request(owed=len(states))
        if indices is None:
            self._together = (number, EnvState.RUNNING)

    @staticmethod
    def _count(numbers: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Iterable[tuple[int, int]]:
        first = int(numbers[0])
        if (numbers == first).all():  # whole batches step together: the usual case
            return ((first, len(numbers)),)
        values, counts = np.unique(numbers, return_counts=True)
        return zip(values.tolist(), counts.tolist(), strict=True)

    def _free(self, number: int, count: int) -> None:
        request = self._requests.get(number)
        if request is not None:
            request.owed -= count
            if request.owed == 0:
                del self._requests[number]

    def answer(self, number: int, indices: Sequence[int] | None, frame: bytes) -> None:
        """Store the answer of `indices` (None: all) to request `number`. Call before the frame is written.

        Raises:
            ProtocolError: One of them has no such operation in flight.
        """
        if indices is None and self._together == (number, EnvState.RUNNING):
            self._together = (number, EnvState.ANSWERED)
            self._requests[number].frames.append((None, frame))
            return
        self._spread()
        where = slice(None) if indices is None else np.asarray(indices, np.intp)
        if not ((self._number[where] == number) & (self._env_state[where] == EnvState.RUNNING.value)).all():
            raise ProtocolError(f"an answer to request {number} for environments that are not running it")
        self._env_state[where] = EnvState.ANSWERED.value
        self._requests[number].frames.append((indices, frame))

    def holds(self, number: int) -> bool:
        """Return whether request `number` runs, or an answer to it is stored."""
        return number in self._requests

    def replace(self, number: int, frame: bytes) -> None:
        """Store `frame` in the place of all answers to request `number`, which must be answered in whole."""
        self._requests[number].frames = [(None, frame)]

    def refuse(self, number: int, frame: bytes) -> None:
        """Store the refusal of request `number`.

        A client has at most one operation per environment in flight, so it can miss at most `num_envs` refusals.
        """
        self._refusals[number] = frame
        while len(self._refusals) > self.num_envs + 1:
            self._refusals.popitem(last=False)

    def replay(self, missing: Iterable[tuple[int, Sequence[int] | None]]) -> Replay:
        """Return what a returning client still has to get, in the order it was answered.

        Args:
            missing: (number, env indices or None for all) of what the client waits for. Numbers above `highest` were
                never received and are left out: the client sends those requests again.

        Raises:
            ProtocolError: Something is missed that the client has proven to have read, by asking for more since.
        """
        frames: dict[int, bytes] = {}  # by identity: one frame answers many environments
        running: list[int] = []
        seen: set[int] = set()
        for number, indices in missing:
            if number < 1 or number in seen:  # each costs as much as it has environments
                raise ProtocolError(f"request {number} is missed twice, or was never made")
            seen.add(number)
            if number > self.highest:
                continue
            if number in self._refusals:
                frames[id(self._refusals[number])] = self._refusals[number]
                continue
            wanted = self._all if indices is None else indices
            for index in wanted:
                if not 0 <= index < self.num_envs or self.number_of(index) != number:
                    raise ProtocolError(
                        f"environment {index} was missed for request {number}, which it has left behind"
                    )
            still = [index for index in wanted if self.env_state(index) is EnvState.RUNNING]
            running += still
            answered = set(wanted).difference(still)
            for covered, frame in self._requests[number].frames if answered else ():
                if not answered.isdisjoint(self._all if covered is None else covered):
                    frames[id(frame)] = frame
        return Replay(tuple(frames.values()), tuple(running))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all stored answers."""
        frames = sum(len(frame) for request in self._requests.values() for _, frame in request.frames)
        return frames + sum(map(len, self._refusals.values()))
