"""A worker that dies or hangs: what its owners are told, how soon, and that everyone else goes on."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ServerFactory
from helpers import HOSTILE, lives, percentile_50, wait_until
from hostile import ACTIONS

from remote_gym import (
    EnvironmentLost,
    EnvironmentRaised,
    RemoteEnvironment,
    RemoteEnvironmentServer,
    RemoteVectorEnv,
    create_remote_environment_server,
)
from remote_gym.ipc.commands import CloseGroup, NoGroup, PictureGroup, Start
from remote_gym.ipc.link import RoundEncoder
from remote_gym.pool import worker_process
from remote_gym.pool.exits import WorkerLost
from remote_gym.pool.worker_process import WorkerProcess

HANG_SECONDS = 0.4


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notes")


@pytest.fixture(scope="module")
def server(notes: Path) -> Iterator[RemoteEnvironmentServer]:
    """Two workers; they may die as often as the tests like."""
    args = {"entrypoint": str(HOSTILE), "entrypoint_kwargs": {"notes": str(notes)}}
    with create_remote_environment_server(
        args, port=0, num_workers=2, step_timeout_seconds=HANG_SECONDS, restart_budget=None
    ) as server:
        yield server


@pytest.fixture
def pair(server: RemoteEnvironmentServer) -> Iterator[RemoteVectorEnv]:
    """Two environments, each in a worker of its own."""
    with RemoteVectorEnv(server.address, num_envs=2, on_worker_failure="raise") as envs:
        _, info = envs.reset(seed=0)
        assert len(set(info["pid"])) == 2
        yield envs


ENDS = {"sigkill": "killed by SIGKILL", "segfault": "killed by SIGSEGV", "exit_3": "exit code 3"}
LAST_WORDS = {"segfault": "about to read address 0", "exit_3": "about to leave"}


@pytest.mark.parametrize("death", ENDS)
def test_a_death_is_reported_with_its_cause_and_the_other_worker_goes_on(
    server: RemoteEnvironmentServer, death: str
) -> None:
    with RemoteEnvironment(server.address) as victim, RemoteEnvironment(server.address) as bystander:
        _, before = victim.reset(seed=1)
        _, others = bystander.reset(seed=1)
        assert before["pid"] != others["pid"]
        with pytest.raises(EnvironmentLost, match=ENDS[death]) as caught:
            victim.step(ACTIONS[death])
        assert caught.value.env_index == 0
        assert caught.value.reason.startswith(ENDS[death])
        assert f"env_id {before['env_id']}" in str(caught.value)
        assert LAST_WORDS.get(death, "") in caught.value.stderr_tail
        if death == "segfault":  # faulthandler says where
            assert "hostile.py" in caught.value.stderr_tail
        assert bystander.step(0)[4]["pid"] == others["pid"]
        _, after = victim.reset(seed=1)
        assert after["pid"] not in (before["pid"], others["pid"])
        assert after["env_id"] == before["env_id"]
        assert victim.step(0)[1] == 1.0


def test_in_a_batch_the_environment_that_died_is_named_and_reset_works_again(pair: RemoteVectorEnv) -> None:
    with pytest.raises(EnvironmentLost, match=r"environment 1 .*killed by SIGKILL") as caught:
        pair.step([0, ACTIONS["sigkill"]])
    assert caught.value.env_index == 1
    _, info = pair.reset(seed=3)
    assert len(set(info["pid"])) == 2
    _, rewards, _, _, _ = pair.step([0, 0])
    assert rewards.tolist() == [1.0, 1.0]


def test_sys_exit_is_an_exception_like_others(pair: RemoteVectorEnv) -> None:
    _, before = pair.reset(seed=0)
    with pytest.raises(EnvironmentRaised, match="SystemExit: 3") as caught:
        pair.step([ACTIONS["sys_exit"], 0])
    assert caught.value.remote_type == "builtins.SystemExit"
    assert "sys.exit(3)" in caught.value.remote_traceback
    _, after = pair.reset(seed=0)
    assert after["pid"].tolist() == before["pid"].tolist()


def test_a_death_is_noticed_within_milliseconds(
    server: RemoteEnvironmentServer, notes: Path, record_property: pytest.RecordProperty
) -> None:
    delays = []
    (notes / "died").unlink(missing_ok=True)
    with RemoteEnvironment(server.address) as env:
        for _ in range(5):
            env.reset()
            with pytest.raises(EnvironmentLost):
                env.step(ACTIONS["sigkill"])
            noticed = time.monotonic()
            died = float((notes / "died").read_text().split()[-1])
            delays.append(1e3 * (noticed - died))
    record_property("noticed_ms", percentile_50(delays))
    print(f"death noticed by the client after {percentile_50(delays):.1f} ms (median), {max(delays):.1f} ms at most")
    assert max(delays) < 1_000


@pytest.mark.parametrize("way", ["hang", "hang_with_gil"])
def test_a_hung_environment_is_killed_at_its_deadline_with_its_stack_in_the_log(
    server: RemoteEnvironmentServer, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "remote_gym")
    with RemoteEnvironment(server.address) as env:
        _, info = env.reset()
        began = time.monotonic()
        with pytest.raises(EnvironmentLost, match=f"hung in step for more than {HANG_SECONDS:g} s") as caught:
            env.step(ACTIONS[way])
        assert HANG_SECONDS <= time.monotonic() - began < HANG_SECONDS + 2.0
        assert not lives(info["pid"])
        assert f"in {way}" in caught.value.stderr_tail
        stack = [record.getMessage() for record in caplog.records if f"in {way}" in record.getMessage()]
        assert stack
        assert "hostile.py" in stack[0]
        env.reset()
        assert env.step(0)[1] == 1.0


def test_many_slow_environments_in_one_worker_are_not_taken_for_a_hung_one(serve: ServerFactory) -> None:
    # Six steps of 0.4 s one after the other: longer than the limit of one, which is what counts.
    server = serve(str(HOSTILE), num_workers=1, step_timeout_seconds=1.5)
    with RemoteVectorEnv(server.address, num_envs=6) as envs:
        envs.reset()
        began = time.monotonic()
        envs.step([ACTIONS["slow"]] * 6)
        assert time.monotonic() - began > 2.0


def test_a_worker_that_is_killed_while_idle_is_replaced(server: RemoteEnvironmentServer) -> None:
    with RemoteEnvironment(server.address) as env:
        _, info = env.reset()
        killed = next(pid for pid in server.statistics()["worker_processes"] if pid == info["pid"])
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: killed not in server.statistics()["worker_processes"], 5.0, "the replacement")
        assert len(server.statistics()["worker_processes"]) == 2
        _, after = env.reset()
        assert after["pid"] in server.statistics()["worker_processes"]


def test_beyond_the_restart_budget_environments_stay_lost_and_say_so(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, restart_budget=(1, 60.0))
    with RemoteEnvironment(server.address) as env:
        env.reset()
        with pytest.raises(EnvironmentLost):
            env.step(ACTIONS["exit_3"])
        env.reset()
        with pytest.raises(EnvironmentLost):
            env.step(ACTIONS["exit_3"])
        with pytest.raises(EnvironmentLost, match=r"exit code 3; not rebuilt, the restart budget is used up"):
            env.reset()


def test_one_answer_per_round_however_many_commands_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[list[Any]] = []
    encode = worker_process.encode

    def recording(message: list[Any]) -> bytes:
        rounds.append(message)
        return encode(message)

    class Recording(RoundEncoder):
        def encode(self, commands: Sequence[Any]) -> bytes:
            rounds.append(list(commands))
            return super().encode(commands)

    async def run() -> tuple[list[int], list[int]]:
        answers: list[int] = []
        frames: list[int] = []
        worker = WorkerProcess("worker", lambda _worker, _lost: None)
        await worker.start()
        received = worker.received
        monkeypatch.setattr(worker, "received", lambda data: (frames.append(len(data)), received(data)))
        done = asyncio.Event()
        for number in range(20):  # closing a group that does not exist is the least a worker can be asked for
            worker.submit(CloseGroup(number), lambda result, number=number: answers.append(number))
        worker.submit(CloseGroup(20), lambda _result: done.set())
        await asyncio.wait_for(done.wait(), 20.0)
        worker.submit(CloseGroup(21), lambda _result: None)
        await worker.stop()
        return answers, frames

    monkeypatch.setattr(worker_process, "encode", recording)
    monkeypatch.setattr(worker_process, "RoundEncoder", Recording)
    answers, frames = asyncio.run(run())
    assert answers == list(range(20))
    start, batch, *_last = rounds
    assert [type(command) for command in start] == [Start]
    assert set(start[0]._fields) == {"environment", "limits", "in_a_sandbox", "hidden"}
    assert [command.group for command in batch] == list(range(21))  # what waited for the busy worker travelled together
    assert len(frames) == len(rounds)


def test_every_callback_is_called_once_when_the_worker_dies() -> None:
    async def run() -> tuple[list[Any], list[WorkerLost]]:
        answers: list[Any] = []
        exits: list[WorkerLost] = []
        worker = WorkerProcess("worker", lambda _worker, lost: exits.append(lost))
        await worker.start()
        for _ in range(3):
            worker.submit(CloseGroup(0), answers.append)
        worker.kill()
        await asyncio.wait_for(asyncio.shield(worker._exit_task), 20.0)
        worker.submit(CloseGroup(0), answers.append)  # also one that comes too late
        await asyncio.sleep(0)
        await worker.stop()
        return answers, exits

    answers, exits = asyncio.run(run())
    assert len(answers) == 4
    assert all(isinstance(answer, WorkerLost) and "SIGKILL" in answer.reason for answer in answers)
    assert len(exits) == 1


def test_a_flood_of_output_waits_and_comes_whole() -> None:
    received: list[bytes] = []
    reading: list[bool] = []

    def take(data: bytes) -> bool:
        received.append(data)
        return True

    class Watcher(worker_process._Watcher):
        def pipe_data_received(self, fd: int, data: bytes) -> None:
            super().pipe_data_received(fd, data)
            reading.append(self._process.get_pipe_transport(fd).is_reading())

    async def run() -> None:
        loop = asyncio.get_running_loop()
        exited, ended = loop.create_future(), loop.create_future()
        command = [sys.executable, "-c", "for _ in range(1000): print('x' * 999)"]
        process, _ = await loop.subprocess_exec(
            lambda: Watcher(exited, ended, take), *command, stdin=None, stdout=asyncio.subprocess.PIPE, stderr=None
        )
        await asyncio.wait_for(asyncio.gather(exited, ended), 20.0)
        process.close()

    asyncio.run(run())
    assert b"".join(received) == (b"x" * 999 + b"\n") * 1_000
    assert reading[0] is False, "others have their turn"


def test_what_is_done_at_leisure_comes_after_all_else_alone() -> None:
    async def run() -> list[Any]:
        order: list[Any] = []
        worker = WorkerProcess("worker 7", lambda _worker, _lost: None)
        assert worker.number == 7
        await worker.start()
        done = asyncio.Event()
        begun = worker.submit_at_leisure(PictureGroup(1, 0, 16), lambda result: order.append(type(result)))
        withdraw = worker.submit_at_leisure(PictureGroup(2, 0, 16), lambda _result: order.append("withdrawn"))
        worker.submit_at_leisure(PictureGroup(3, 0, 16), lambda _result: (order.append("last"), done.set()))
        assert [withdraw(), withdraw()] == [True, False]
        for number in range(3):
            worker.submit(CloseGroup(number), lambda _result, number=number: order.append(number))
        await asyncio.wait_for(done.wait(), 20.0)
        assert not begun()
        assert worker.busy_seconds > 0
        worker.submit_at_leisure(PictureGroup(4, 0, 16), order.append)
        worker.kill()
        await asyncio.wait_for(asyncio.shield(worker._exit_task), 20.0)
        worker.submit_at_leisure(PictureGroup(5, 0, 16), order.append)
        await asyncio.sleep(0)
        assert (worker.busy_seconds, worker.step_counts) == (0.0, ())
        return order

    *before, dying, late = asyncio.run(run())
    assert before == [0, 1, 2, NoGroup, "last"]
    assert isinstance(late, WorkerLost)
    assert isinstance(dying, (WorkerLost, NoGroup))
