"""Where environments are placed, and that the one built to find out is used."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from conftest import ServerFactory
from helpers import HOSTILE, lives, wait_until
from hostile import ACTIONS

from remote_gym import (
    EnvironmentRaised,
    RefusedError,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
)
from remote_gym.pool import placement
from remote_gym.pool.placement import NoRoomError
from remote_gym.pool.pool import Pool, Timeouts


def blocks(envs: RemoteVectorEnv) -> list[int]:
    """How many consecutive environments share a worker, in order of env index."""
    _, info = envs.reset()
    runs = [(pid, len(list(run))) for pid, run in groupby(info["pid"])]
    assert len({pid for pid, _ in runs}) == len(runs)  # contiguous
    return [length for _, length in runs]


def test_environments_are_spread_in_contiguous_blocks(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE))
    with RemoteVectorEnv(server.address, num_envs=5) as envs:
        assert blocks(envs) == [3, 2]


def test_single_environments_go_to_the_least_loaded_worker(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE))
    envs = [RemoteEnvironment(server.address) for _ in range(6)]
    pids = [env.reset()[1]["pid"] for env in envs]
    assert {pids.count(pid) for pid in pids} == {3}
    for env, pid in zip(envs, pids, strict=True):  # one worker is emptied, the next three go there
        if pid == pids[0]:
            env.close()
    wait_until(lambda: server.statistics()["envs"] == 3)
    with RemoteVectorEnv(server.address, num_envs=1) as one:
        assert one.reset()[1]["pid"].tolist() == [pids[0]]
    for env in envs:
        env.close()


def test_a_second_worker_must_be_worth_its_cost_once_that_is_known(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(str(HOSTILE))
    monkeypatch.setattr(placement, "WORTH_SECONDS", 1.0)
    with RemoteVectorEnv(server.address, num_envs=8) as envs:
        assert blocks(envs) == [4, 4]
        for _ in range(1 + placement.KNOWN_STEPS // 8):
            envs.step([ACTIONS["ordinary"]] * 8)
    with RemoteVectorEnv(server.address, num_envs=8) as envs, RemoteVectorEnv(server.address, num_envs=8) as others:
        assert blocks(envs) == blocks(others) == [8]
    monkeypatch.setattr(placement, "WORTH_SECONDS", 1e-9)
    with RemoteVectorEnv(server.address, num_envs=8) as envs:
        assert blocks(envs) == [4, 4]


def test_env_ids_are_unique_while_they_live_and_used_again(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE))

    def env_ids(envs: RemoteVectorEnv) -> list[int]:
        return envs.reset()[1]["env_id"].tolist()  # type: ignore[no-any-return]

    with RemoteVectorEnv(server.address, num_envs=3) as first, RemoteVectorEnv(server.address, num_envs=2) as second:
        assert env_ids(first) == [0, 1, 2]
        assert env_ids(second) == [3, 4]
        first.close()

        def third() -> list[int]:
            with RemoteVectorEnv(server.address, num_envs=4) as envs:
                return env_ids(envs)

        # Those of the first are free when its workers have closed them, a moment later.
        wait_until(lambda: third() == [0, 1, 2, 5], 5.0, "the use of free env_ids")


def test_max_envs_per_worker_adds_workers_and_retires_them(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, max_envs_per_worker=2)
    first_worker = server.statistics()["worker_processes"]
    with RemoteVectorEnv(server.address, num_envs=5) as envs:
        assert blocks(envs) == [2, 2, 1]
        workers = server.statistics()["worker_processes"]
        assert len(workers) == 3
    wait_until(lambda: server.statistics()["workers"] == 1, 10.0, "the added workers' leave")
    wait_until(lambda: sum(map(lives, workers)) == 1, 10.0, "the end of their processes")
    assert len(first_worker) == 1


def constructions(notes: Path) -> list[int]:
    path = notes / "built"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def probed(serve: ServerFactory, notes: Path, **options: Any) -> RemoteEnvironmentServer:
    return serve(str(HOSTILE), {"notes": str(notes)}, probe=True, **options)


def test_the_probed_environment_becomes_the_first_sessions(serve: ServerFactory, tmp_path: Path) -> None:
    server = probed(serve, tmp_path)
    assert constructions(tmp_path) == [0]
    with RemoteEnvironment(server.address) as env:
        _, info = env.reset()
        assert info["env_id"] == 0
        assert env.step(0)[1] == 1.0
    assert constructions(tmp_path) == [0]
    wait_until(lambda: (tmp_path / "closed").exists())
    assert server.statistics()["envs"] == 0


def test_the_probed_environment_is_part_of_a_batch(serve: ServerFactory, tmp_path: Path) -> None:
    server = probed(serve, tmp_path)
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        observations, info = envs.reset()
        assert sorted(info["env_id"]) == [0, 1, 2, 3]
        assert observations[:, 0].tolist() == info["env_id"].tolist()
    assert sorted(constructions(tmp_path)) == [0, 1, 2, 3]


def test_a_session_of_another_recipe_closes_the_probed_environment(serve: ServerFactory, tmp_path: Path) -> None:
    server = probed(serve, tmp_path, allow_client_kwargs=["pixels"])
    with RemoteEnvironment(server.address, remote_args={"entrypoint_kwargs": {"pixels": 7}}) as env:
        assert env.reset()[0].shape == (7,)
        wait_until(lambda: (tmp_path / "closed").exists(), 5.0, "the close of the probed environment")
    assert len(constructions(tmp_path)) == 2


def test_a_probed_environment_whose_worker_dies_is_built_anew(serve: ServerFactory, tmp_path: Path) -> None:
    server = probed(serve, tmp_path, num_workers=1)
    (worker,) = server.statistics()["worker_processes"]
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: server.statistics()["worker_processes"] != [worker])
    with RemoteEnvironment(server.address) as env:
        assert env.reset()[1]["pid"] != worker
    assert len(constructions(tmp_path)) == 2


def test_nothing_is_placed_in_a_worker_that_is_being_replaced() -> None:
    async def run() -> None:
        pool = Pool(2, None, Timeouts(), None, 2)
        await pool.start()
        try:
            dying = pool.workers[0]
            dying.kill()
            while dying.lost is None:
                await asyncio.sleep(0)
            assert dying in pool.workers
            blocks = await pool.place(4, lambda *_: None, None)
            assert [len(block.env_ids) for block in blocks] == [2, 2]
            assert dying not in [block.worker for block in blocks]
        finally:
            await pool.stop()

    asyncio.run(run())


def test_a_server_whose_environment_cannot_be_built_does_not_start(serve: ServerFactory) -> None:
    with pytest.raises(RefusedError, match="this environment cannot be built") as caught:
        serve(str(HOSTILE), {"broken": True}, probe=True)
    assert "hostile.py" in str(caught.value)  # the remote traceback


def test_a_failed_opening_leaves_nothing_behind(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), allow_client_kwargs=["broken"])
    for _ in range(3):
        with pytest.raises(EnvironmentRaised, match="cannot be built"):
            RemoteVectorEnv(server.address, num_envs=4, remote_args={"entrypoint_kwargs": {"broken": True}}).reset()
    assert (server.statistics()["sessions"], server.statistics()["envs"]) == (0, 0)

    def first_env_ids() -> list[int]:
        with RemoteVectorEnv(server.address, num_envs=2) as envs:
            return sorted(envs.reset()[1]["env_id"].tolist())

    # An env_id is free when its worker has said that the environment is closed, a moment after the refusal.
    wait_until(lambda: first_env_ids() == [0, 1], 5.0, "the first env_ids")


def test_requests_of_two_sessions_in_one_worker_do_not_mix(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=2) as slow, RemoteVectorEnv(server.address, num_envs=3) as quick:
        first, second = slow.reset()[1]["env_id"], quick.reset()[1]["env_id"]
        slow.step_async([ACTIONS["slow"], 0])
        quick.step_async([0, 0, 0])  # waits for the busy worker
        assert quick.step_wait()[4]["env_id"].tolist() == second.tolist()
        assert slow.step_wait()[4]["env_id"].tolist() == first.tolist()


def test_more_sessions_than_a_socket_holds_descriptors_open_while_their_worker_is_busy(serve: ServerFactory) -> None:
    # Each has its rows handed over as a descriptor, of which a socket holds 278.
    server = serve(str(HOSTILE), num_workers=1)
    envs = [RemoteEnvironment(server.address) for _ in range(320)]
    gate = threading.Barrier(len(envs))
    failures: list[BaseException] = []

    def open_one(env: RemoteEnvironment) -> None:
        try:
            gate.wait(30.0)
            env.reset()
        except BaseException as error:
            failures.append(error)

    with RemoteVectorEnv(server.address, num_envs=4) as busy:
        busy.reset()
        busy.step_async([ACTIONS["slow"]] * 4)
        threads = [threading.Thread(target=open_one, args=(env,), daemon=True) for env in envs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)
        assert not failures
        assert not any(thread.is_alive() for thread in threads)
        assert server.statistics()["sessions"] == 321
        busy.step_wait()
    for env in envs:
        env.close()
    assert server.statistics()["envs"] == 0


def test_who_asks_about_the_entrypoint_asks_no_others_worker() -> None:
    async def run() -> None:
        pool = Pool(1, None, Timeouts(), None, 2)
        await pool.start()
        try:
            (fresh,) = pool.workers
            assert await pool.worker_to_ask("a") is fresh and fresh.tenant is None
            (block,) = await pool.place(2, lambda *_: None, None, tenant="a")
            assert block.worker is fresh is await pool.worker_to_ask("a")
            new = await pool.worker_to_ask("b")
            assert new is not fresh and new.tenant is None
            (other,) = await pool.place(2, lambda *_: None, None, tenant="b")
            assert other.worker is new
            with pytest.raises(NoRoomError, match="the limit is 2"):
                await pool.worker_to_ask("c")
        finally:
            await pool.stop()

    asyncio.run(run())
