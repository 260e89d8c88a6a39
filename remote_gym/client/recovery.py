"""Trainer process: how a vector environment makes up for what was lost: environments, sessions, whole servers.

An environment that was lost is told of and reset, where its server has built it anew. A session that was lost is opened
anew, with ``on_session_lost="truncate"``; with ``"move"`` its environments have no home until the mover, which has
threads of its own, has found them one, and what is asked of them meanwhile waits in `homeless`. `Exchange` is the rest
of the same object: requests out, parts in.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from remote_gym import values
from remote_gym.client.fleet import Fleet, News, has_sent
from remote_gym.client.homeless import Held, Homeless
from remote_gym.client.losses import MOVED_BY, REOPENED, Losses
from remote_gym.client.moving import Mover
from remote_gym.client.observations import Observations
from remote_gym.client.operations import Operation
from remote_gym.client.parts import Part
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.settings import Settings
from remote_gym.client.shards import Shard, run_of
from remote_gym.errors import RemoteGymError, SessionLost, TimedOut
from remote_gym.leaves import Array, rows_at
from remote_gym.messages import FailureKind, Refused, Reset, Step, Transition, every


class Recovery(ABC):
    """What is lost, and what stands for it; see `Exchange`."""

    def __init__(self, fleet: Fleet, observations: Observations, settings: Settings, mover: Mover | None) -> None:
        self._fleet = fleet
        self._observations = observations
        self._mode = settings.mode
        self._truncates = settings.on_worker_failure == "truncate"
        self._reopens = settings.on_session_lost == "truncate"
        self._mover = mover
        self._moved = MOVED_BY.get(settings.on_session_lost, frozenset()) if mover is not None else frozenset[str]()
        self._hold_seconds = settings.move_timeout_seconds
        self.losses = Losses(fleet.num_envs)
        self.over: Array = np.zeros(fleet.num_envs, np.bool_)
        self.counts = False
        self.in_flight = np.zeros(fleet.num_envs, np.bool_)
        self._settled: deque[Part] = deque()  # ready without having been asked for
        self._drained: dict[tuple[Shard, int], Operation] = {}  # refused by servers that are about to go, by number
        self._homeless = Homeless()
        self._places: dict[int, tuple[str, str]] = {}  # where environments are, not reset there yet; why

    # What it needs of the rest

    @abstractmethod
    def _send(self, shard: Shard, request: Reset | Step, operation: Operation) -> None:
        """Send a request of one server."""

    @abstractmethod
    def _parts(self, shard: Shard, arrival: Arrival) -> Sequence[Part]:
        """Return the parts that an answer is or stands for."""

    @abstractmethod
    def reset_verbatim(self, seed: bytes, options: bytes, notes: dict[int, dict[str, Any]] | None = None) -> None:
        """Reset a hosted vector environment."""

    def _at_work(self, indices: Sequence[int], whether: bool) -> None:
        """Take note of whether these environments are at work."""
        if self.counts:
            self.in_flight[rows_at(indices)] = whether

    # Resets

    def _begin_again(self, indices: list[int]) -> None:
        """Instead of stepping: tell of losses nobody was told of, and reset those whose loss was told."""
        if self._mover is not None:
            self.adopt()
        told = [index for index in indices if index not in self.losses.untold]
        if untold := [index for index in indices if index in self.losses.untold]:
            self._at_work(untold, True)
            self._settled.extend(self._end({index: self.losses.tell(index) for index in untold}))
        if told:
            seeds = [self.losses.fresh_seed(index) for index in told]
            self._send_resets(Operation(told, True, b"", seeds, steps=True))

    def _send_resets(self, operation: Operation) -> None:
        for part in self._reset_parts(operation):
            self._send(*part)

    def _reset_parts(self, operation: Operation) -> list[tuple[Shard, Reset, Operation]]:
        """Return what of a reset goes to which server; what is for environments without one waits."""
        if self._fleet.homeless:
            operation = operation.some([operation.indices[at] for at in self._hold(operation)])
        indices = operation.indices
        parts = [
            (shard, operation.some([indices[at] for at in positions]))
            for shard, positions in self._fleet.parts(indices)
        ]
        return [(shard, self._request(shard, own), own) for shard, own in parts]

    def _request(self, shard: Shard, operation: Operation) -> Reset:
        """Return the reset that `operation` is; adds to its notes where lost environments are now."""
        if self._places:
            operation.notes = {**operation.notes, **self._notes_of_places(operation)}
        given = operation.seeds
        packed = values.pack(given, "seed") if any(one is not None for one in given) else b""
        return Reset(0, shard.local(operation.indices), packed, operation.options)

    def _notes_of_places(self, operation: Operation) -> dict[int, dict[str, Any]]:
        notes = {}
        for index in operation.indices:
            if (place := self._places.get(index)) is None:
                continue
            address, reason = place
            note = {**self.losses.note(index, reason, lost=False), **operation.notes.get(index, {})}
            notes[index] = {**note, "remote_gym": {**note["remote_gym"], "address": address}}
        return notes

    # Environments that were lost

    def _without_lost(self, part: Part, operation: Operation) -> Iterator[Part]:
        """Yield `part` without the environments that were lost, and what stands for those."""
        lost = {failure.index: failure for failure in part.failures if failure.kind is FailureKind.LOST}
        notes = {index: self.losses.lost(index, failure.type, self._truncates) for index, failure in lost.items()}
        if not lost or not self._truncates:
            yield part
            return
        if operation.resets:  # an environment that dies of every reset is raised in the end
            notes = {index: note for index, note in notes.items() if self.losses.lost_in_reset(index)}
        part.indices = every(part.indices, self._fleet.num_envs)
        if (rest := part.without(notes)).indices:
            yield rest
        yield from self._made_up(notes, operation)

    def _made_up(self, notes: dict[int, dict[str, Any]], operation: Operation) -> Iterator[Part]:
        """Yield what stands for lost environments, or ask for it."""
        if not operation.resets:
            yield from self._end(notes)
        elif notes:  # again, with the same seed
            merged = {index: {**operation.notes.get(index, {}), **note} for index, note in notes.items()}
            if operation.seed is not None:
                self.reset_verbatim(operation.seed, operation.options, merged)
                return
            self._send_resets(replace(operation.some(list(notes)), notes=merged))

    def _end(self, notes: dict[int, dict[str, Any]]) -> Iterator[Part]:
        """Yield the ends of lost environments' episodes; in SAME_STEP the next ones' beginnings come with them."""
        same_step = self._mode is AutoresetMode.SAME_STEP
        # In NEXT_STEP, whoever died beginning a new episode has none to end.
        begins = [i for i in notes if same_step or (self._mode is AutoresetMode.NEXT_STEP and self.over[i])]
        if same_step:
            notes = {i: self._final(i, notes[i]) for i in notes}
        if begins:
            seeds = [self.losses.fresh_seed(index) for index in begins]
            begun = {i: notes[i] for i in begins}
            self._send_resets(Operation(begins, True, b"", seeds, begun, truncated=same_step, steps=True))
        ends = [index for index in notes if index not in begins]
        if ends:
            self.over[ends] = True
            yield Part.of_ends(ends, self._observations.rows(ends), {index: notes[index] for index in ends})

    def _final(self, index: int, note: dict[str, Any]) -> dict[str, Any]:
        """Return `note` of a step in SAME_STEP that has ended an episode."""
        return {"final_obs": self._observations.element(index), "final_info": {}, **note}

    # Sessions that were lost

    def _session_lost(self, shard: Shard, error: SessionLost, unsent: Operation | None = None) -> None:
        """Make up for a lost session; every episode there ends truncated, `unsent`'s too.

        Raises:
            SessionLost: It is not to be made up for, or was lost again and again.
            RemoteGymError: The new one could not be opened.
        """
        moves, there = error.reason in self._moved, self._fleet.layout.at(shard)
        if unsent is None and not there and self._mover is not None and not shard.session.waiting:
            self._fleet.remove(shard)  # nobody was there yet, or any more
            self._mover.lose(there, shard.hosted, str(error))
            return
        if not moves and not (self._reopens and error.reason in REOPENED):
            raise error
        missing: list[tuple[Operation, list[int]]] = []
        if known := not moves or shard in self._fleet.shards:  # else lost before, with something of it still unsent
            missing = self._missing(shard, moves)
        missing += [(unsent, list(unsent.indices))] if unsent is not None else []
        at_work = {index for _, indices in missing for index in indices}
        at_work.update(index for part in self._settled if part.leaving for index in part.leaving.generations)
        if known:
            for index in there:
                if index not in at_work and index not in self.losses.due:
                    self.losses.untold[index] = str(error)
        if known and moves:
            self._unhouse(shard, there, str(error))
        resets = [index for operation, _ in missing if operation.resets for index in operation.indices]
        if not all([self.losses.lost_in_reset(index) for index in resets]):  # noqa: C419 - each is counted
            self.in_flight[list(there)] = False  # the server seems to lose each of them
            if moves:
                self._fleet.remove(shard)
            raise error
        for operation, indices in missing:
            notes = {index: self._lost(index, str(error)) for index in indices}
            self._settled.extend(self._made_up(notes, operation))
        if moves:
            self._fleet.remove(shard)  # last: after an interrupt all this comes once more, and does no harm

    def _missing(self, shard: Shard, moves: bool) -> list[tuple[Operation, list[int]]]:
        """Return what a lost session has not answered; opens it anew where it was unless it `moves`."""
        session = shard.session
        self._settle_unread(shard)
        if not moves:
            shard.reopen()
        missing = [
            (about, [shard.first + index for index in every(indices, shard.count)])
            for about, indices in session.unanswered()
            if about is not None  # else it is a call, which raises
        ]
        drained = [self._drained.pop(key) for key in list(self._drained) if key[0] is shard]
        return missing + [(operation, list(operation.indices)) for operation in drained]

    def _unhouse(self, shard: Shard, rows: Sequence[int], reason: str) -> None:
        """Let rows that a lost session had be where they were to go to, or without a server."""
        assert self._mover is not None
        leaving = self._fleet.layout.leaving
        ready = {row: (leaving[row].name, leaving[row].reason) for row in rows if row in leaving}
        self._places.update(ready)
        away = run_of(row for row in rows if row not in ready)
        self._fleet.homeless.update(dict.fromkeys(away, reason))
        self._mover.lose(away, shard.hosted, reason)
        self._fleet.hand_over(ready)

    def _lost(self, index: int, reason: str) -> dict[str, Any]:
        return self.losses.tell(index) if index in self.losses.untold else self.losses.lost(index, reason, True)

    def _settle_unread(self, shard: Shard) -> None:
        """Keep what a session that is lost has still brought."""
        session = shard.session
        for arrival in session.unread():
            if isinstance(arrival.answer, Transition):
                self._settled.extend(self._parts(shard, arrival))
            elif isinstance(arrival.answer, Refused) and arrival.about is not None:  # else it is a call, which raises
                self._drained[shard, arrival.answer.number] = arrival.about
            session.took(arrival.answer)

    def session_lost(self, shard: Shard, error: RemoteGymError) -> None:
        """Make up for what a call has found out, if that is wanted; the next step tells."""
        if not isinstance(error, SessionLost):
            return
        if (self._reopens and error.reason in REOPENED) or error.reason in self._moved:
            self._session_lost(shard, error)

    # Environments without a server

    def _hold(self, operation: Operation) -> list[int]:
        """Let what is for environments without a server wait; return the positions of the others."""
        homeless = self._fleet.homeless
        if away := [index for index in operation.indices if index in homeless]:
            self._at_work(away, True)
            self._homeless.hold(operation.some(away), time.monotonic() + self._hold_seconds)
        return [at for at, index in enumerate(operation.indices) if index not in homeless]

    def adopt(self) -> None:
        """Take in the environments that the mover has found a server for, and send them what has waited.

        Raises:
            SessionLost: There was none for too long, for too many of them.
        """
        mover, fleet, homeless = self._mover, self._fleet, self._homeless
        assert mover is not None
        while (arrival := mover.peek()) is not None:
            shard = fleet.adopt(arrival)
            rows = fleet.layout.at(shard)
            self._places.update(dict.fromkeys(rows, (shard.name, "its server was lost")))
            homeless.housed(rows)
            for one in homeless.ready(rows):
                one.part = one.part or (shard, self._request(shard, one.operation))
            self._send_held()
            if shard in fleet.shards:  # else it was lost again, just now
                for index in rows:
                    fleet.homeless.pop(index, None)
            mover.took(arrival)
        mover.check()

    def _send_held(self) -> None:
        """Send what has waited; also what an interrupt has left."""
        for one in list(self._homeless.held):
            if one.part is not None:
                if not has_sent(one.part):
                    self._send(*one.part, one.operation)
                self._homeless.drop([one])

    def _receive_moving(self, timeout_seconds: float | None) -> tuple[Shard, Arrival] | None:
        """Do what `Fleet.receive` does while the mover has something to do; None: look again, and `adopt`.

        Raises:
            TimedOut: Nothing came in time.
            ShardFailed, ProtocolError, gymnasium.error.ClosedEnvironmentError: As there.
        """
        assert self._mover is not None
        limit, now = timeout_seconds, time.monotonic()
        if overdue := self._homeless.overdue(now):  # also where others are ready again and again
            self._stand_in(overdue)
            return None
        if (deadline := self._homeless.deadline) is not None:
            limit = max(0.0, deadline - now) if limit is None else min(limit, max(0.0, deadline - now))
        try:
            return self._fleet.receive(limit, self._mover.has_news)
        except News:
            return None
        except TimedOut:
            if limit == timeout_seconds and not self._homeless.overdue(time.monotonic()):
                raise
            return None

    def _stand_in(self, overdue: list[Held]) -> None:
        """Answer resets whose time is up by placeholders: nothing happened, and the next step tries again."""
        for one in overdue:
            operation = one.operation
            notes = {index: self._placeholder(index, operation) for index in operation.indices}
            indices = list(operation.indices)
            self._settled.append(part := Part.of_ends(indices, self._observations.rows(indices), notes))
            operation.end(part, indices)
            asked = self._mode is AutoresetMode.DISABLED  # by the user, who steps next
            self.over[indices] = not asked
            if asked:
                for index in indices:
                    self.losses.tell_again(index, self._fleet.homeless.get(index, "its server was lost"))
        self._homeless.drop(overdue)

    def _placeholder(self, index: int, operation: Operation) -> dict[str, Any]:
        reason = self._fleet.homeless.get(index, "its server was lost")
        note = {**operation.notes.get(index, {}), **self.losses.note(index, reason, homeless=True)}
        ends = self._mode is AutoresetMode.SAME_STEP and operation.steps
        return self._final(index, note) if ends else note

    def _drain(self, shard: Shard, answer: Refused, operation: Operation) -> bool:
        """Make up for a refusal by a server that is about to go; return whether it was one, and is wanted."""
        moves = "DRAINING" in self._moved
        if answer.limit != "draining" or not (self._reopens or moves):
            return False
        # What comes next is the end of the session, which makes up for this, too.
        self._drained[shard, answer.number] = operation
        if moves:  # there is nothing to be had there any more
            self._session_lost(shard, SessionLost("DRAINING", f"{shard.hosted.address} is going away"))
        return True
