"""Snapshots: what is told of a session and a worker; a thousand sessions in slices that hold nobody up."""

from __future__ import annotations

import asyncio
import os
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ServerFactory

from remote_gym import RemoteVectorEnv
from remote_gym.figures import Totals
from remote_gym.pool import STEP_BOUNDS_SECONDS
from remote_gym.server.deaths import Deaths
from remote_gym.server.ended_totals import EndedTotals
from remote_gym.server.episodes import Episodes
from remote_gym.server.ledger import SessionState
from remote_gym.server.principals import ANONYMOUS
from remote_gym.server.snapshots import REST_SECONDS, SLICE_SECONDS, Slices, Snapshots, Told, View, usage
from remote_gym.wire.watching import SESSIONS_AT_ONCE, read_watched

EVERYTHING = View("ada", True)


class Session:
    """As much of one as a snapshot looks at."""

    def __init__(self, number: int, worker: Any) -> None:
        self.id, self.principal, self.peer = number.to_bytes(16, "big"), ANONYMOUS, "ipv4:10.0.0.1:50001"
        self.episodes = Episodes(4, "NextStep")
        self.num_envs, self.running, self.requests, self.lease_seconds = 4, 0, number, 300.0
        self.autoreset_mode, self.render_mode, self.is_vector, self.kept_seconds = "NextStep", None, False, None
        self.began, self.ledger = 0.0, SimpleNamespace(state=SessionState.ATTACHED)
        self.blocks = [SimpleNamespace(worker=worker, group=number, first=0, stop=4)]

    def totals(self) -> Totals:
        return self.episodes.totals(self.requests)


def worker(number: int) -> Any:
    class Worker:
        pid, num_envs, tenant, lost, busy_seconds, steps = os.getpid(), 4, "", None, 0.5, (7, 0.25)
        step_counts, restarts, started = [0] * len(STEP_BOUNDS_SECONDS), 0, 1.0

    made: Any = Worker()
    made.number = number
    return made


def crowd(server: Any, count: int, workers: int = 16) -> Any:
    """Return what a snapshot of `count` sessions is made of."""
    real, hosts = server._sessions, [worker(number) for number in range(workers)]
    sessions = {one.id: one for one in (Session(number, hosts[number % workers]) for number in range(count))}
    return SimpleNamespace(
        by_id=sessions, opening=set(), deaths=Deaths(), ended_totals=EndedTotals(), settings=real.settings,
        counters=real.counters, epoch=real.epoch, draining=False, describe=real.describe,
        pool=SimpleNamespace(workers=hosts, restarts=0),
    )  # fmt: skip


def test_a_thousand_sessions_hold_nobody_up(serve: ServerFactory) -> None:
    snapshots = Snapshots(crowd(serve(num_workers=1), 1_000))
    gaps: list[float] = []

    async def pulse() -> None:
        last = perf_counter()
        while True:
            await asyncio.sleep(0)
            gaps.append((now := perf_counter()) - last)
            last = now

    async def main() -> list[bytes]:
        beating = asyncio.ensure_future(pulse())
        replies = await snapshots.make(EVERYTHING, Told())
        beating.cancel()
        return replies

    replies = [read_watched(data) for data in asyncio.run(main())]
    assert [len(one.sessions) for one in replies] == [SESSIONS_AT_ONCE] * 7 + [1_000 - 7 * SESSIONS_AT_ONCE]
    assert [one.more for one in replies] == [True] * 7 + [False]
    assert [one.server is not None for one in replies] == [True] + [False] * 7
    assert [session.totals.requests for one in replies for session in one.sessions] == list(range(1_000))
    assert len(replies[0].workers) == 16
    # The middle of it: others run on this machine, too.
    assert len(gaps) > 10
    assert sorted(gaps)[len(gaps) // 2] < 0.005


def test_all_snapshots_together_take_a_part_of_the_time() -> None:
    slices, shares = Slices(), []

    async def make() -> None:
        await slices.turn()
        for _ in range(40):
            until = perf_counter() + SLICE_SECONDS / 2
            while perf_counter() < until:
                pass
            await slices.turn()

    async def main() -> None:
        for makers in (1, 5):
            began = perf_counter()
            await asyncio.gather(*(make() for _ in range(makers)))
            shares.append(makers * 40 * SLICE_SECONDS / 2 / (perf_counter() - began))

    asyncio.run(main())
    # A slice is over once it is noticed: after its third piece at most.
    assert max(shares) < 1.1 * 1.5 * SLICE_SECONDS / (SLICE_SECONDS + REST_SECONDS)


def test_a_snapshot_without_sessions_is_one_reply(serve: ServerFactory) -> None:
    (data,) = asyncio.run(Snapshots(crowd(serve(num_workers=1), 0)).make(EVERYTHING, Told()))
    reply = read_watched(data)
    assert (list(reply.sessions), reply.more) == ([], False)
    assert reply.server is not None


def test_a_session_that_ends_meanwhile_counts_once(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = crowd(serve(num_workers=1), 3)
    before = sum(one.totals().requests for one in sessions.by_id.values())

    async def end_one(_slices: Any) -> None:
        if sessions.by_id:
            _, ended = sessions.by_id.popitem()
            sessions.ended_totals.add("anonymous", ended.totals())

    monkeypatch.setattr(Slices, "turn", end_one)
    for told in range(3):  # the first sees those that end, the others do not
        reply = read_watched(asyncio.run(Snapshots(sessions).make(EVERYTHING, Told()))[0])
        assert reply.server is not None
        assert reply.server.totals.requests == before, told
    assert not sessions.by_id


def test_figures_of_a_real_session(serve: ServerFactory) -> None:
    server = serve(num_workers=2, entrypoint_kwargs={"max_episode_steps": 7})
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset(seed=3)
        for _ in range(16):
            envs.step(envs.action_space.sample() * 0 + 1)

        async def make() -> list[bytes]:
            return await Snapshots(server._sessions).make(View("anonymous", False), Told())

        (data,) = server._call(make())
        reply = read_watched(data)
        (session,) = reply.sessions
        assert (session.envs, session.state, session.autoreset_mode, session.principal) == (
            4, "attached", "NextStep", "anonymous",
        )  # fmt: skip
        assert session.totals.requests == 17
        assert session.totals.env_steps == reply.server.totals.env_steps == 64  # type: ignore[union-attr]
        assert session.totals.episodes == len(session.episodes) == 8
        assert {one.length for one in session.episodes} == {7}
        assert session.mean_length == 7.0
        assert session.workers == [0, 1]
        assert [worker.steps for worker in reply.workers] == [32, 32]
        assert all(worker.step_seconds.count == 32 and worker.busy_seconds > 0 for worker in reply.workers)
        assert all(0 < worker.step_seconds.percentile(0.5) < 1 for worker in reply.workers)


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="this system has no /proc")
def test_what_a_process_uses() -> None:
    used = usage(os.getpid())
    assert used.memory_bytes > 2**20
    assert used.cpu_seconds > 0
    assert usage(2**22 + 1) == usage(-1) == (0, 0.0)
