"""Trainer process, no I/O: environments whose server was lost and that have no other one yet, and what waits for them.

Only resets wait: whoever has lost an episode begins another one. Each waits until its environments have a server again,
or until its time is up and a placeholder stands in for its answer. An environment has one operation at a time, so a
newer one takes the place of an older one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from remote_gym.client.fleet import has_sent
from remote_gym.client.operations import Operation
from remote_gym.client.shards import Shard
from remote_gym.messages import Reset


@dataclass(eq=False)
class Held:
    """A reset that waits.

    Attributes:
        operation: It.
        deadline: When its time is up, on the monotonic clock.
        part: Once there is a server: what is sent to it; an interrupt may keep it from being sent.
    """

    operation: Operation
    deadline: float
    part: tuple[Shard, Reset] | None = None

    @property
    def waits(self) -> bool:
        """Whether no server was found for it."""
        return self.part is None


@dataclass
class Homeless:
    """What waits.

    Attributes:
        held: Resets, the oldest first. Assigned whole: an interrupt leaves the old ones or the new ones.
    """

    held: list[Held] = field(default_factory=list)

    def hold(self, operation: Operation, deadline: float) -> None:
        """Let `operation` wait."""
        self.held = [*self._without(operation.indices), Held(operation, deadline)]

    def _without(self, indices: Iterable[int]) -> list[Held]:
        gone = set(indices)
        kept = []
        for one in self.held:
            left = [index for index in one.operation.indices if index not in gone]
            if len(left) == len(one.operation.indices):
                kept.append(one)
            elif left:
                kept.append(Held(one.operation.some(left), one.deadline))
        return kept

    def housed(self, rows: Iterable[int]) -> None:
        """Set apart what waits for `rows`, which have a server now; `ready` are those."""
        home = set(rows)
        held: list[Held] = []
        for one in self.held:
            inside = [index for index in one.operation.indices if index in home]
            outside = [index for index in one.operation.indices if index not in home]
            if not one.waits or not inside or not outside:
                held.append(one)
            else:
                held += [
                    Held(one.operation.some(inside), one.deadline),
                    Held(one.operation.some(outside), one.deadline),
                ]
        self.held = held

    def ready(self, rows: Iterable[int]) -> list[Held]:
        """Return what is for `rows` only, and not sent yet."""
        home = set(rows)
        return [one for one in self.held if home.issuperset(one.operation.indices)]

    def unsent(self) -> list[Held]:
        """Return what has a server and may not be on its way, after an interrupt."""
        return [one for one in self.held if one.part is not None and not has_sent(one.part)]

    def drop(self, gone: Sequence[Held]) -> None:
        """Forget these: they are on their way, or answered."""
        self.held = [one for one in self.held if one not in gone]

    @property
    def deadline(self) -> float | None:
        """When the time of the first is up; None: none waits."""
        return min((one.deadline for one in self.held if one.waits), default=None)

    def overdue(self, now: float) -> list[Held]:
        """Return those whose time is up."""
        return [one for one in self.held if one.waits and one.deadline <= now]
