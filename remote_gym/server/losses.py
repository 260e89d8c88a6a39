"""Server process: what a session tells of its lost workers, and what waits until they are replaced.

An environment's owner is told of its loss once: by what was in flight when its worker died or, if nothing was, by the
next step (a call is answered with the loss too, but only a step or reset settles it; a reset needs no telling).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from remote_gym.messages import Failure, FailureKind, Request, Reset, Step
from remote_gym.pool import Block, Callback, Command, NotBuilt, WorkerLost
from remote_gym.server.portions import Portion


class Builder(Protocol):
    """What builds a block anew; `Opening` does."""

    @property
    def can_rebuild(self) -> bool:
        """Whether it is known by now what to build, and still wanted."""

    def rebuild(self, block: Block, callback: Callback) -> None:
        """Build `block` in its new worker and hand it the rows; `callback` gets the result of building."""


class Losses:
    """The lost workers of one session.

    Relies on: the pool tells of a death after the callbacks of all that died with it, and of the new worker after that.

    Attributes:
        broken: Why a group will not be built again.
        untold: The loss of an env index, of which its owner does not know.
    """

    def __init__(self, builder: Builder) -> None:
        """Nothing is lost yet."""
        self._builder = builder
        self.broken: dict[int, WorkerLost] = {}
        self.untold: dict[int, WorkerLost] = {}
        self._told: set[int] = set()  # env indices whose owner was told by what was in flight when the worker died
        self._postponed: dict[int, list[tuple[Command, Callback]]] = {}  # group -> what waits until it is rebuilt

    # From the pool

    def worker_died(self, block: Block, lost: WorkerLost) -> None:
        """Take note of whom nobody has told."""
        own = set(range(block.first, block.stop))
        self.untold.update(dict.fromkeys(own - self._told, lost))
        self._told -= own

    def worker_replaced(self, block: Block, lost: WorkerLost, rebuild: bool) -> None:
        """Build the environments of `block` anew in its new worker, then run what was postponed."""
        if not self._builder.can_rebuild:
            return  # not open yet: opening fails by itself

        def built(result: Any) -> None:
            # A WorkerLost is told again with the next worker, until the budget is used up.
            if isinstance(result, NotBuilt):
                failure = result.failure
                self.broken[block.group] = WorkerLost(
                    f"not rebuilt: {failure.type}: {failure.message}", lost.env_id, tails={block.group: failure.detail}
                )

        if rebuild:
            self._builder.rebuild(block, built)
        else:
            self.broken[block.group] = lost
        for command, callback in self._postponed.pop(block.group, []):
            self.submit(block, command, callback)

    # From requests

    def submit(self, block: Block, command: Command, callback: Callback) -> None:
        """Submit `command` to the worker of `block`, once there is one; `callback` hears of a loss for good at once."""
        broken = self.broken.get(block.group)
        if broken is not None:
            asyncio.get_running_loop().call_soon(callback, broken)
        elif block.worker.lost is not None:  # a new worker is on its way
            self._postponed.setdefault(block.group, []).append((command, callback))
        else:
            block.worker.submit(command, callback)

    def told_instead(self, request: Request, asked: Sequence[Portion]) -> tuple[list[Portion], list[Failure]]:
        """Take out of a request the environments whose loss is to be told instead.

        Returns:
            What is left to be run, and the failures of the others.
        """
        left: list[Portion] = []
        failures: list[Failure] = []
        for portion in asked:
            block, _, positions = portion
            if isinstance(request, Reset):
                for index in portion.indices:
                    self.untold.pop(index, None)
            lost = [index for index in portion.indices if index in self.untold]
            if lost:
                failures += [failure_of(index, block, self.untold[index]) for index in lost]
                gone = set(lost)
                kept = [(index, at) for index, at in zip(portion.indices, positions, strict=True) if index not in gone]
                portion = Portion(block, [index for index, _ in kept], [at for _, at in kept])
            if portion.positions:
                left.append(portion)
            if isinstance(request, Step):
                for index in lost:
                    del self.untold[index]
        return left, failures

    def loss_of(self, block: Block) -> WorkerLost:
        """Return why a worker has no environments of `block`."""
        return self.broken.get(block.group) or WorkerLost("not rebuilt", block.env_ids[0])

    def told_now(self, request: Request, block: Block, indices: Iterable[int], lost: WorkerLost) -> list[Failure]:
        """Return the failures of what was in flight at `indices` of `block` when its worker died."""
        final = lost is self.broken.get(block.group)
        if isinstance(request, (Step, Reset)):
            self._told.update(indices)
        return [failure_of(index, block, lost, final) for index in indices]


def failure_of(index: int, block: Block, lost: WorkerLost, final: bool = False) -> Failure:
    """Return what to tell the owner of env index `index`; `final`: it will not be built again."""
    env_id = block.env_ids[index - block.first]
    message = f"environment {index} (env_id {env_id}) was lost: its worker was {lost.reason}"
    return Failure(index, FailureKind.GONE if final else FailureKind.LOST, lost.reason, message, lost.tail(block.group))
