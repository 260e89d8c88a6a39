"""No I/O: which worker gets how many environments, and which env_ids are free. Decides; the pool performs."""

from __future__ import annotations

import heapq
from collections.abc import Sequence


class NoRoomError(Exception):
    """Environments were asked for that need more workers than there may be; nothing was started.

    Attributes:
        of_tenant: Whether it is the tenant's own limit, not that of all.
    """

    def __init__(self, message: str, of_tenant: bool = False) -> None:
        """Say why."""
        super().__init__(message)
        self.of_tenant = of_tenant


def room_for(num_envs: int, loads: Sequence[int], max_envs_per_worker: int | None) -> int:
    """Return how many environments a worker may hold; without `max_envs_per_worker` a number that limits nothing."""
    return max_envs_per_worker or num_envs + max(loads, default=0)


KNOWN_STEPS = 1_000
"""After so many steps it is known how long one takes."""

WORTH_SECONDS = 60e-6
"""Work of a round that is worth another worker: to ask and hear one costs the server nearly as much. On two cores 8
CartPoles were stepped in 241 us by one worker and 257 by two, 16 of them in 296 and 286."""


def worth(num_envs: int, steps: int, seconds: float) -> int | None:
    """Return how many workers are worth their cost to one session; None: that is not known, as many as there are.

    Args:
        num_envs: Environments of the session.
        steps: How many steps environments of this server have made.
        seconds: How long these took together.
    """
    if steps < KNOWN_STEPS:
        return None
    return max(1, int(num_envs * seconds / steps / WORTH_SECONDS))


def shares(num_envs: int, loads: Sequence[int], room: int, workers: int | None = None) -> list[tuple[int, int]]:
    """Spread `num_envs` evenly, least-loaded worker first.

    Args:
        num_envs: How many are to be placed.
        loads: How many environments each worker has. There must be room for all.
        room: How many a worker may have.
        workers: To how many of them, where there is room; None: all.

    Returns:
        Pairs (position of a worker in `loads`, how many it gets), in the order of their blocks; nobody gets none.
    """
    order = sorted(range(len(loads)), key=loads.__getitem__)
    if workers is not None and sum(room - loads[worker] for worker in order[:workers]) >= num_envs:
        order = order[:workers]
    given = dict.fromkeys(order, 0)
    left = num_envs
    while left:
        open_workers = [worker for worker in order if loads[worker] + given[worker] < room]
        each, extra = divmod(left, len(open_workers))
        for position, worker in enumerate(open_workers):
            count = min(each + (position < extra), room - loads[worker] - given[worker])
            given[worker] += count
            left -= count
    return [(worker, count) for worker, count in given.items() if count]


def plan(
    num_envs: int,
    loads: Sequence[int],
    num_workers: int,
    at_most: int,
    room: int,
    whole: bool = False,
    workers: int | None = None,
) -> list[tuple[int, int]] | None:
    """Decide where the environments of a session go, as if its tenant had all the workers it may have.

    Args:
        num_envs: How many are to be placed.
        loads: How many environments each worker of the tenant has.
        num_workers: Workers that a tenant may have in any case; more only where `room` asks for them.
        at_most: Workers that it may have for now.
        room: How many environments a worker may have.
        whole: All go into one worker, whatever the room.
        workers: As for `shares`.

    Returns:
        Pairs as of `shares`; positions beyond `loads` are of workers that are still to be had. None: there is no room.
    """
    count = max(len(loads), min(num_workers, at_most))
    if not whole:
        count += max(0, -(-(num_envs - _room(loads, count, room)) // room))
    if not 0 < count <= max(at_most, len(loads)):
        return None
    loads = [*loads, *[0] * (count - len(loads))]
    if whole:
        return [(min(range(count), key=loads.__getitem__), num_envs)]
    return shares(num_envs, loads, room, workers)


def _room(loads: Sequence[int], count: int, room: int) -> int:
    return sum(max(0, room - load) for load in loads) + (count - len(loads)) * room


class EnvIds:
    """The numbers of environments in their pool: unique while one lives, the lowest free one first."""

    def __init__(self) -> None:
        """All are free."""
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        """Return a free one."""
        if self._free:
            return heapq.heappop(self._free)
        self._next += 1
        return self._next - 1

    def give_back(self, env_id: int) -> None:
        """May be taken again."""
        heapq.heappush(self._free, env_id)
