"""Parent side: consecutive environments of one session in one worker."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from remote_gym.pool.exits import WorkerLost
from remote_gym.pool.worker_process import WorkerProcess

OnLost = Callable[["Block", WorkerLost, bool], None]
OnDied = Callable[["Block", WorkerLost], None]


@dataclass
class Block:
    """Consecutive environments of one session in one worker.

    Attributes:
        worker: Replaced when it dies.
        group: Their number as the worker knows them.
        first: The first env index.
        env_ids: Ids in the pool, by env index from `first` on.
        on_lost: Called with (block, why, rebuild) when a new worker is there, after the callbacks of the commands that
            died with the old one. `rebuild` is False when the restart budget is used up.
        on_died: Called with (block, why) at once, after the callbacks of the commands that died with the worker.
        spare: The group in the same worker whose environment was built by `probe` and is to be used as the first.
        deaths: When its worker died of it, on the monotonic clock, as far back as the restart budget looks.
        given_up: Whether it has used up its restart budget: it is not built again.
    """

    worker: WorkerProcess
    group: int
    first: int
    env_ids: list[int]
    on_lost: OnLost
    on_died: OnDied = lambda _block, _lost: None
    spare: int | None = None
    deaths: deque[float] = field(default_factory=deque)
    given_up: bool = False

    @property
    def stop(self) -> int:
        """The env index after the last."""
        return self.first + len(self.env_ids)
