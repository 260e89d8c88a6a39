"""Servers are looked at as long as somebody looks, and a while after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from staged import Stage

from remote_gym.dashboard import fleet as module
from remote_gym.dashboard.fleet import Fleet
from remote_gym.dashboard.settings import Watched
from remote_gym.errors import ConnectError

SERVERS = (Watched("a:1", "a:1"), Watched("b:1", "b:1"))


async def until(condition: Callable[[], bool]) -> None:
    async def asking() -> None:
        while not condition():
            await asyncio.sleep(0.005)

    await asyncio.wait_for(asking(), 10.0)


def test_nobody_is_asked_before_somebody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LINGER_SECONDS", 0.05)
    stage = Stage(period_seconds=0.02)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        assert stage.calls == []
        with fleet.looking() as changed, fleet.looking():
            assert fleet.viewers == 2
            await until(lambda: all(record.figures for _, record in fleet.servers))
            assert changed.is_set()
        assert [watched for watched, _, _ in stage.calls] == list(SERVERS)
        assert not any(call.closed.is_set() for _, _, call in stage.calls)
        await until(lambda: all(call.closed.is_set() for _, _, call in stage.calls))
        await until(lambda: all(record.figures is None for _, record in fleet.servers))
        with fleet.looking():
            assert len(stage.calls) in (3, 4)  # on threads
        fleet.close()

    asyncio.run(main())


def test_who_comes_back_soon_finds_it_all_again() -> None:
    stage = Stage(period_seconds=0.02)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        with fleet.looking():
            await until(lambda: all(record.figures for _, record in fleet.servers))
        with fleet.looking() as changed:
            assert changed.is_set()
            assert all(record.figures for _, record in fleet.servers)
        assert len(stage.calls) == 2
        fleet.close()
        fleet.close()
        await until(lambda: all(call.closed.is_set() for _, _, call in stage.calls))

    asyncio.run(main())


def test_a_server_that_is_lost_is_told_too() -> None:
    def broken(tick: int) -> None:
        raise ConnectError("b:1", "nobody listens")

    stage = Stage(broken)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        with fleet.looking() as changed:
            changed.clear()
            await until(lambda: all(record.error for _, record in fleet.servers))
            assert changed.is_set()
        fleet.close()

    asyncio.run(main())
