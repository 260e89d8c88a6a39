"""Trainer process: what a vector environment asks and gets, in its own env indices, whatever lies in between.

Spreads requests over servers, turns answers into parts, and makes up for losses where the user wants that: with
``on_worker_failure="truncate"`` a lost environment's episode ends truncated, with ``on_session_lost="truncate"`` so do
those of a server that was started anew. Guarantees: every env index of a request comes back in exactly one part.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from gymnasium.error import NoAsyncCallError
from gymnasium.vector import AutoresetMode

from remote_gym.client.actions import Actions
from remote_gym.client.failures import refusal
from remote_gym.client.fleet import Fleet, ShardFailed, has_sent
from remote_gym.client.handing_over import HandingOver
from remote_gym.client.moving import Mover
from remote_gym.client.observations import Observations
from remote_gym.client.operations import Operation, chosen
from remote_gym.client.parts import Part
from remote_gym.client.request_sizes import SURE_BYTES, check_steps
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.settings import Settings
from remote_gym.client.shards import Shard
from remote_gym.client.transitions import TransitionReader
from remote_gym.client.unsent import Unsent
from remote_gym.errors import MisuseError, ProtocolError, RefusedError, SessionLost
from remote_gym.leaves import rows_at
from remote_gym.messages import Indices, Refused, Reset, Step, Transition, every


class Exchange(HandingOver):
    """Requests and parts of one vector environment.

    Attributes:
        over: (num_envs,) bool: whose episode is over and not yet reset.
        in_flight: (num_envs,) bool: who has an operation that is not answered yet. Kept once `counts` is set.
        counts: Whether to keep `in_flight`; to be set while nothing runs.
        began: Whether any environment was asked to reset.
        losses: Who was lost, and with which seed it begins again.
    """

    def __init__(
        self,
        fleet: Fleet,
        reader: TransitionReader,
        observations: Observations,
        settings: Settings,
        mover: Mover | None = None,
    ) -> None:
        """Ask through `fleet`; `settings` say which losses to make up for, `mover` finds other servers."""
        super().__init__(fleet, observations, settings, mover)
        self._everyone = range(fleet.num_envs)
        self._reader = reader
        self._unsent = Unsent[tuple[Shard, Step, Operation]](lambda part: self._send(*part), has_sent)
        self._handed: Sequence[Part] = ()  # returned last
        self.began = False
        self._pop: Callable[[], object] | None = None  # lets these not come again

    # Out

    def step(self, indices: Indices, actions: Actions, whole: bool = False) -> None:
        """Step the environments at `indices` (None: all); `whole`: what an interrupt keeps from a server follows."""
        everyone = self._everyone if indices is None else indices
        if sum([leaf.nbytes for leaf in actions.rows]) + len(actions.variable) + len(actions.given) > SURE_BYTES:
            check_steps(self._fleet, everyone, actions)
        if self._fleet.layout.restless or (self._mover is not None and self._mover.has_news()):
            self._let_go(everyone, resets=False)
        if self.losses.due or self.losses.untold:
            due = () if self._mode is AutoresetMode.DISABLED else self.losses.due  # their user resets them
            fresh = {index for index in everyone if index in due or index in self.losses.untold}
            if fresh:
                self._begin_again(sorted(fresh))
                if not (left := [at for at, index in enumerate(everyone) if index not in fresh]):
                    return
                everyone, actions = chosen(everyone, actions, left)
                indices = everyone
        if (only := self._fleet.layout.only) is not None:
            self._send(only, Step(0, indices, *actions), Operation(everyone, False))
            return
        shares = [(shard, *chosen(everyone, actions, positions)) for shard, positions in self._fleet.parts(indices)]
        parts = [(shard, Step(0, shard.local(own), *some), Operation(own, False)) for shard, own, some in shares]
        self._unsent.send(parts, whole)

    def reset(self, indices: Indices, seeds: Sequence[int | None], options: bytes) -> None:
        """Reset the environments at `indices` (None: all), each with its item of `seeds`."""
        self.began = True
        everyone = every(indices, self._fleet.num_envs)
        if self._fleet.homeless or self._mover is not None:
            self._let_go(everyone, resets=True)
        untold = self.losses.untold
        notes = {index: self.losses.tell(index) for index in everyone if index in untold} if untold else {}
        self._send_resets(Operation(everyone, True, options, self.losses.seed(everyone, seeds), notes))

    def reset_verbatim(self, seed: bytes, options: bytes, notes: dict[int, dict[str, Any]] | None = None) -> None:
        """Reset a hosted vector environment."""
        self.began = True
        (shard,) = self._fleet.layout.shards
        operation = Operation(range(self._fleet.num_envs), True, options, (), notes or {}, seed=seed)
        self._send(shard, Reset(0, None, seed, options), operation)

    def _send(self, shard: Shard, request: Reset | Step, operation: Operation) -> None:
        session = shard.session
        try:
            if self.counts:
                self._at_work(operation.indices, True)
            session.send(request, operation)
        except SessionLost as error:
            self._session_lost(shard, error, operation)
        except BaseException:
            if not has_sent((shard, request)):
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
        self._handed, self._pop = (), None
        if self._unsent.parts:
            self._unsent.send_rest()
        if self._settled:
            self._handed, self._pop = (self._settled[0],), self._settled.popleft
            return self._handed
        if self._fleet.homeless:
            self.adopt()
        shards = self._fleet.layout.shards
        try:
            if self._fleet.homeless:
                if (found := self._receive_moving(timeout_seconds)) is None:
                    return ()
                shard, arrival = found
            elif len(shards) == 1:
                shard, arrival = shards[0], shards[0].session.wait(timeout_seconds)
            else:
                shard, arrival = self._fleet.receive(timeout_seconds)
        except (SessionLost, ShardFailed) as error:
            failed = error if isinstance(error, ShardFailed) else ShardFailed(shards[0], error)
            self._session_lost(failed.shard, failed.error)
            return ()
        self._pop = partial(shard.session.took, arrival.answer)
        if isinstance(arrival.answer, Refused) and arrival.about is not None:
            self._refused(shard, arrival.answer, arrival.about)
        else:
            self._handed = self._parts(shard, arrival)
        return self._handed

    def _refused(self, shard: Shard, answer: Refused, operation: Operation) -> None:
        if self._drain(shard, answer, operation):
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
                self.deliver(lambda part: self.losses.retell(part.notes))  # a loss is never silent

    def took(self) -> None:
        """Take note that the parts returned last are where they belong."""
        left = False
        for part in self._handed:
            if part.leaving is not None:
                self._begin_elsewhere(part.leaving)
                left = True
            if self.counts and (part.indices is None or len(part.indices)):
                self.in_flight[slice(None) if part.indices is None else rows_at(part.indices)] = False
        if self._pop is not None:
            self._pop()
        if left:
            self._fleet.dismiss()

    def _parts(self, shard: Shard, arrival: Arrival) -> Sequence[Part]:
        """Return the parts that an answer is or stands for; made once, however often it is looked at."""
        if arrival.read is None:
            operation = arrival.about
            if operation is None:  # of a call that was interrupted
                arrival.read = ()
            else:
                arrival.read = self._settle(self._read(shard, arrival, operation), operation)
        return arrival.read  # type: ignore[no-any-return]

    def _read(self, shard: Shard, arrival: Arrival, operation: Operation) -> Part:
        session, answer = shard.session, arrival.answer
        try:
            if not isinstance(answer, Transition):
                raise ProtocolError(f"{type(answer).__name__} in answer to a reset or step")
            part = self._reader.read(answer, shard.first, shard.count)
            if operation.resets is not (part.rewards is None):
                raise ProtocolError("a step without rewards, or a reset with some")
        except Exception as error:
            raise session.misread(error) from error
        if part.rewards is not None:
            shard.took.append(arrival.seconds)
            shard.tally.env_steps += len(part.rewards)
        # Each env index is answered once per number of a session.
        part.source = (session, answer.number, 0 if part.indices is None else part.indices[0])
        return part

    def _settle(self, part: Part, operation: Operation) -> list[Part]:
        """Return what of `part` is ready; what was lost comes later or is made up for."""
        if part.indices is None and not (part.failures or operation.resets or self._fleet.layout.restless):  # as usual
            assert part.terminations is not None and part.truncations is not None
            self.over = part.terminations | part.truncations
            return [part]
        parts = [part] if not part.failures else list(self._without_lost(part, operation))
        if self._mode is AutoresetMode.SAME_STEP and self._fleet.layout.leaving and not operation.resets:
            parts = [self._without_leaving(one) if one.rewards is not None else one for one in parts]
        for ready in parts:
            if ready.indices is not None and not len(ready.indices):
                continue
            where = slice(None) if ready.indices is None else rows_at(ready.indices)
            self.over[where] = False if ready.terminations is None else ready.terminations | ready.truncations
            if ready.failures:
                self.over[[failure.index for failure in ready.failures]] = False
            if operation.resets:
                indices = every(ready.indices, self._fleet.num_envs)
                operation.mark(ready, indices)
                self.losses.was_reset(set(indices).difference(failure.index for failure in ready.failures))
                if self._places:
                    self._places = {index: place for index, place in self._places.items() if index not in indices}
        return parts

    @property
    def busy(self) -> bool:
        """Whether anything is still to come, also what an interrupt left behind."""
        waiting = [shard.session.waiting for shard in self._fleet.shards]
        return bool(self._settled or self._drained or self._homeless.held) or any(waiting)

    def check_busy(self, name: str) -> None:
        """Refuse to wait for what will never come.

        Raises:
            SessionLost, ProtocolError: A session is lost.
            NoAsyncCallError: An interrupt kept the reset or step `name` from being sent.
        """
        if not self.busy and not self._unsent.parts:
            for shard in self._fleet.shards:
                shard.session.check()
            raise NoAsyncCallError(f"the {name} was interrupted before it was sent", name)
