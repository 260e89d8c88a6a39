"""Parent side: all workers of a server, and whose they are.

A *tenant* is who shares workers with nobody else: a principal, or a single session, as the server has it; here it is a
word. A worker is nobody's when it starts, and belongs to the first tenant whose environments it hosts: these may leave
threads, open files or patched modules behind, so it is never another's. It ends when its tenant has long gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from remote_gym.pool.placement import NoRoomError, plan, room_for, worth
from remote_gym.pool.worker_process import WorkerProcess

logger = logging.getLogger("remote_gym.pool")

WARM_SECONDS = 30.0
"""How long a tenant's workers are kept after its last session: who opens one after the other does not wait for their
start, nor for what they have imported."""

CLOSING_SECONDS = 1.0
"""Until one is looked at again that was still closing environments when it was to end."""


class Workforce:
    """The workers, which come and go.

    Guarantees: while nobody needs more there are `num_workers`, and as long as one tenant only has ever come these are
    the same ones, as if there were no tenants.

    Attributes:
        workers: All but those that are ending; a lost one until there is another in its place.
    """

    def __init__(
        self,
        num_workers: int,
        max_workers: int,
        warm_seconds: float,
        start: Callable[[], Awaitable[WorkerProcess]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Have none yet.

        Args:
            num_workers: That there are at least, and that one tenant has without further need.
            max_workers: That there are at most.
            warm_seconds: See `WARM_SECONDS`; 0: they end at once, also if their tenant is the only one.
            start: Starts one.
            spawn: Runs what goes on in the background.
        """
        self.num_workers = num_workers
        self.max_workers = max_workers
        self.workers: list[WorkerProcess] = []
        self._changing = asyncio.Lock()  # held by who decides and then starts workers, which takes a moment
        self._warm_seconds = warm_seconds
        self._start = start
        self._spawn = spawn
        self._stopped = False
        self._ended_steps = 0, 0.0  # in workers that have ended
        self._only: str | None = None  # the only tenant that has ever come
        self._several = False
        self._cooling: dict[str, asyncio.TimerHandle] = {}  # tenants without environments -> when their workers end

    def stop(self) -> None:
        """Begin nothing any more; who hosts what still runs is the caller's to stop."""
        self._stopped = True
        for timer in self._cooling.values():
            timer.cancel()
        self._cooling.clear()

    def of(self, tenant: str | None) -> list[WorkerProcess]:
        """Return the living workers of `tenant`; None: those that are nobody's."""
        return [worker for worker in self.workers if worker.tenant == tenant and worker.lost is None]

    def concerning(self, tenant: str) -> list[WorkerProcess]:
        """Return the workers that `tenant` may use, those that are lost and will be replaced among them."""
        return [worker for worker in self.workers if worker.tenant in (tenant, None)]

    def _at_most(self, tenant: str) -> int:
        """Return how many workers `tenant` may have now: what others need is theirs."""
        own = self.concerning(tenant)
        return self.max_workers - sum(worker not in own and not _is_unused(worker) for worker in self.workers)

    async def find_room(
        self, num_envs: int, whole: bool, tenant: str, max_envs_per_worker: int | None, max_workers: int | None
    ) -> list[tuple[WorkerProcess, int]]:
        """Return which workers get how many environments: those that `tenant` has, and others that are nobody's.

        Arguments and errors are those of `Pool.place`. Only until the caller awaits something is nobody else told of
        the same workers.
        """
        async with self._changing:
            try:
                return await self._find_room(num_envs, whole, tenant, max_envs_per_worker, max_workers)
            except BaseException:
                self.trim()
                raise

    async def _find_room(
        self, num_envs: int, whole: bool, tenant: str, each: int | None, max_workers: int | None
    ) -> list[tuple[WorkerProcess, int]]:
        short: Exception | None = None
        while True:
            own = self.of(tenant)
            new = sorted(self.of(None), key=lambda worker: not worker.groups)  # where `probe` has built comes first
            free = self._at_most(tenant) if short is None else len(own) + len(new)
            at_most = free if max_workers is None else min(free, max_workers)
            loads = [worker.num_envs for worker in own]
            room = room_for(num_envs, loads, each)
            placed = plan(num_envs, loads, self.num_workers, at_most, room, whole, worth(num_envs, *self._steps()))
            if placed is None:
                raise short or self._no_room(num_envs, each, free, max_workers)
            wanted = max(0, *(position - len(own) + 1 for position, _ in placed))
            if wanted <= len(new):
                return [((own + new)[position], count) for position, count in placed]
            try:
                await self._recruit(wanted, tenant)
            except (OSError, MemoryError) as error:
                short = error  # fewer may do

    def _steps(self) -> tuple[int, float]:
        """Return how many steps environments of this server have made, and how many seconds these took together."""
        told = [self._ended_steps, *(worker.steps for worker in self.workers)]
        return sum(steps for steps, _ in told), sum(seconds for _, seconds in told)

    def _no_room(self, num_envs: int, each: int | None, free: int, max_workers: int | None) -> NoRoomError:
        what = f"{num_envs} environments" + (f", {each} in a worker," if each else "")
        if max_workers is not None and max_workers < free:
            return NoRoomError(
                f"{what} would take more workers than one client may have: the limit is {max_workers}", True
            )
        others = f", and others use {self.max_workers - free} of them" if free < self.max_workers else ""
        return NoRoomError(f"{what} would take more workers than there may be: the limit is {self.max_workers}{others}")

    async def recruit(self, count: int, tenant: str) -> list[WorkerProcess]:
        """Return at least `count` workers that are nobody's, and that `tenant` wants to use.

        Raises:
            NoRoomError: There are as many workers as may be.
            OSError, MemoryError: One could not be started.
        """
        async with self._changing:
            await self._recruit(count, tenant)
            return self.of(None)

    async def _recruit(self, count: int, tenant: str) -> None:
        while len(self.of(None)) < count:
            if len(self.workers) >= self.max_workers:
                others = [worker for worker in self.workers if worker.tenant not in (tenant, None)]
                unused = [worker for worker in others if _is_unused(worker)]
                if not unused:
                    raise NoRoomError(f"all workers are in use: the limit is {self.max_workers}")
                self._end(min(unused, key=lambda worker: worker.tenant not in self._cooling))
            self.workers.append(await self._start())

    def assign(self, worker: WorkerProcess, tenant: str) -> None:
        """Make `worker`, nobody's or its own, the place of environments of `tenant`."""
        worker.tenant = tenant
        self._warm(tenant)
        if self._several or tenant == self._only:
            return
        if self._only is None:
            self._only = tenant
            return
        self._several = True  # so the first one's workers do not stay for good
        if self._is_away(self._only):
            self._cool(self._only)

    def vacated(self, worker: WorkerProcess) -> None:
        """Take note that environments in `worker` were closed; it ends, now or later, if nobody needs it."""
        tenant = worker.tenant
        if self._stopped or worker.groups or tenant is None:
            return
        own = self.of(tenant)
        if worker in own and len(own) > self.num_workers:  # it was added when it was needed
            self._end(worker)
        elif self._is_away(tenant):
            self._cool(tenant)

    def _is_away(self, tenant: str) -> bool:
        return not any(worker.groups for worker in self.workers if worker.tenant == tenant)

    def _cool(self, tenant: str) -> None:
        """End the workers of `tenant`, which hosts nothing any more, when it has not come back for a while."""
        if self._warm_seconds == 0:
            self._cold(tenant)
        elif self._several and tenant not in self._cooling:
            self._cool_for(tenant, self._warm_seconds)

    def _warm(self, tenant: str) -> None:
        if (timer := self._cooling.pop(tenant, None)) is not None:
            timer.cancel()

    def _cool_for(self, tenant: str, seconds: float) -> None:
        self._cooling[tenant] = asyncio.get_running_loop().call_later(seconds, self._cold, tenant)

    def _cold(self, tenant: str) -> None:
        self._warm(tenant)
        if not self._is_away(tenant):
            return
        for worker in self.of(tenant):
            if worker.idle:
                self._end(worker)
        if self.of(tenant):  # it is still closing environments, for as long as that may take
            self._cool_for(tenant, CLOSING_SECONDS)

    def replaces(self, old: WorkerProcess, new: WorkerProcess) -> None:
        """Put `new` in the place of `old`, which is lost. It is a new process: nobody's, if nobody is to live there."""
        self.workers[self.workers.index(old)] = new
        new.tenant = old.tenant if old.groups else None
        self.trim()

    def is_wanted(self, worker: WorkerProcess) -> bool:
        """Return whether another is to be started in the place of `worker`, which is lost."""
        return worker in self.workers and (bool(worker.groups) or len(self.workers) <= self.num_workers)

    def trim(self) -> None:
        """End workers that were started for somebody who did not take them; start what could not be started before."""
        for worker in self.of(None):
            if len(self.workers) > self.num_workers and not worker.groups:
                self._end(worker)
        self._refill_soon()

    def _refill_soon(self) -> None:
        if len(self.workers) < self.num_workers and not self._stopped:
            self._spawn(self.refill())

    def dismiss(self, worker: WorkerProcess) -> None:
        """Take note that there will be no other in the place of `worker`, which is lost."""
        if worker in self.workers:
            self.workers.remove(worker)

    def _end(self, worker: WorkerProcess) -> None:
        if self._stopped:
            return
        logger.debug("%s ends: nobody needs it", worker.name)
        self.workers.remove(worker)
        (steps, seconds), (more, took) = self._ended_steps, worker.steps
        self._ended_steps = steps + more, seconds + took
        self._spawn(worker.stop())
        self._refill_soon()

    async def refill(self) -> None:
        """Start workers for whoever comes next, until there are `num_workers`."""
        async with self._changing:
            try:
                while len(self.workers) < self.num_workers and not self._stopped:
                    self.workers.append(await self._start())
            except (OSError, MemoryError) as error:  # who comes next tries again
                logger.warning("no new worker could be started: %s", error)


def _is_unused(worker: WorkerProcess) -> bool:
    """Return whether `worker` may be ended for another tenant's sake."""
    return worker.lost is None and not worker.groups and worker.idle
