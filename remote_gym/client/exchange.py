"""Trainer process: what a vector environment asks and gets, in its own env indices, whatever lies in between.

Spreads requests over servers, turns answers into parts, and mends losses where the user wants that: with
``on_worker_failure="truncate"`` a lost environment's episode ends truncated, with ``on_session_lost="truncate"`` so do
those of a server that was started anew. Guarantees: every env index of a request comes back in exactly one part.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from gymnasium.error import NoAsyncCallError
from gymnasium.vector import AutoresetMode

from remote_gym import values
from remote_gym.client.failures import refusal, relocated
from remote_gym.client.fleet import Fleet, Shard, ShardFailed
from remote_gym.client.losses import Losses
from remote_gym.client.observations import Observations
from remote_gym.client.parts import Part
from remote_gym.client.session.protocol import Arrival
from remote_gym.client.settings import Settings
from remote_gym.client.transitions import TransitionReader
from remote_gym.errors import MisuseError, ProtocolError, RefusedError, RemoteGymError, SessionLost
from remote_gym.leaves import Array, rows_at
from remote_gym.messages import FailureKind, Indices, Refused, Reset, Step, Transition, every

REOPENED = frozenset({"SERVER_RESTARTED", "EXPIRED"})
"""Reasons of a lost session that a new one mends. FENCED is another client's doing, BROKEN a bug: these are raised."""


@dataclass
class _Operation:
    """A reset or step of some environments of one server. Its session keeps it until it is answered."""

    indices: Sequence[int]
    resets: bool
    options: bytes = b""
    seeds: Sequence[int | None] = ()
    notes: dict[int, dict[str, Any]] = field(default_factory=dict)  # of a reset after a loss
    truncated: bool = False  # the reset is that of a truncated episode, in SAME_STEP
    seed: bytes | None = None  # of a hosted vector environment's reset, verbatim


class Exchange:
    """Requests and parts of one vector environment.

    Attributes:
        over: (num_envs,) bool: whose episode is over and not yet reset.
        in_flight: (num_envs,) bool: who has an operation that is not answered yet. Kept once `counts` is set.
        counts: Whether to keep `in_flight`; to be set while nothing runs.
        losses: Who was lost, and with which seed it begins again.
    """

    def __init__(self, fleet: Fleet, reader: TransitionReader, observations: Observations, settings: Settings) -> None:
        """Ask through `fleet`; `settings` say which losses to make up for."""
        self._fleet = fleet
        self._reader = reader
        self._observations = observations
        self._mode = settings.mode
        self._truncates = settings.on_worker_failure == "truncate"
        self._reopens = settings.on_session_lost == "truncate"
        self.losses = Losses(fleet.num_envs)
        self.over: Array = np.zeros(fleet.num_envs, np.bool_)
        self.counts = False
        self.in_flight = np.zeros(fleet.num_envs, np.bool_)
        self._settled: deque[Part] = deque()  # ready without having been asked for
        self._drained: dict[tuple[Shard, int], _Operation] = {}  # refused by servers that are about to go, by number
        self._handed: Sequence[Part] = ()  # returned last
        self._pop: Callable[[], object] = _nothing  # lets these not come again

    # Out

    def step(self, indices: Indices, rows: list[Array], variable: bytes) -> None:
        """Step the environments at `indices` (None: all) with the encoded actions in `rows`."""
        everyone = every(indices, self._fleet.num_envs)
        if self.losses.due or self.losses.untold:
            due = () if self._mode is AutoresetMode.DISABLED else self.losses.due  # their user resets them
            fresh = {index for index in everyone if index in due or index in self.losses.untold}
            if fresh:
                self._begin_again(sorted(fresh))
                left = [at for at, index in enumerate(everyone) if index not in fresh]
                if not left:
                    return
                indices, rows, variable = _chosen(everyone, rows, variable, left)
                everyone = indices
        if len(self._fleet.shards) == 1:
            self._send(self._fleet.shards[0], Step(0, indices, rows, variable), _Operation(everyone, False))
            return
        for shard, positions in self._fleet.parts(indices):
            own, some, theirs = _chosen(everyone, rows, variable, positions)
            self._send(shard, Step(0, shard.local(own), some, theirs), _Operation(own, False))

    def _at_work(self, indices: Sequence[int], whether: bool) -> None:
        """Take note of whether these environments are at work."""
        if self.counts:
            self.in_flight[rows_at(indices)] = whether

    def _begin_again(self, indices: list[int]) -> None:
        """Instead of stepping: tell of losses nobody was told of, and reset those whose loss was told."""
        told = [index for index in indices if index not in self.losses.untold]
        if untold := [index for index in indices if index in self.losses.untold]:
            self._at_work(untold, True)
            self._settled.extend(self._end({index: self.losses.tell(index) for index in untold}))
        if told:
            self._send_resets(told, [self.losses.fresh_seed(index) for index in told], b"")

    def reset(self, indices: Indices, seeds: Sequence[int | None], options: bytes) -> None:
        """Reset the environments at `indices` (None: all), each with its item of `seeds`."""
        everyone = every(indices, self._fleet.num_envs)
        untold = self.losses.untold
        notes = {index: self.losses.tell(index) for index in everyone if index in untold} if untold else {}
        self._send_resets(everyone, self.losses.seed(everyone, seeds), options, notes)

    def reset_verbatim(self, seed: bytes, options: bytes, notes: dict[int, dict[str, Any]] | None = None) -> None:
        """Reset a hosted vector environment."""
        (shard,) = self._fleet.shards
        operation = _Operation(range(self._fleet.num_envs), True, options, (), notes or {}, seed=seed)
        self._send(shard, Reset(0, None, seed, options), operation)

    def _send_resets(
        self, indices: Sequence[int], seeds: Sequence[int | None], options: bytes,
        notes: dict[int, dict[str, Any]] | None = None, truncated: bool = False,
    ) -> None:  # fmt: skip
        for shard, positions in self._fleet.parts(indices):
            own, given = [indices[at] for at in positions], [seeds[at] for at in positions]
            packed = values.pack(given, "seed") if any(one is not None for one in given) else b""
            request = Reset(0, shard.local(own), packed, options)
            self._send(shard, request, _Operation(own, True, options, given, notes or {}, truncated))

    def _send(self, shard: Shard, request: Reset | Step, operation: _Operation) -> None:
        session, number = None, 0
        try:
            self._at_work(operation.indices, True)
            session = shard.connection.stream
            session.check()
            number = session.next_number()
            if isinstance(request, Step):
                request.number = number
            else:
                request = replace(request, number=number)
            session.send(request, operation)
        except SessionLost as error:
            self._session_lost(shard, error, operation)
        except BaseException:
            if not number or session is None or session.next_number() == number:  # it was not sent
                self._at_work(operation.indices, False)
            raise

    # In

    def receive(self, timeout_seconds: float | None) -> Sequence[Part]:
        """Return the next parts; say `took` once they are where they belong, until then they come again.

        Raises:
            TimeoutError: None came in time; nothing is lost.
            RefusedError, MisuseError: A server refused a request; its environments are free again.
            SessionLost: A server no longer holds the environments.
            ProtocolError: A server sent what the contract does not allow; its session is lost.
        """
        self._handed, self._pop = (), _nothing
        if self._settled:
            self._handed, self._pop = (self._settled[0],), self._settled.popleft
            return self._handed
        try:
            shard, arrival = self._fleet.receive(timeout_seconds)
        except ShardFailed as failed:
            if not isinstance(failed.error, SessionLost):
                raise failed.error from None
            self._session_lost(failed.shard, failed.error)
            return ()
        self._pop = partial(shard.connection.stream.took, arrival.answer)
        if isinstance(arrival.answer, Refused) and arrival.about is not None:
            self._refused(shard, arrival.answer, arrival.about)
        else:
            self._handed = self._parts(shard, arrival)
        return self._handed

    def _refused(self, shard: Shard, answer: Refused, operation: _Operation) -> None:
        if answer.limit == "draining" and self._reopens:
            # The server is about to go: what comes next is the end of the session, which makes up for this, too.
            self._drained[shard, answer.number] = operation
            return
        self.in_flight[list(operation.indices)] = False
        self.took()
        raise refusal(answer)

    def deliver(self, take: Callable[[Part], object], timeout_seconds: float | None = None) -> None:
        """Wait for the next parts and give each to `take`; after an interrupt, wherever it strikes, they come again.

        Raises like `receive`.
        """
        for part in self.receive(timeout_seconds):
            take(part)
        self.took()

    def settle(self) -> None:
        """Wait until nothing runs any more, and drop it: left over by an interrupt, or by a refusal of one server."""
        while self.busy:
            with contextlib.suppress(RefusedError, MisuseError):  # of what nobody waits for
                self.deliver(self._drop)

    def _drop(self, part: Part) -> None:
        for index, note in part.notes.items():  # a loss is never silent: the next step tells of it
            self.losses.untold[index] = note["remote_gym"]["reason"]

    def took(self) -> None:
        """Take note that the parts returned last are where they belong."""
        if self.counts:
            for part in self._handed:
                self.in_flight[slice(None) if part.indices is None else rows_at(part.indices)] = False
        self._pop()

    def _parts(self, shard: Shard, arrival: Arrival) -> Sequence[Part]:
        """Return the parts that an answer is or stands for; made once, however often it is looked at."""
        if arrival.read is None:
            operation = arrival.about
            if operation is None:  # of a call that was interrupted
                arrival.read = ()
            else:
                arrival.read = self._settle(self._read(shard, arrival, operation), operation)
        return arrival.read  # type: ignore[no-any-return]

    def _read(self, shard: Shard, arrival: Arrival, operation: _Operation) -> Part:
        session, answer = shard.connection.stream, arrival.answer
        try:
            if not isinstance(answer, Transition):
                raise ProtocolError(f"{type(answer).__name__} in answer to a reset or step")
            part = self._reader.read(answer, shard.first, shard.count)
            if operation.resets is not (part.rewards is None):
                raise ProtocolError("a step without rewards, or a reset with some")
        except Exception as error:
            raise session.misread(error) from error
        # Each env index is answered once per number of a session.
        part.source = (session, answer.number, every(part.indices, 1)[0])
        if shard.first and part.failures:
            part.failures = [relocated(failure, shard.first) for failure in part.failures]
        return part

    def _settle(self, part: Part, operation: _Operation) -> list[Part]:
        """Return what of `part` is ready; what was lost comes later or is made up for."""
        if part.indices is None and not part.failures and not operation.resets:  # the usual case
            assert part.terminations is not None and part.truncations is not None
            self.over = part.terminations | part.truncations
            return [part]
        parts = [part] if not part.failures else list(self._mended(part, operation))
        for ready in parts:
            where = slice(None) if ready.indices is None else rows_at(ready.indices)
            self.over[where] = False if ready.terminations is None else ready.terminations | ready.truncations
            if ready.failures:
                self.over[[failure.index for failure in ready.failures]] = False
            if operation.resets:
                self._was_reset(ready, operation)
        return parts

    def _was_reset(self, part: Part, operation: _Operation) -> None:
        failed = {failure.index for failure in part.failures}
        indices = every(part.indices, self._fleet.num_envs)
        self.losses.was_reset(index for index in indices if index not in failed)
        part.notes.update({index: operation.notes[index] for index in indices if index in operation.notes})
        if operation.truncated:
            part.truncations = np.ones(len(indices), np.bool_)

    # Losses

    def _mended(self, part: Part, operation: _Operation) -> Iterator[Part]:
        """Yield `part` without the environments that were lost, and what stands for those."""
        lost = {failure.index: failure for failure in part.failures if failure.kind is FailureKind.LOST}
        notes = {index: self.losses.lost(index, failure.type, self._truncates) for index, failure in lost.items()}
        if not lost or not self._truncates:
            yield part
            return
        if operation.resets:  # an environment that dies of every reset is raised in the end
            notes = {index: note for index, note in notes.items() if self.losses.lost_in_reset(index)}
        part.indices = every(part.indices, self._fleet.num_envs)
        stays = [at for at, index in enumerate(part.indices) if index not in notes]
        if stays:
            rest = part.rows(np.array(stays))
            rest.failures = [failure for failure in part.failures if failure.index not in notes]
            yield rest
        yield from self._made_up(notes, operation)

    def _made_up(self, notes: dict[int, dict[str, Any]], operation: _Operation) -> Iterator[Part]:
        """Yield what stands for lost environments, or ask for it."""
        if not operation.resets:
            yield from self._end(notes)
        elif notes:  # again, with the same seed
            merged = {index: {**operation.notes.get(index, {}), **note} for index, note in notes.items()}
            if operation.seed is not None:
                self.reset_verbatim(operation.seed, operation.options, merged)
                return
            seed_of = dict(zip(operation.indices, operation.seeds, strict=True))
            seeds = [seed_of[index] for index in notes]
            self._send_resets(list(notes), seeds, operation.options, merged, operation.truncated)

    def _end(self, notes: dict[int, dict[str, Any]]) -> Iterator[Part]:
        """Yield the ends of lost environments' episodes; in SAME_STEP the next ones' beginnings come with them."""
        same_step = self._mode is AutoresetMode.SAME_STEP
        # In NEXT_STEP, whoever died beginning a new episode has none to end.
        begins = [i for i in notes if same_step or (self._mode is AutoresetMode.NEXT_STEP and self.over[i])]
        if same_step:
            notes = {i: {"final_obs": self._observations.element(i), "final_info": {}, **notes[i]} for i in notes}
        if begins:
            seeds = [self.losses.fresh_seed(index) for index in begins]
            self._send_resets(begins, seeds, b"", {i: notes[i] for i in begins}, truncated=same_step)
        ends = [index for index in notes if index not in begins]
        if ends:
            self.over[ends] = True
            count = len(ends)
            flags = np.zeros(count, np.bool_), np.ones(count, np.bool_)
            told = {index: notes[index] for index in ends}
            yield Part(ends, self._observations.rows(ends), np.zeros(count), *flags, notes=told)

    def _session_lost(self, shard: Shard, error: SessionLost, unsent: _Operation | None = None) -> None:
        """Open a new session in place of a lost one; every episode there ends truncated, `unsent`'s too.

        Raises:
            SessionLost: It is not to be mended.
            RemoteGymError: The new one could not be opened.
        """
        if not self._reopens or error.reason not in REOPENED:
            raise error
        session = shard.connection.stream
        self._settle_unread(shard)
        shard.connection.reopen()
        missing = [
            (about, [shard.first + index for index in every(indices, shard.count)])
            for about, indices in session.unanswered()
            if about is not None  # else it is a call, which raises
        ]
        drained = [self._drained.pop(key) for key in list(self._drained) if key[0] is shard]
        more = drained if unsent is None else [*drained, unsent]
        missing += [(operation, list(operation.indices)) for operation in more]
        at_work = {index for _, indices in missing for index in indices}
        for index in range(shard.first, shard.stop):
            if index not in at_work and index not in self.losses.due:
                self.losses.untold[index] = str(error)
        self._check_patience(shard, [operation for operation, _ in missing], error)
        for operation, indices in missing:
            notes = {index: self.losses.lost(index, str(error), True) for index in indices}
            self._settled.extend(self._made_up(notes, operation))

    def _settle_unread(self, shard: Shard) -> None:
        """Keep what a session that is lost has still brought."""
        session = shard.connection.stream
        for arrival in session.unread():
            if isinstance(arrival.answer, Transition):
                self._settled.extend(self._parts(shard, arrival))
            session.took(arrival.answer)

    def _check_patience(self, shard: Shard, operations: Sequence[_Operation], error: SessionLost) -> None:
        """Raise `error` if resets were lost so often that a server seems to lose each of them."""
        lost = [index for operation in operations if operation.resets for index in operation.indices]
        if not all([self.losses.lost_in_reset(index) for index in lost]):  # noqa: C419 - each is counted
            self.in_flight[shard.first : shard.stop] = False
            raise error

    @property
    def busy(self) -> bool:
        """Whether anything is still to come, also what an interrupt left behind."""
        if self._settled or self._drained:
            return True
        return any([shard.connection.stream.waiting for shard in self._fleet.shards])  # noqa: C419

    def check_busy(self, name: str) -> None:
        """Refuse to wait for what will never come.

        Raises:
            SessionLost, ProtocolError: A session is lost.
            NoAsyncCallError: An interrupt kept the reset or step `name` from being sent, to one server at least.
        """
        if not self.busy:
            for shard in self._fleet.shards:
                shard.connection.stream.check()
            raise NoAsyncCallError(f"the {name} was interrupted before it was sent", name)

    def session_lost(self, shard: Shard, error: RemoteGymError) -> None:
        """Mend what a call has found out, if it is to be mended; the next step tells."""
        if isinstance(error, SessionLost) and self._reopens and error.reason in REOPENED:
            self._session_lost(shard, error)


def _nothing() -> None:
    """There is nothing to take note of."""


def _chosen(
    indices: Sequence[int], rows: list[Array], variable: bytes, positions: Sequence[int]
) -> tuple[list[int], list[Array], bytes]:
    """Return env indices and encoded actions of some positions."""
    where = slice(positions[0], positions[-1] + 1) if isinstance(positions, range) else list(positions)
    some = [np.ascontiguousarray(leaf[where]) for leaf in rows]
    if variable:
        elements = values.unpack(variable, "actions")
        variable = values.pack([elements[at] for at in positions], "actions")
    return [indices[at] for at in positions], some, variable
