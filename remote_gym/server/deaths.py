"""Server process: the workers that were lost lately, for who looks on: why, and what their environments had printed.

What was printed is kept by session, and told to who may see that. All of it is bounded: by `MAX_DEATHS`, and for each
by `MAX_SESSIONS` and `MAX_OUTPUT_CHARACTERS`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

from remote_gym.figures import WorkerLoss
from remote_gym.pool import Block, WorkerLost, WorkerProcess
from remote_gym.server.principals import Principal
from remote_gym.texts import printable

MAX_DEATHS = 64
"""That are remembered."""

TOLD_AT_FIRST = 32
"""Of those, how many somebody is told who has just come."""

MAX_SESSIONS = 64
"""Of one death."""

MAX_OUTPUT_CHARACTERS = 4_096
"""Of what all environments of one worker had printed last: the end of it."""


class Hit(Protocol):
    """A session, as far as it is of interest here."""

    id: bytes
    principal: Principal

    @property
    def blocks(self) -> Sequence[Block]:
        """Where its environments live."""


class _Concerned(NamedTuple):
    id: bytes
    principal: str
    output: str


class _Death(NamedTuple):
    number: int
    time: float
    worker: int
    process: int
    reason: str
    concerned: list[_Concerned]


class Deaths:
    """Of one server's workers.

    Attributes:
        count: How many there were.
    """

    def __init__(self) -> None:
        """There were none."""
        self.count = 0
        self._deaths: deque[_Death] = deque(maxlen=MAX_DEATHS)

    def note(self, worker: WorkerProcess, lost: WorkerLost, sessions: Iterable[Hit]) -> None:
        """Take note that `worker` was lost; `sessions` are all that there are."""
        concerned: list[_Concerned] = []
        for session in sessions:
            groups = [block.group for block in session.blocks if block.worker is worker]
            if groups and len(concerned) < MAX_SESSIONS:
                output = "\n".join(filter(None, map(lost.tail, groups)))
                concerned.append(_Concerned(session.id, session.principal.name, output))
        each = MAX_OUTPUT_CHARACTERS // max(1, len(concerned))
        concerned = [one._replace(output=one.output[-each:]) for one in concerned]
        self.count += 1
        reason = printable(lost.reason)
        self._deaths.append(_Death(self.count, time.time(), worker.number, worker.pid, reason, concerned))

    def between(
        self, told: int, until: int, may_see: Callable[[str, bytes], bool], is_operator: bool
    ) -> list[WorkerLoss]:
        """Return those after the first `told`, up to the one numbered `until`, as far as they may be seen.

        Args:
            told: See above.
            until: See above.
            may_see: Whether the watcher sees a session, by its principal's name and id.
            is_operator: Whether it sees deaths that concern nobody.
        """
        seen = []
        for death in self._deaths:
            if not told < death.number <= until:
                continue
            concerned = [one for one in death.concerned if may_see(one.principal, one.id)]
            if not concerned and not (is_operator and not death.concerned):
                continue
            output = "\n".join(one.output for one in concerned if one.output)
            seen.append(
                WorkerLoss(
                    death.number, death.time, death.worker, death.process, death.reason, output,
                    [one.id for one in concerned],
                )
            )  # fmt: skip
        return seen
