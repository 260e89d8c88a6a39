"""Strangers' environments share a worker: what one does costs the others a rebuild at most, and tells them nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from helpers import HOSTILE, wait_until
from hostile import ACTIONS
from raw import DirectClient, RawClient, Speaker

from remote_gym import EnvironmentLost, EnvironmentRaised, RefusedError, RemoteEnvironment, RemoteVectorEnv, values
from remote_gym.failures import FailureKind
from remote_gym.ipc.commands import CloseGroup, NotBuilt, Started
from remote_gym.ipc.link import encode
from remote_gym.pool.exits import WorkerLost
from remote_gym.pool.worker_process import WorkerProcess
from remote_gym.worker.results import failure, failure_of

ODD = """
import os
import numpy as np
from toys import FunctionEnv

class Unspeakable(Exception):
    def __str__(self):
        raise SystemExit(7)

class Misnamed(Exception): ...

Misnamed.__qualname__ = "Mis\\udfffnamed"

class Refuses(float):
    def __float__(self):
        raise RuntimeError("\\ud800 no")
    def __repr__(self):
        raise KeyboardInterrupt

def step(env, action):
    reward, info = 1.0, {}
    if action == 1: raise ValueError("a lone surrogate: \\ud800")
    if action == 2: raise Misnamed("x")
    if action == 3: raise Unspeakable
    if action == 4: raise KeyboardInterrupt
    if action == 5: raise ValueError("x" * 10_000_000)
    if action == 6: reward = 10 ** 400
    if action == 7: reward = Refuses()
    if action == 8: info = {"bad": object()}
    if action == 9: raise GeneratorExit
    if action == 10: os.write(2, b"by descriptor: hunter2\\n")
    if action == 11: print("by print: hunter2")
    if action == 12:
        import threading
        thread = threading.Thread(target=print, args=("by a thread: hunter2",))
        thread.start(); thread.join()
    return env.observation_space.sample(), reward, False, False, info

def create_environment():
    return FunctionEnv(step, action_space=__import__("gymnasium").spaces.Discrete(20))
"""


@pytest.fixture
def odd(tmp_path: Path) -> str:
    path = tmp_path / "odd.py"
    path.write_text(ODD)
    return str(path)


def test_whatever_an_environment_raises_or_returns_its_neighbours_go_on(serve: ServerFactory, odd: str) -> None:
    server = serve(odd, num_workers=1)
    worker = server.statistics()["worker_processes"]
    with RemoteVectorEnv(server.address, num_envs=2) as envs, RemoteEnvironment(server.address) as neighbour:
        envs.reset(seed=1)
        neighbour.reset(seed=1)
        for action in range(1, 10):
            with pytest.raises(EnvironmentRaised) as raised:
                envs.step([0, action])
            assert raised.value.env_index == 1
            assert len(str(raised.value)) < 200_000
            str(raised.value).encode()
            assert neighbour.step(0)[1] == 1.0
            envs.reset(options={"reset_mask": np.array([False, True])})
        assert envs.step([0, 0])[1].tolist() == [1.0, 1.0]
    assert server.statistics()["worker_processes"] == worker


@pytest.mark.parametrize("dial", [DirectClient, RawClient], ids=["direct", "grpc"])
def test_a_call_with_a_lone_surrogate_is_a_failure_like_any_other(
    serve: ServerFactory, dial: Callable[[str], Speaker]
) -> None:
    server = serve("CartPole-v1", num_workers=1)
    worker = server.statistics()["worker_processes"]
    with RawClient(server.address) as victim, dial(server.address) as hostile:
        victim.open(2)
        hostile.open(1)
        victim.ask("reset")
        for name, arguments in (("reset", [[], {"\ud800": 1}]), ("\ufffe", [[], {}]), ("render", [["\udfff"], {}])):
            (told,) = hostile.ask("call", name=name, arguments=values.pack(arguments)).failures
            assert told.kind in (1, 2)
        assert not victim.ask("step", actions=[b"\0" * 16]).failures
    assert server.statistics()["worker_processes"] == worker


class Misnamed(Exception): ...


Misnamed.__qualname__ = "Mis\udfffnamed"


@pytest.mark.parametrize("error", [ValueError("\ud800"), Misnamed("x"), RecursionError()], ids=ascii)
def test_failures_can_be_packed(error: Exception) -> None:
    assert encode([NotBuilt(failure_of(0, error))])


def test_failures_are_not_endless() -> None:
    assert len(encode([NotBuilt(failure(0, FailureKind.RAISED, "n" * 10**6, "m" * 10**6, "d" * 10**6))])) < 100_000


# Deaths


def loss_of(env: RemoteEnvironment) -> EnvironmentLost:
    """Step until the death of its worker has been noticed."""
    while True:
        try:
            env.step(0)
        except EnvironmentLost as lost:
            return lost


def test_deaths_count_against_whose_command_ran(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, restart_budget=(2, 600.0))
    with (
        RemoteEnvironment(server.address) as victim,
        RemoteVectorEnv(server.address, num_envs=1, on_worker_failure="raise") as hostile,
    ):
        victim.reset(seed=1)
        hostile.reset(seed=1)
        for death in range(3):
            if death:
                hostile.reset(seed=1)
            with pytest.raises(EnvironmentLost, match="exit code 3"):
                hostile.step([ACTIONS["exit_3"]])
            with pytest.raises(EnvironmentLost, match="exit code 3"):
                victim.step(0)
            victim.reset(seed=1)
        with pytest.raises(EnvironmentLost, match="the restart budget is used up"):
            hostile.reset()
        for _ in range(3):
            assert victim.step(0)[1] == 1.0


def test_a_death_of_nobody_s_making_counts_against_nobody(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, restart_budget=(1, 600.0))
    with RemoteEnvironment(server.address) as one, RemoteEnvironment(server.address) as other:
        for _ in range(4):
            for env in (one, other):
                env.reset(seed=1)
                env.step(0)
            (pid,) = server.statistics()["worker_processes"]
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: server.statistics()["worker_processes"] not in ([pid], []), 10.0, "a new worker")
            for env in (one, other):
                with pytest.raises(EnvironmentLost, match="SIGKILL"):
                    env.step(0)


@pytest.mark.parametrize("action", [10, 11, 12], ids=["descriptor", "print", "thread"])
def test_what_one_prints_is_not_told_to_another(
    serve: ServerFactory, odd: str, caplog: pytest.LogCaptureFixture, action: int
) -> None:
    caplog.set_level(logging.INFO)
    server = serve(odd, num_workers=1)
    with RemoteEnvironment(server.address) as victim, RemoteEnvironment(server.address) as hostile:
        victim.reset(seed=1)
        hostile.reset(seed=1)
        victim.step(action)
        hostile.step(0)
        wait_until(lambda: "hunter2" in caplog.text, 5.0, "the line in the server's own log")
        os.kill(server.statistics()["worker_processes"][0], signal.SIGKILL)
        assert "hunter2" not in str(loss_of(hostile))
        assert ("hunter2" in loss_of(victim).stderr_tail) == (action == 11)


def test_who_is_alone_in_a_worker_gets_every_line(serve: ServerFactory, odd: str) -> None:
    server = serve(odd, num_workers=1)
    with RemoteEnvironment(server.address) as env:
        env.reset(seed=1)
        for action in (10, 11, 12):
            env.step(action)
        os.kill(server.statistics()["worker_processes"][0], signal.SIGKILL)
        assert loss_of(env).stderr_tail.count("hunter2") == 3


def test_a_crash_tells_its_stack_to_whose_command_ran(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1)
    with RemoteEnvironment(server.address) as crashes, RemoteEnvironment(server.address) as neighbour:
        neighbour.reset(seed=1)
        crashes.reset(seed=1)
        with pytest.raises(EnvironmentLost) as lost:
            crashes.step(ACTIONS["segfault"])
        assert "Segmentation fault" in lost.value.stderr_tail and "hostile.py" in lost.value.stderr_tail
        with pytest.raises(EnvironmentLost) as lost:
            neighbour.step(0)
        assert lost.value.stderr_tail == ""


# Rounds


def test_a_callback_that_raises_drops_nobody_else_s(caplog: pytest.LogCaptureFixture) -> None:
    told: list[Any] = []

    def bad(_result: Any) -> None:
        raise ValueError("a bug of ours")

    worker = WorkerProcess("worker", lambda *_: None)
    worker._in_flight = [bad, told.append, bad, told.append]
    worker.received(encode([Started(1), Started(2)]))
    worker.received(encode([Started(3), Started(4)]))
    assert told == [Started(2), Started(4)] and not worker._in_flight
    assert "a bug of ours" in caplog.text


def test_every_callback_hears_of_the_end_whatever_the_others_do() -> None:
    async def main() -> list[Any]:
        told: list[Any] = []

        def bad(_result: Any) -> None:
            raise ValueError("a bug of ours")

        worker = WorkerProcess("worker", lambda *_: None)
        await worker.start()
        worker.submit(CloseGroup(1), bad)
        worker.submit(CloseGroup(2), told.append)
        worker.kill()
        await asyncio.wait_for(asyncio.shield(worker._exit_task), 20.0)
        return told

    assert [type(result) for result in asyncio.run(main())] == [WorkerLost]


# Workers that are added


def test_a_session_that_needs_too_many_workers_is_refused_before_one_is_started(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, max_envs_per_worker=1, max_workers=3)
    with (
        RemoteVectorEnv(server.address, num_envs=4) as envs,
        pytest.raises(RefusedError, match="limit is 3") as refused,
    ):
        envs.reset()
    assert refused.value.limit == "max_workers"
    assert server.statistics()["workers"] == 1
    with RemoteVectorEnv(server.address, num_envs=3) as envs:
        envs.reset()
        assert server.statistics()["workers"] == 3
    wait_until(lambda: server.statistics()["workers"] == 1, 10.0, "workers that nobody needs to end")


FEW_DESCRIPTORS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))
from remote_gym import create_remote_environment_server
with create_remote_environment_server(
    {"entrypoint": "CartPole-v1"}, port=0, num_workers=1, max_envs_per_worker=1, max_workers=64
) as server:
    print(server.address, flush=True)
    for _ in sys.stdin:
        print(server.statistics()["workers"], flush=True)
"""


def test_workers_that_could_not_all_be_started_are_given_back() -> None:
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-c", FEW_DESCRIPTORS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None

        def workers() -> int:
            print(file=process.stdin, flush=True)
            return int(process.stdout.readline())  # type: ignore[union-attr]

        address = process.stdout.readline().strip()
        with RemoteVectorEnv(address, num_envs=60) as envs, pytest.raises(RefusedError) as refused:
            envs.reset()
        assert refused.value.limit in ("num_workers", "descriptors")

        def opens() -> bool:
            with RemoteEnvironment(address) as env, contextlib.suppress(RefusedError):
                env.reset()
                return True
            return False

        wait_until(opens, 10.0, "the descriptors of the workers that were started to be free again")
        assert workers() == 1
        process.stdin.close()
        assert process.wait(20.0) == 0
