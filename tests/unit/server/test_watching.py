"""Who looks on: snapshots shared and told once, bounded streams, and the end of them; without any nothing runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import ServerFactory
from helpers import wait_until
from looking import on_loop

from remote_gym import RemoteEnvironmentServer, RemoteVectorEnv
from remote_gym.errors import ProtocolError
from remote_gym.figures import WatchReply, WatchRequest
from remote_gym.server import watching
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.watching import MAX_WATCHERS, UNREAD_BYTES, EndedError, Stream, Watchers
from remote_gym.wire.watching import pack_watch, read_watched

ADA = Principal("ada")


async def some(replies: AsyncIterator[bytes], count: int) -> list[WatchReply]:
    return [read_watched(await replies.__anext__()) for _ in range(count)]


def watchers_of(server: RemoteEnvironmentServer) -> Watchers:
    return server._watchers


def stepped(envs: RemoteVectorEnv, steps: int) -> None:
    for _ in range(steps):
        envs.step(envs.action_space.sample())


@pytest.fixture
def server(serve: ServerFactory) -> RemoteEnvironmentServer:
    return serve(num_workers=1)


def test_of_two_watchers_each_is_told_of_an_episode_once(server: RemoteEnvironmentServer) -> None:
    async def both(steps: Any) -> tuple[list[Any], list[Any]]:
        watchers = watchers_of(server)
        one = watchers.watch(pack_watch(WatchRequest(0.1)), ANONYMOUS)
        first = await some(one, 1)
        await asyncio.to_thread(steps, 30)
        other = watchers.watch(pack_watch(WatchRequest(0.1)), ANONYMOUS)
        begun = await some(other, 1)
        assert len(watchers._groups) == 1
        await asyncio.to_thread(steps, 30)
        mine, theirs = first + await some(one, 8), begun + await some(other, 8)
        for stream in (one, other):
            await stream.aclose()
        assert not watchers._groups
        assert not watchers._streams
        return mine, theirs

    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset(seed=1)
        stepped(envs, 20)
        for told in on_loop(server, both(lambda steps: stepped(envs, steps))):
            episodes = [one for reply in told for one in reply.sessions[0].episodes]
            assert len(set(episodes)) == len(episodes)
            assert [one.ended for one in episodes] == sorted(one.ended for one in episodes)
            assert len(episodes) == told[-1].sessions[0].totals.episodes > 3


def test_nobody_sees_anothers(server: RemoteEnvironmentServer) -> None:
    async def first(principal: Principal, **more: Any) -> WatchReply:
        stream = watchers_of(server).watch(pack_watch(WatchRequest(**more)), principal)
        (reply,) = await some(stream, 1)
        await stream.aclose()
        return reply

    with RemoteVectorEnv(server.address, num_envs=2) as envs:
        envs.reset(seed=1)
        stepped(envs, 5)
        own = on_loop(server, first(ANONYMOUS))
        assert (len(own.sessions), len(own.workers), own.server.is_operator) == (1, 1, False)
        assert own.server.totals.env_steps == 10
        foreign = on_loop(server, first(ADA))
        assert (list(foreign.sessions), list(foreign.workers), foreign.server.totals.env_steps) == ([], [], 0)
        named = on_loop(server, first(ADA, sessions=[own.sessions[0].id]))
        assert list(named.sessions) == []
        owner = on_loop(server, first(Principal("uid:0", is_owner=True)))
        assert (len(owner.sessions), owner.server.is_operator, owner.server.addresses) == (1, True, [server.address])
        assert owner.server.workers_memory_bytes > 0
        assert own.server.addresses == []


def test_operators_see_all(serve: ServerFactory) -> None:
    server = serve(num_workers=1, operators=["ada"])
    view = watchers_of(server).view_of(WatchRequest(), ADA)
    assert view.sees("anonymous", b"any")
    assert not watchers_of(server).view_of(WatchRequest(), Principal("bob")).sees("anonymous", b"any")


def test_a_principal_has_so_many_streams(server: RemoteEnvironmentServer) -> None:
    async def too_many() -> None:
        watchers = watchers_of(server)
        streams = [watchers.watch(pack_watch(WatchRequest()), ANONYMOUS) for _ in range(MAX_WATCHERS)]
        for stream in streams:
            await some(stream, 1)
        with pytest.raises(RefusalError, match="16 streams") as refused:
            await some(watchers.watch(pack_watch(WatchRequest()), ANONYMOUS), 1)
        assert refused.value.limit == "principal_watchers"
        await some(watchers.watch(pack_watch(WatchRequest()), ADA), 1)
        await streams[0].aclose()
        await some(watchers.watch(pack_watch(WatchRequest()), ANONYMOUS), 1)

    on_loop(server, too_many())
    assert server.statistics()["refusals"] == {"principal_watchers": 1}


def test_periods_that_hardly_differ_are_one(server: RemoteEnvironmentServer) -> None:
    async def groups(periods: list[float]) -> list[float]:
        watchers = watchers_of(server)
        streams = [watchers.watch(pack_watch(WatchRequest(period)), ANONYMOUS) for period in periods]
        for stream in streams:
            await some(stream, 1)
        told = [group.period_seconds for group in watchers._groups.values()]
        for stream in streams:
            await stream.aclose()
        assert not watchers._groups
        return told

    assert on_loop(server, groups([0.1 + 0.003 * number for number in range(16)])) == [0.1]
    assert on_loop(server, groups([0.1, 0.2, 1.0, 1.04, 60.0])) == [0.1, 0.2, 1.0, 60.0]


def test_a_wrong_request_costs_nothing(server: RemoteEnvironmentServer) -> None:
    async def wrong() -> None:
        with pytest.raises(ProtocolError, match="period_seconds"):
            await some(watchers_of(server).watch(pack_watch(WatchRequest(1e9)), ANONYMOUS), 1)
        assert not watchers_of(server)._streams

    on_loop(server, wrong())


def test_streams_end_with_the_server_at_once(serve: ServerFactory) -> None:
    server = serve(num_workers=1)

    async def begin() -> Any:
        stream = watchers_of(server).watch(pack_watch(WatchRequest(60.0)), ANONYMOUS)
        await some(stream, 1)
        waiting = asyncio.ensure_future(some(stream, 1))
        await asyncio.sleep(0)
        watchers_of(server).end_all()
        with pytest.raises(EndedError):
            await waiting

    on_loop(server, begin())
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 5.0


def test_while_nobody_looks_nothing_runs(server: RemoteEnvironmentServer) -> None:
    async def tasks() -> set[str]:
        return {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]

    before = on_loop(server, tasks())

    async def once() -> None:
        stream = watchers_of(server).watch(pack_watch(WatchRequest()), ANONYMOUS)
        await some(stream, 1)
        await stream.aclose()

    on_loop(server, once())
    wait_until(lambda: on_loop(server, tasks()) == before)


def test_who_does_not_read_misses_snapshots_and_holds_little() -> None:
    async def flood() -> None:
        stream, snapshot = Stream(), [bytes(UNREAD_BYTES // 3)]
        assert [stream.offer(snapshot) for _ in range(5)] == [True, True, True, False, False]
        assert await stream.next() == snapshot
        assert stream.offer(snapshot)
        large = Stream()
        assert large.offer([bytes(2 * UNREAD_BYTES)])
        assert not large.offer([b"more"])

    asyncio.run(flood())


def test_a_principal_whose_token_is_revoked_sees_no_more(server: RemoteEnvironmentServer, monkeypatch: Any) -> None:
    watchers = watchers_of(server)

    async def revoked() -> None:
        stream = watchers.watch(pack_watch(WatchRequest(0.1)), ADA)
        await some(stream, 1)
        monkeypatch.setattr(watchers._authenticator, "why_no_longer", lambda _: "the token was revoked")
        with pytest.raises(watching.StrangerError, match="revoked"):
            await some(stream, 2)
        assert not watchers._streams

    on_loop(server, revoked())
