"""Principals share no workers: what one's environments do in theirs, and leave there, is nobody else's."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from helpers import HOSTILE, wait_until
from hostile import ACTIONS

from remote_gym import RefusedError, RemoteEnvironment, RemoteVectorEnv, values
from remote_gym.failures import FailureKind
from remote_gym.messages import Open, Reset, Step
from remote_gym.pool import Timeouts
from remote_gym.server.permissions import Permissions
from remote_gym.server.principals import ANONYMOUS, Principal
from remote_gym.server.sessions import Sessions, collect
from remote_gym.server.settings import Settings
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, read_server

ALICE, MALLORY = Principal("alice"), Principal("mallory")

MARKED = """
import os, threading, time
import numpy as np
from gymnasium import spaces
from toys import FunctionEnv

left_behind, built = [], []

def create_environment(mark=0, seconds=0.0):
    time.sleep(seconds)
    found = len(left_behind)
    built.append(mark)
    if mark:
        left_behind.append(mark)
        threading.Thread(target=threading.Event().wait, daemon=True).start()

    def seen():
        return np.array([os.getpid(), found, len(built)], np.float64)

    return FunctionEnv(
        lambda env, action: (seen(), 1.0, False, False, {}), lambda env, seed, options: (seen(), {}),
        spaces.Box(0, np.inf, (3,), np.float64),
    )
"""
PID, FOUND, BUILT = range(3)
"""What its observations hold: the process, what others had left there when it was built, how many were built so far."""


@pytest.fixture
def marked(tmp_path: Path) -> str:
    """An entrypoint whose environments leave something in their process, and tell what they found there."""
    path = tmp_path / "marked.py"
    path.write_text(MARKED)
    return str(path)


class Peer:
    """One session of a principal on a server without a network: sends requests, waits for what is answered."""

    def __init__(self, sessions: Sessions, principal: Principal) -> None:
        self._sessions = sessions
        self._principal = principal
        self._frames: asyncio.Queue[bytes] = asyncio.Queue()
        self._number = 0

    def send(self, frame: bytes, sent: Callable[[], None] | None = None) -> None:
        self._frames.put_nowait(frame)
        if sent is not None:
            sent()

    def end(self) -> None: ...

    async def open(self, num_envs: int = 1, **kwargs: Any) -> Peer:
        packed = values.pack(kwargs, "kwargs") if kwargs else b""
        mode = "NextStep"
        message = Open(PROTOCOL_MIN, PROTOCOL_MAX, secrets.token_bytes(16), num_envs, packed, autoreset_mode=mode)
        self.session = await self._sessions.open(message, self, self._principal)
        return self

    async def ask(self, kind: Any, *fields: Any) -> Any:
        self._number += 1
        self.session.receive(kind(self._number, None, *fields), self)
        return read_server(await asyncio.wait_for(self._frames.get(), 30.0))

    async def step(self, action: int = 0) -> Any:
        return await self.ask(Step, [np.full(self.session.num_envs, action, np.int64).tobytes()])

    async def seen(self) -> Any:
        """Reset; return the observations: (num_envs, 3)."""
        (leaf,) = (await self.ask(Reset)).observations
        return np.frombuffer(leaf, np.float64).reshape(-1, 3).astype(int)

    async def pids(self) -> set[int]:
        return set((await self.seen())[:, PID].tolist())


def run(
    entrypoint: str, test: Callable[[Sessions], Coroutine[Any, Any, None]], probe: bool = False, **changes: Any
) -> None:
    """Run a test with the sessions of a server whose peers have names."""
    fields: dict[str, Any] = {
        "entrypoint": entrypoint, "entrypoint_kwargs": {}, "num_workers": 1, "max_envs_per_worker": None,
        "max_workers": None, "max_envs": 1_000, "max_sessions": 100, "max_held_bytes": 1 << 20, "lease_seconds": 60.0,
        "timeouts": Timeouts(), "restart_budget": None, "permissions": Permissions(("*",)),
    }  # fmt: skip

    async def main() -> None:
        sessions = Sessions(Settings(**{**fields, **changes}))
        try:
            await sessions.start(probe)
            await test(sessions)
        finally:
            await sessions.stop()

    asyncio.run(main())


def test_principals_share_no_worker_and_one_principals_sessions_do(marked: str) -> None:
    async def test(sessions: Sessions) -> None:
        base = {worker.pid for worker in sessions.pool.workers}
        alice, mallory = await Peer(sessions, ALICE).open(4), await Peer(sessions, MALLORY).open(4)
        again, nobody = await Peer(sessions, ALICE).open(1), await Peer(sessions, ANONYMOUS).open(3)
        other_nobody = await Peer(sessions, ANONYMOUS).open(3)
        assert await alice.pids() == base  # what was there is the first one's
        assert await again.pids() < base
        assert len(await mallory.pids()) == 2 and len(await nobody.pids()) == 2
        assert await other_nobody.pids() == await nobody.pids()
        everybody = [await peer.pids() for peer in (alice, mallory, nobody)]
        assert sum(map(len, everybody)) == len(set().union(*everybody)) == 6
        assert set(collect(sessions)["worker_processes"]) == set().union(*everybody)

    run(marked, test, num_workers=2)


@pytest.mark.parametrize(("isolation", "workers"), [("shared", 1), ("session", 3)])
def test_sessions_may_share_all_or_nothing(marked: str, isolation: str, workers: int) -> None:
    async def test(sessions: Sessions) -> None:
        peers = [await Peer(sessions, principal).open(2) for principal in (ALICE, ALICE, MALLORY)]
        assert len(set().union(*[await peer.pids() for peer in peers])) == workers

    run(marked, test, isolation=isolation)


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError(what)


def test_what_an_environment_leaves_in_its_process_no_other_principal_finds(
    marked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_gym.server.isolation.WARM_SECONDS", 0.2)

    async def test(sessions: Sessions) -> None:
        def processes() -> set[int]:
            return set(collect(sessions)["worker_processes"])

        mallory = await Peer(sessions, MALLORY).open(2, mark=7)
        hers = await mallory.pids()
        mallory.session.close()
        again = await Peer(sessions, MALLORY).open(1)
        assert (await again.seen())[0, [PID, FOUND]].tolist() == [*hers, 2]  # her own, while it is warm
        again.session.close()
        alice = await Peer(sessions, ALICE).open(2)
        assert (await alice.seen())[:, FOUND].tolist() == [0, 0]
        await until(lambda: not hers & processes(), "mallory's worker goes")
        own = await alice.pids()
        assert processes() == own  # as many as before
        alice.session.close()
        await until(lambda: not own & processes(), "alice's worker goes")
        await until(lambda: len(processes()) == 1, "a new one waits for whoever comes next")
        third = await Peer(sessions, MALLORY).open(1)
        assert (await third.seen())[0, FOUND] == 0
        assert sessions.pool.restarts == 0

    run(marked, test)


def test_every_session_finds_a_new_process_where_none_is_shared(marked: str) -> None:
    async def test(sessions: Sessions) -> None:
        seen = []
        for _ in range(3):
            peer = await Peer(sessions, ANONYMOUS).open(2, mark=1)
            seen.append((await peer.seen())[0])
            peer.session.close()
            await until(
                lambda: len(sessions.pool.workers) == 1 and sessions.pool.num_envs == 0, "the next one is ready"
            )
        assert len({one[PID] for one in seen}) == 3
        assert [one[FOUND] for one in seen] == [0, 0, 0]

    run(marked, test, isolation="session")


def test_a_single_user_has_the_same_warm_workers_for_ever(serve: ServerFactory, marked: str) -> None:
    server = serve(marked, num_workers=2)
    workers = server.statistics()["worker_processes"]
    for num_envs in (4, 1, 3):
        with RemoteVectorEnv(server.address, num_envs=num_envs) as envs:
            pids = envs.reset()[0][:, PID].astype(int).tolist()
        assert pids == sorted(pids, key=workers.index)
        assert set(pids) == set(workers[:num_envs])
        wait_until(lambda: server.statistics()["envs"] == 0)
    assert server.statistics()["worker_processes"] == workers


@pytest.mark.parametrize("harm", ["hang_with_gil", "segfault", "exit_3"])
def test_what_a_principal_does_to_its_worker_no_other_notices(harm: str) -> None:
    async def test(sessions: Sessions) -> None:
        alice, mallory = await Peer(sessions, ALICE).open(), await Peer(sessions, MALLORY).open()
        for peer in (alice, mallory):
            await peer.ask(Reset)
        processes = set(collect(sessions)["worker_processes"])
        for death in range(1, 3):
            harmed = asyncio.ensure_future(mallory.step(ACTIONS[harm]))
            steps = 0
            while not harmed.done() or steps < 10:
                assert not (await alice.step()).failures
                steps += 1
            (failure,) = harmed.result().failures
            assert failure.kind == FailureKind.LOST
            await until(lambda death=death: sessions.pool.restarts == death, "another worker")  # type: ignore[misc]
            assert not (await alice.step()).failures
            assert not (await mallory.ask(Reset)).failures
        assert len(processes & set(collect(sessions)["worker_processes"])) == 1  # alice's

    run(str(HOSTILE), test, timeouts=Timeouts(step=0.5))


DEADLY = """
import os
from pathlib import Path
from toys import FunctionEnv

def create_environment(deadly=False):
    once = Path(__file__).with_name("once")
    if deadly:
        if once.exists():
            os._exit(3)
        once.touch()
    return FunctionEnv(lambda env, action: os._exit(3))
"""


def test_a_worker_that_dies_again_and_again_keeps_no_other_principal_waiting(tmp_path: Path) -> None:
    path = tmp_path / "deadly.py"
    path.write_text(DEADLY)

    async def test(sessions: Sessions) -> None:
        await Peer(sessions, ALICE).open()
        mallory = await Peer(sessions, MALLORY).open(deadly=True)
        await mallory.ask(Reset)
        assert (await mallory.step()).failures
        failures = sessions.pool._back_off._failures
        await until(lambda: max(failures.values(), default=0) >= 4, "it waits longer each time")
        alice = await Peer(sessions, ALICE).open()
        assert any(worker.lost is not None for worker in sessions.pool.workers)  # nobody has waited for that one
        assert not (await alice.ask(Reset)).failures

    run(str(path), test)


def test_the_probed_environment_is_the_first_principals(marked: str) -> None:
    async def test(sessions: Sessions) -> None:
        alice = await Peer(sessions, ALICE).open()
        mallory = await Peer(sessions, MALLORY).open()
        assert (await alice.seen())[0, BUILT] == 1  # it is the one that was built to find out
        assert (await mallory.seen())[0, BUILT] == 1
        assert await alice.pids() != await mallory.pids()
        assert sessions.pool.num_envs == 2

    run(marked, test, probe=True)


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_over_either_carrier_sessions_have_workers_of_their_own_until_there_are_no_more(
    serve: ServerFactory, marked: str, transport: str
) -> None:
    server = serve(marked, num_workers=1, max_workers=2, isolation="session")
    with (
        RemoteVectorEnv(server.address, num_envs=2, transport=transport) as one,
        RemoteEnvironment(server.address, transport=transport) as other,
        RemoteEnvironment(server.address, transport=transport) as refused,
    ):
        pids = {int(one.reset()[0][0, PID]), int(other.reset()[0][PID])}
        assert pids == set(server.statistics()["worker_processes"])
        with pytest.raises(RefusedError, match="the limit is 2, and others use 2 of them") as told:
            refused.reset()
        assert told.value.limit == "max_workers"
        assert one.step([0, 0])[1].tolist() == [1.0, 1.0]
        one.close()
        wait_until(lambda: opens(server.address, transport), 10.0, "room for another")


def opens(address: str, transport: str) -> bool:
    with RemoteEnvironment(address, transport=transport) as env:
        try:
            env.reset()
        except RefusedError:
            return False
    return True


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_while_many_environments_are_built_others_in_that_worker_step_on(
    serve: ServerFactory, marked: str, transport: str
) -> None:
    server = serve(marked, num_workers=1, allow_client_kwargs=["seconds"])
    slow = {"entrypoint_kwargs": {"seconds": 0.015}}
    with (
        RemoteEnvironment(server.address, transport=transport) as steps,
        RemoteVectorEnv(server.address, num_envs=100, remote_args=slow, transport=transport) as many,
    ):
        steps.reset()
        opening = threading.Thread(target=many.reset, daemon=True)
        opening.start()
        built = {int(steps.step(0)[0][BUILT])}
        while opening.is_alive():
            built.add(int(steps.step(0)[0][BUILT]))
        assert max(built) <= 101
        assert len(built) > 50  # at every other environment's end, at least, a step was answered
        observations, _ = many.reset()
        assert set(observations[:, PID].astype(int)) == set(server.statistics()["worker_processes"])


def test_while_many_sessions_are_opened_others_in_that_worker_step_on(serve: ServerFactory, marked: str) -> None:
    server = serve(marked, num_workers=1, allow_client_kwargs=["seconds"])
    slow = {"entrypoint_kwargs": {"seconds": 0.015}}
    with contextlib.ExitStack() as stack:
        steps = stack.enter_context(RemoteEnvironment(server.address))
        many = [stack.enter_context(RemoteEnvironment(server.address, remote_args=slow)) for _ in range(60)]
        steps.reset()
        opening = [threading.Thread(target=env.reset, daemon=True) for env in many]
        for thread in opening:
            thread.start()
        built = set()
        while any(thread.is_alive() for thread in opening):
            built.add(int(steps.step(0)[0][BUILT]))
        assert max(built) == 61
        assert len(built) > 30
