"""Parent side: where all environments of a server are. Places them, replaces lost workers, watches deadlines.

A worker is one unit of delay and failure: its environments, of whatever session of one tenant, share its fate.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace

from remote_gym import failpoints
from remote_gym.ipc.commands import CloseGroup
from remote_gym.pool.block import Block, OnDied, OnLost
from remote_gym.pool.exits import WorkerLost
from remote_gym.pool.placement import EnvIds
from remote_gym.pool.reserve import Ballast
from remote_gym.pool.restarts import RESTART_WAITS_SECONDS, BackOff, Budget, guilty_group
from remote_gym.pool.surroundings import Surroundings
from remote_gym.pool.worker_process import WorkerProcess
from remote_gym.pool.workforce import WARM_SECONDS, Workforce

logger = logging.getLogger("remote_gym.pool")


@dataclass(frozen=True)
class Timeouts:
    """Seconds one environment may take, per operation; None: no limit."""

    build: float | None = 300.0
    reset: float | None = 300.0
    step: float | None = 60.0

    def by_operation(self) -> dict[str, float | None]:
        """Return the limits by the names on a worker's board. Calls and renders are limited like steps."""
        return {
            "build": self.build,
            "reset": self.reset,
            "step": self.step,
            "call": self.step,
            "render": self.step,
            "close": self.step,
        }


Recipe = tuple[bytes, "str | None"]
"""Packed entrypoint_kwargs and render mode: two sessions with equal recipes get equal environments."""


class Pool:
    """The workers, which env_ids are taken, and where everything is."""

    def __init__(
        self,
        num_workers: int,
        max_envs_per_worker: int | None,
        timeouts: Timeouts,
        restart_budget: tuple[int, float] | None,
        max_workers: int,
        surroundings: Surroundings | None = None,
        warm_seconds: float = WARM_SECONDS,
    ) -> None:
        """Prepare; `start` starts the workers."""
        self._force = Workforce(num_workers, max_workers, warm_seconds, self._new_worker, self._spawn)
        self._surroundings = Surroundings.here() if surroundings is None else surroundings
        self._budget = Budget(restart_budget)
        self._back_off = BackOff()
        self._ballast = Ballast()  # for workers in place of dead ones
        self.restarts = 0  # workers replaced since the start
        self.on_worker_lost: Callable[[WorkerProcess, WorkerLost], None] = lambda _worker, _lost: None  # while it runs
        self._spare: tuple[Recipe, Block] | None = None
        self.num_workers = num_workers
        self._max_envs_per_worker = max_envs_per_worker
        self._limits = timeouts.by_operation()
        self.num_envs = 0
        self.hosts_vector: bool | None = None  # whether the entrypoint makes vector environments, once that is known
        self._blocks: dict[int, Block] = {}
        self._groups = itertools.count(1)
        self._names = itertools.count()
        self._env_ids = EnvIds()
        self._tasks: set[asyncio.Task[None]] = set()
        self._replacing: set[asyncio.Task[None]] = set()
        self._watch_task: asyncio.Task[None] | None = None
        self._stopping = False
        self._stop_begun = asyncio.Event()

    @property
    def workers(self) -> list[WorkerProcess]:
        """All workers, whosever they are."""
        return self._force.workers

    @property
    def env_step_seconds(self) -> float:
        """How long one environment's step takes in a worker, lately: the mean over those that know; 0: none does."""
        known = [seconds for worker in self.workers if (seconds := worker.step_seconds) > 0]
        return sum(known) / len(known) if known else 0.0

    async def start(self) -> None:
        """Start all workers, in parallel, and the watch over their deadlines.

        Raises:
            OSError, MemoryError: One could not be started. `stop` ends the others.
        """
        starting = (self._new_worker() for _ in range(self.num_workers))
        started = await asyncio.gather(*starting, return_exceptions=True)
        self.workers.extend(worker for worker in started if isinstance(worker, WorkerProcess))
        for error in started:
            if isinstance(error, BaseException):
                raise error
        self._ballast.fill()
        self._watch_task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Close all environments and end all workers; bounded in time."""
        self._stopping = True
        self._stop_begun.set()
        self._force.stop()
        if self._watch_task is not None:
            self._watch_task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._ballast.drop()
        await asyncio.gather(*(worker.stop() for worker in self.workers), return_exceptions=True)

    async def _new_worker(self, name: str | None = None) -> WorkerProcess:
        worker = WorkerProcess(name or f"worker {next(self._names)}", self._worker_gone, self._surroundings)
        await worker.start()
        if self._stopping:  # meanwhile: nobody else would end it
            await worker.stop()
            raise OSError("the server is going away")
        return worker

    async def probe(self, recipe: Recipe, build: Callable[[Block], Awaitable[bool]], num_envs: int = 1) -> None:
        """Build environments by `build`, to find out whether they can be; if that says so of one, it is kept.

        Args:
            recipe: What it is built of; a session that asks for the same gets it.
            build: Builds in a block, and says whether what is there can be the first of a session.
            num_envs: How many; one that is kept is alone.

        Raises:
            Exception: Whatever `build` raises; nothing is kept then.
        """
        block = Block(self.workers[0], next(self._groups), 0, [], lambda _block, _lost, _rebuild: self._drop_spare())
        self._settle(block, num_envs)
        try:
            keep = await build(block)
        except BaseException:
            self.release(block)
            raise
        if keep:
            self._spare = (recipe, block)
        else:
            self.release(block)

    def _drop_spare(self) -> None:
        if self._spare is not None:
            (_, block), self._spare = self._spare, None
            self.release(block)

    async def worker_to_ask(self, tenant: str) -> WorkerProcess:
        """Return a worker that `tenant` may ask something about the entrypoint before it has environments.

        Raises:
            NoRoomError: There was none, and there may be no more.
            OSError, MemoryError: None could be started.
        """
        await self._mended(tenant)
        usable = self._force.of(tenant) or self._force.of(None) or await self._force.recruit(1, tenant)
        return min(usable, key=lambda worker: worker.num_envs)

    async def place(
        self,
        num_envs: int,
        on_lost: OnLost,
        recipe: Recipe | None,
        whole: bool = False,
        on_died: OnDied = lambda _block, _lost: None,
        tenant: str = "",
        max_workers: int | None = None,
    ) -> list[Block]:
        """Reserve env_ids and spread `num_envs` over workers: contiguous blocks, least-loaded worker first.

        A tenant has `num_workers` workers, or as many as there may be for it, started when it first needs them; with
        `max_envs_per_worker`, more are added as needed and leave with their last environment. The environment that
        `probe` has built becomes one of the first session if its recipe is the same, and is closed otherwise.

        Args:
            num_envs: How many environments.
            on_lost: As for `Block`.
            recipe: What they are built of.
            whole: All go into one worker: a hosted vector environment is never split.
            on_died: As for `Block`.
            tenant: Whose they are: they share workers with those of the same tenant only.
            max_workers: Workers that this tenant may have; None: no limit but that of all.

        Raises:
            NoRoomError: It would take more workers than there may be, of all or of this tenant.
            OSError, MemoryError: A worker that was needed could not be started; those that could are ended again.
        """
        force = self._force
        await self._mended(tenant)
        placed = await force.find_room(num_envs, whole, tenant, self._max_envs_per_worker, max_workers)
        spare = self._take_spare(recipe)  # from here on nothing is awaited: what was found is still so
        blocks, first = [], 0
        for worker, count in placed:
            force.assign(worker, tenant)
            block = Block(worker, next(self._groups), first, [], on_lost, on_died)
            if spare is not None and spare.worker is worker:
                block.spare, block.env_ids, spare = spare.group, list(spare.env_ids), None
            self._settle(block, count)
            blocks.append(block)
            first += count
        if spare is not None:  # its worker got no block
            self._settle(spare, 1)
            self.release(spare)
        force.trim()
        return blocks

    async def _mended(self, tenant: str) -> None:
        """Wait until the lost workers that `tenant` may use are replaced; it does not wait for others'."""
        while self._replacing and any(worker.lost is not None for worker in self._force.concerning(tenant)):
            await asyncio.wait(self._replacing, return_when=asyncio.FIRST_COMPLETED)

    def _settle(self, block: Block, count: int) -> None:
        """Give `block` env_ids until it has `count`, and a place in its worker."""
        block.env_ids += [self._env_ids.take() for _ in range(count - len(block.env_ids))]
        self._adopt(block, block.worker)
        self.num_envs += count

    def _take_spare(self, recipe: Recipe | None) -> Block | None:
        """Return the block of the environment built by `probe` if it fits `recipe`, no longer placed."""
        if self._spare is None or recipe is None:
            return None
        (built_by, block), self._spare = self._spare, None
        if built_by != recipe or block.worker.lost is not None:
            self.release(block)
            return None
        del self._blocks[block.group]
        block.worker.leave(block.group, 1)
        self.num_envs -= 1
        return block

    def _adopt(self, block: Block, worker: WorkerProcess) -> None:
        block.worker = worker
        worker.enter(block.group, len(block.env_ids))
        self._blocks[block.group] = block

    def release(self, block: Block) -> None:
        """Close the environments of `block` and forget it; its env_ids may be used again."""
        if self._blocks.pop(block.group, None) is None:
            return
        worker = block.worker
        worker.leave(block.group, len(block.env_ids))
        self.num_envs -= len(block.env_ids)

        def closed(_result: object) -> None:
            for env_id in block.env_ids:
                self._env_ids.give_back(env_id)
            self._force.vacated(worker)

        worker.submit(CloseGroup(block.group), closed)

    def _worker_gone(self, worker: WorkerProcess, lost: WorkerLost) -> None:
        if worker.stopping or self._stopping:
            return
        failpoints.hit("server.worker.lost")
        logger.error("%s (process %d) was lost: %s", worker.name, worker.pid, lost.reason)
        self.on_worker_lost(worker, lost)
        for block in self._hosted_by(worker):
            block.on_died(block, lost)
        task = self._spawn(self._replace(worker, lost))
        self._replacing.add(task)
        task.add_done_callback(self._replacing.discard)

    async def _replace(self, worker: WorkerProcess, lost: WorkerLost) -> None:
        """Start a new worker in place of `worker` and tell the owners of its blocks."""
        if delay := self._back_off.after_death(worker.name, worker.has_answered):
            logger.warning("%s died while it started; the next one starts in %.1f s", worker.name, delay)
            await self._wait_or_stop(delay)
        if self._stopping:
            return
        if not self._force.is_wanted(worker):
            self._force.dismiss(worker)
            return
        blocks = self._hosted_by(worker)
        guilty = guilty_group([block.group for block in blocks], lost.group)
        if guilty is not None:
            block = self._blocks[guilty]
            block.given_up = not self._budget.forgives(block.deaths, time.monotonic())
        try:
            new = await self._start_again(worker.name)
        except (OSError, MemoryError) as error:
            logger.error("no new %s could be started, its environments stay lost: %s", worker.name, error)
            self._force.dismiss(worker)
            lost = replace(lost, reason=f"{lost.reason}; not rebuilt, no new worker could be started: {error}")
            for block in blocks:
                block.on_lost(block, lost, False)
            return
        self._force.replaces(worker, new)
        self.restarts += 1
        new.restarts = worker.restarts + 1
        for group in worker.groups - {block.group for block in blocks}:
            self._adopt(self._blocks[group], new)  # given up; its places are still taken
        failpoints.hit("server.worker.replaced")
        for block in blocks:
            if block.group in self._blocks:  # not released meanwhile
                self._adopt(block, new)
                used_up = f"{lost.reason}; not rebuilt, the restart budget is used up"
                block.on_lost(block, replace(lost, reason=used_up) if block.given_up else lost, not block.given_up)

    def _hosted_by(self, worker: WorkerProcess) -> list[Block]:
        """Return the blocks of `worker` that are still built again."""
        return [block for group in worker.groups if not (block := self._blocks[group]).given_up]

    async def _wait_or_stop(self, seconds: float) -> bool:
        """Wait, but no longer than until the pool stops; return whether it does."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._stop_begun.wait(), seconds)
        return self._stopping

    async def _start_again(self, name: str) -> WorkerProcess:
        """Start a worker in place of a lost one; what is short now may be there in a moment.

        Raises:
            OSError, MemoryError: It could not be started, for all of `RESTART_WAITS_SECONDS`.
        """
        for wait in RESTART_WAITS_SECONDS:
            try:
                with self._ballast.released():
                    return await self._new_worker(name)
            except (OSError, MemoryError) as error:
                logger.warning("no new %s could be started, trying again: %s", name, error)
            if await self._wait_or_stop(wait):
                break
        return await self._new_worker(name)

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _watch(self) -> None:
        """Check all deadlines, often enough for the shortest of them."""
        shortest = min((limit for limit in self._limits.values() if limit is not None), default=60.0)
        interval = min(1.0, max(0.02, shortest / 8))
        before = time.monotonic()
        while True:
            await asyncio.sleep(interval)
            now = time.monotonic()
            # While the server itself was suspended its workers may have been too: such time does not count.
            elapsed, before = min(now - before, 2 * interval), now
            for worker in self.workers:
                worker.check_deadline(self._limits, elapsed)
