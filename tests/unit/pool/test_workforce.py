"""Whose workers are, when they come and when they go: with workers that are no processes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from remote_gym.pool.placement import NoRoomError, room_for, shares
from remote_gym.pool.workforce import Workforce


class Worker:
    """A worker as the workforce sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tenant: str | None = None
        self.lost: Any = None
        self.groups: set[int] = set()
        self.num_envs = 0
        self.steps = 0, 0.0
        self.idle = True
        self.stopped = False

    async def stop(self) -> None:
        self.stopped = True


class Stage:
    """A workforce, and a tenant's coming and going."""

    def __init__(self, num_workers: int = 2, max_workers: int = 4, warm_seconds: float = 0.05) -> None:
        self.started = 0
        self.short = False
        self.tasks: list[asyncio.Task[None]] = []
        self.force = Workforce(num_workers, max_workers, warm_seconds, self.start, self.spawn)

    async def start(self) -> Any:
        await asyncio.sleep(0)
        if self.short:
            raise OSError("no descriptors")
        self.started += 1
        return Worker(f"worker {self.started}")

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.tasks.append(asyncio.ensure_future(coroutine))
        return self.tasks[-1]

    async def comes(self, tenant: str, num_envs: int = 2, **options: Any) -> list[Any]:
        """Host environments, as the pool does; return their workers."""
        options = {"whole": False, "max_envs_per_worker": None, "max_workers": None, **options}
        placed = await self.force.find_room(num_envs, tenant=tenant, **options)
        for worker, count in placed:
            self.force.assign(worker, tenant)
            worker.groups.add(id(placed))
            worker.num_envs += count
        self.force.trim()
        return [worker for worker, _ in placed]

    async def goes(self, workers: list[Any]) -> None:
        for worker in workers:
            worker.groups.clear()
            worker.num_envs = 0
        for worker in workers:
            self.force.vacated(worker)
        await self.settled()

    async def settled(self) -> None:
        while any(not task.done() for task in self.tasks):
            await asyncio.gather(*self.tasks)

    async def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(500):
            if condition():
                await self.settled()
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it never came to that")

    @property
    def whose(self) -> list[str | None]:
        return [worker.tenant for worker in self.force.workers]


def run(test: Callable[[Stage], Coroutine[Any, Any, None]], **options: Any) -> None:
    async def main() -> None:
        stage = Stage(**options)
        await stage.force.refill()
        await test(stage)
        stage.force.stop()
        await stage.settled()

    asyncio.run(main())


def test_the_first_gets_what_there_is_and_the_next_its_own() -> None:
    async def test(stage: Stage) -> None:
        first = stage.force.workers[:]
        assert await stage.comes("a") == first
        assert stage.started == 2
        others = await stage.comes("b")
        assert not set(others) & set(first)
        assert stage.whose == ["a", "a", "b", "b"]
        assert set(await stage.comes("a", 4)) == set(first)

    run(test)


def test_nobody_gets_more_than_it_needs() -> None:
    async def test(stage: Stage) -> None:
        (one,) = await stage.comes("a", 1)
        (other,) = await stage.comes("b", 1)
        assert (stage.started, one.tenant, other.tenant) == (2, "a", "b")
        (second,) = await stage.comes("a", 1)
        assert second is not one
        assert len(await stage.comes("a", 1)) == 1 and stage.started == 3

    run(test)


def test_the_only_one_that_has_ever_come_keeps_its_workers() -> None:
    async def test(stage: Stage) -> None:
        workers = await stage.comes("a")
        await stage.goes(workers)
        await asyncio.sleep(0.02)
        assert stage.whose == ["a", "a"]
        assert await stage.comes("a") == workers

    run(test, warm_seconds=0.001)


def test_when_another_has_come_what_the_first_had_ends_as_anybodys_does() -> None:
    async def test(stage: Stage) -> None:
        workers = await stage.comes("a")
        await stage.goes(workers)
        others = await stage.comes("b")
        await stage.until(lambda: all(worker.stopped for worker in workers))
        assert stage.whose == ["b", "b"]
        await stage.goes(others)
        await stage.until(lambda: all(worker.stopped for worker in others))
        assert stage.whose == [None, None]  # new ones, for whoever comes next

    run(test)


def test_who_comes_back_soon_finds_its_workers() -> None:
    async def test(stage: Stage) -> None:
        await stage.comes("b")
        workers = await stage.comes("a")
        await stage.goes(workers)
        assert await stage.comes("a") == workers
        await asyncio.sleep(0.1)
        assert not any(worker.stopped for worker in workers)

    run(test, warm_seconds=0.05)


def test_without_a_warm_time_workers_end_at_once_also_the_only_ones() -> None:
    async def test(stage: Stage) -> None:
        workers = await stage.comes("a")
        await stage.goes(workers)
        assert all(worker.stopped for worker in workers)
        assert stage.whose == [None, None]

    run(test, warm_seconds=0.0)


def test_what_is_still_closing_ends_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.pool.workforce.CLOSING_SECONDS", 0.01)

    async def test(stage: Stage) -> None:
        one, other = await stage.comes("a")
        other.idle = False
        await stage.goes([one, other])
        assert (one.stopped, other.stopped) == (True, False)
        other.idle = True
        await stage.until(lambda: other.stopped)
        one, other = await stage.comes("b")
        other.idle = False
        await stage.goes([one, other])
        other.idle = True
        stage.force.vacated(other)  # it says so itself
        await stage.settled()
        assert other.stopped and not stage.force._cooling

    run(test, warm_seconds=0.0)


def test_workers_that_were_added_leave_with_their_last_environment() -> None:
    async def test(stage: Stage) -> None:
        workers = await stage.comes("a", 4, max_envs_per_worker=1)
        assert len(workers) == 4
        await stage.goes(workers)
        assert sum(worker.stopped for worker in workers) == 2
        assert stage.whose == ["a", "a"]

    run(test)


def test_max_workers_bounds_all_and_whoever_needs_more_is_refused() -> None:
    async def test(stage: Stage) -> None:
        await stage.comes("a")
        (third,) = await stage.comes("b", 5)  # makes do with what there may be
        assert stage.whose == ["a", "a", "b"]
        with pytest.raises(NoRoomError, match=r"the limit is 3, and others use 3 of them") as refused:
            await stage.comes("c", 1)
        assert not refused.value.of_tenant
        await stage.goes([third])  # kept warm, but somebody needs its place
        (fourth,) = await stage.comes("c", 1)
        assert third.stopped and fourth is not third
        assert stage.whose == ["a", "a", "c"]

    run(test, max_workers=3, warm_seconds=60.0)


def test_a_tenants_own_limit_is_told_apart() -> None:
    async def test(stage: Stage) -> None:
        assert len(await stage.comes("a", 8, max_workers=1)) == 1
        with pytest.raises(NoRoomError, match="than one client may have: the limit is 1") as refused:
            await stage.comes("a", 9, max_envs_per_worker=8, max_workers=1)
        assert refused.value.of_tenant
        with pytest.raises(NoRoomError, match="the limit is 0"):
            await stage.comes("b", 1, max_workers=0)
        assert stage.whose == ["a", None]

    run(test)


def test_where_workers_cannot_be_started_fewer_do_or_none() -> None:
    async def test(stage: Stage) -> None:
        stage.short = True
        await stage.comes("a", 1)
        assert len(await stage.comes("b", 2)) == 1
        with pytest.raises(OSError, match="no descriptors"):
            await stage.comes("c", 1)
        with pytest.raises(OSError, match="no descriptors"):
            await stage.comes("b", 4, max_envs_per_worker=1)
        assert stage.whose == ["a", "b"]

    run(test, max_workers=9)


def test_what_could_not_be_started_is_once_somebody_comes() -> None:
    async def test(stage: Stage) -> None:
        stage.force.dismiss(stage.force.workers[0])  # lost, and no other could be started
        assert len(await stage.comes("a", 1)) == 1
        await stage.settled()
        assert stage.whose == ["a", None]

    run(test)


def test_what_was_started_for_a_session_that_is_refused_ends_again() -> None:
    async def test(stage: Stage) -> None:
        async def start() -> Any:
            stage.short = stage.started == 4
            return await Stage.start(stage)

        stage.force._start = start
        with pytest.raises(OSError, match="no descriptors"):
            await stage.comes("a", 5, max_envs_per_worker=1)
        await stage.settled()
        assert (stage.started, stage.whose) == (4, [None, None])

    run(test, max_workers=9)


def test_many_that_come_at_once_do_not_get_more_than_they_may() -> None:
    async def test(stage: Stage) -> None:
        await stage.comes("z")
        await asyncio.gather(*(stage.comes(tenant, 1) for tenant in "abc" * 4))
        assert sorted(map(str, stage.whose)) == ["a", "a", "b", "b", "c", "c", "z", "z"]

    run(test, max_workers=20)


def test_in_place_of_a_lost_one_there_is_another_if_somebody_lives_there_or_to_be_ready() -> None:
    async def test(stage: Stage) -> None:
        one, other = await stage.comes("a")
        await stage.comes("b")
        one.lost = other.lost = "killed"
        assert stage.force.of("a") == [] and one in stage.force.concerning("a")
        other.groups.clear()
        assert stage.force.is_wanted(one) and not stage.force.is_wanted(other)
        new = await stage.start()
        stage.force.replaces(one, new)
        stage.force.dismiss(other)
        assert (new.tenant, stage.force.workers[0]) == ("a", new)
        stage.force.dismiss(other)  # again: nothing

    run(test)


def test_a_process_in_the_place_of_a_tenants_is_new_if_nobody_is_to_live_there() -> None:
    async def test(stage: Stage) -> None:
        workers = await stage.comes("a")
        await stage.goes(workers)
        workers[0].lost = "killed"
        assert stage.force.is_wanted(workers[0])
        stage.force.replaces(workers[0], await stage.start())
        assert stage.whose == [None, "a"]

    run(test)


@pytest.mark.parametrize("warm_seconds", [0.0, 0.001, 60.0])
@pytest.mark.parametrize("seed", range(5))
def test_whatever_comes_and_goes_and_dies_no_worker_has_two_tenants(seed: int, warm_seconds: float) -> None:
    rng = random.Random(seed)
    lived: dict[Any, set[str]] = {}
    sessions: list[tuple[str, int, dict[Any, int]]] = []  # whose, its group, how many where

    async def test(stage: Stage) -> None:
        force = stage.force

        async def comes(group: int, tenant: str) -> None:
            each = rng.choice([None, None, 2])
            placed = await force.find_room(rng.randint(1, 5), False, tenant, each, None)
            for worker, count in placed:
                force.assign(worker, tenant)
                worker.groups.add(group)
                worker.num_envs += count
                lived.setdefault(worker, set()).add(tenant)
            force.trim()
            sessions.append((tenant, group, dict(placed)))

        async def goes() -> None:
            _, group, workers = sessions.pop(rng.randrange(len(sessions)))
            for worker, count in workers.items():
                worker.groups.discard(group)
                worker.num_envs -= count
            for worker in workers:
                force.vacated(worker)

        async def dies() -> None:
            worker: Any = rng.choice(force.workers)
            worker.lost = "killed"
            await asyncio.sleep(0)
            if not force.is_wanted(worker):
                force.dismiss(worker)
                return
            new = await stage.start()
            force.replaces(worker, new)
            new.groups, new.num_envs = worker.groups, worker.num_envs
            for tenant, _, workers in sessions:
                if worker in workers:
                    workers[new] = workers.pop(worker)
                    lived.setdefault(new, set()).add(tenant)

        refused = 0
        for group in range(200):
            kind = rng.random()
            try:
                if kind < 0.5:
                    both = [comes(2 * group + at, rng.choice("abcd")) for at in range(rng.randint(1, 2))]
                    for error in await asyncio.gather(*both, return_exceptions=True):
                        if error is not None:
                            raise error
                elif kind < 0.9 and sessions:
                    await goes()
                elif force.workers:
                    await dies()
            except NoRoomError:
                refused += 1
            assert len(force.workers) <= 7
            await stage.settled()
            assert len([worker for worker in force.workers if worker.lost is None]) >= 2 or kind >= 0.9
        assert all(len(tenants) == 1 for tenants in lived.values())
        for worker, (tenant,) in lived.items():
            assert worker not in force.workers or worker.tenant in (tenant, None)
            assert worker.stopped <= (not worker.groups)  # none ended that hosted anybody
        assert len(lived) > 5 and refused

    run(test, max_workers=7, warm_seconds=warm_seconds)


@pytest.mark.parametrize("each", [None, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_single_tenant_is_placed_as_if_there_were_no_tenants(seed: int, each: int | None) -> None:
    rng = random.Random(seed)

    async def test(stage: Stage) -> None:
        force = stage.force
        plain = list(force.workers)  # a pool whose workers are everybody's, in the order of their start
        loads: dict[Any, int] = dict.fromkeys(plain, 0)
        sessions: list[list[tuple[Any, int]]] = []
        for _ in range(150):
            if sessions and rng.random() < 0.5:
                gone = sessions.pop(rng.randrange(len(sessions)))
                for worker, count in gone:
                    worker.num_envs -= count
                    loads[worker] -= count
                    worker.groups.discard(id(gone))
                for worker, _ in gone:
                    force.vacated(worker)
                await stage.settled()
                for worker, _ in gone:
                    if not loads[worker] and len(plain) > force.num_workers:
                        plain.remove(worker)
                assert force.workers == plain
                continue
            num_envs = rng.randint(1, 7)
            placed: list[tuple[Any, int]] = await force.find_room(num_envs, False, "a", each, None)
            plain += [worker for worker, _ in placed if worker not in plain]
            loads.update({worker: loads.get(worker, 0) for worker in plain})
            room = room_for(num_envs, [loads[worker] for worker in plain], each)
            expected = shares(num_envs, [loads[worker] for worker in plain], room)
            assert placed == [(plain[at], count) for at, count in expected]
            for worker, count in placed:
                force.assign(worker, "a")
                worker.num_envs += count
                loads[worker] += count
                worker.groups.add(id(placed))
            sessions.append(placed)
        assert force.workers == plain and (each or stage.started == 4)

    run(test, num_workers=4, max_workers=200)
