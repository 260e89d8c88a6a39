"""Remote environments inside of other things: vector environments, processes, threads, event loops, a prompt.

What needs a fork, or an interpreter's end, happens in a fresh process, never in this one, which uses gRPC.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import ServeProcess, ToyServer
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import SyncVectorEnv
from helpers import closes_with_a_pending_step, wait_until
from sameness import assert_same

from remote_gym import MisuseError, RemoteEnvironment, RemoteVectorEnv

KWARGS = {"id": "CartPole-v1", "max_episode_steps": 7}


def sessions(toys: ToyServer) -> int:
    return int(toys.server.statistics()["sessions"])


def wait_for_sessions(toys: ToyServer, expected: int, seconds: float = 20) -> None:
    """Poll: the server hears of an end a moment later."""
    deadline = time.monotonic() + seconds
    while sessions(toys) != expected and time.monotonic() < deadline:
        time.sleep(0.02)
    assert sessions(toys) == expected


def rollout(env: Any, steps: int = 20, seed: int = 3) -> list[Any]:
    """Return all that `env`, one environment or many, says in an episode or more."""
    env.action_space.seed(seed)
    said: list[Any] = [env.reset(seed=seed)]
    for _ in range(steps):
        said.append(env.step(env.action_space.sample()))
        if said[-1][2] is True or said[-1][3] is True:
            said.append(env.reset())
    return said


def local_rollout(seed: int = 3, **kwargs: Any) -> list[Any]:
    with gym.make(**KWARGS, **kwargs) as env:
        return rollout(env, seed=seed)


# Vector environments made of remote ones.


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_sync_vector_env_of_remote_environments(toys: ToyServer, mode: str) -> None:
    kwargs = {"length": 4}
    envs = SyncVectorEnv([lambda: toys.single("counter", kwargs)] * 3, autoreset_mode=mode)
    local = SyncVectorEnv([lambda: toy_module.counter(**kwargs)] * 3, autoreset_mode=mode)
    random = np.random.default_rng(1)
    try:
        assert envs.metadata == local.metadata and envs.observation_space == local.observation_space
        assert_same(envs.reset(seed=1), local.reset(seed=1))
        for number in range(20):
            actions = random.integers(3, size=3)
            ours, theirs = envs.step(actions), local.step(actions)
            assert_same(ours, theirs, f"step {number}")
            if mode == "Disabled" and (over := theirs[2] | theirs[3]).any():
                assert_same(*(env.reset(options={"reset_mask": over.copy()}) for env in (envs, local)))
        assert_same(envs.call("render"), local.call("render"))
    finally:
        envs.close(), local.close()


ASYNC = """
import sys
import gymnasium as gym, numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from remote_gym import RemoteEnvironment

def main():
    address, context, dialled = sys.argv[1], sys.argv[2], sys.argv[3]

    def remote():
        return RemoteEnvironment(address)

    if dialled == "dialled":  # gRPC has run in this process before the fork
        with remote() as before:
            before.reset(seed=1)
    envs = AsyncVectorEnv([remote] * 3, context=context)
    local = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * 3)
    assert envs.observation_space == local.observation_space
    ours, theirs = envs.reset(seed=1), local.reset(seed=1)
    assert (ours[0] == theirs[0]).all()
    for number in range(60):
        actions = np.array([number % 2, 1, 0])
        ours, theirs = envs.step(actions), local.step(actions)
        for one, other in zip(ours[:4], theirs[:4]):
            assert (one == other).all(), number
        assert list(ours[4]) == list(theirs[4])
    assert envs.call("spec") == local.call("spec")
    envs.close()
    print("done")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.parametrize("dialled", ["fresh", "dialled"])
def test_async_vector_env_of_remote_environments(
    serve_process: Callable[..., ServeProcess], tmp_path: Any, context: str, dialled: str
) -> None:
    served = serve_process("CartPole-v1")
    script = tmp_path / "trainer.py"
    script.write_text(ASYNC)
    done = run([str(script), served.address, context, dialled], timeout=60)
    assert done.stdout == "done\n", done.stderr


def run(arguments: list[str], timeout: float, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=timeout, **options)


def test_a_session_that_hosts_remote_environments(serve_process: Callable[..., ServeProcess]) -> None:
    """A server in front of another server."""
    inner = serve_process("CartPole-v1")
    outer = serve_process("remote_gym:remote_gym/Remote-v0", environment={"REMOTE_GYM_URL": inner.address})
    with RemoteEnvironment(outer.address) as env, gym.make("CartPole-v1") as local:
        assert_same(rollout(env), rollout(local))


# Copies.

PICKLERS = [pytest.param(pickle.dumps, id="pickle")]
try:
    import cloudpickle
except ImportError:
    pass
else:
    PICKLERS.append(pytest.param(cloudpickle.dumps, id="cloudpickle"))


@pytest.mark.parametrize("dumps", PICKLERS)
@pytest.mark.parametrize("when", ["before use", "after use", "after close"])
def test_copies(toys: ToyServer, dumps: Callable[[Any], bytes], when: str) -> None:
    before = sessions(toys)
    for env in (toys.single("gymnasium_env", KWARGS), toys.vector("gymnasium_env", 2, KWARGS)):
        if when != "before use":
            env.reset(seed=1)
            env.step(env.action_space.sample())
        if when == "after close":
            env.close()
        held = sessions(toys)
        copied = pickle.loads(dumps(env))
        assert sessions(toys) == held, "a copy dials on first need only"
        assert type(copied) is type(env)
        fresh = copied.__class__(**copied.__getstate__())
        assert_same(rollout(copied), rollout(fresh), "a copy begins anew")
        if when == "after use":
            env.step(env.action_space.sample())  # the original goes on
        for one in (env, copied, fresh):
            one.close()
    wait_for_sessions(toys, before)


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_deepcopy_is_such_a_copy(toys: ToyServer, kind: str) -> None:
    with getattr(toys, kind)("counter") as env:
        env.reset(seed=1)
        env.step(env.action_space.sample())
        for copier in (copy.deepcopy, copy.copy):
            with copier(env) as copied:
                assert_same(copied.reset(seed=1)[0], env.reset(seed=1)[0])


def test_wrapped_ones_are_copied_too(toys: ToyServer) -> None:
    with gym.wrappers.TimeLimit(toys.single("counter", {"length": 50}), 3) as env:
        env.reset(seed=1)
        with pickle.loads(pickle.dumps(env)) as copied:
            copied.reset(seed=1)
            assert [copied.step(0)[3] for _ in range(3)] == [False, False, True]


# Threads.


def test_many_threads_with_an_environment_each(toys: ToyServer) -> None:
    expected = {seed: local_rollout(seed) for seed in range(12)}

    def work(seed: int) -> None:
        with toys.single("gymnasium_env", KWARGS) as env:
            assert_same(rollout(env, seed=seed), expected[seed])

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, expected))


def test_two_threads_on_one_channel(toys: ToyServer) -> None:
    """Sessions with one address share a channel; neither waits for, nor hears of, the other."""
    expected = local_rollout()
    start = threading.Barrier(2)
    envs = [toys.single("gymnasium_env", KWARGS, transport="grpc") for _ in range(2)]
    dialers = [env._remote.fleet.hosted[0].session._reader._dialer for env in envs]
    assert dialers[0].shared is dialers[1].shared is not None  # type: ignore[attr-defined]

    def work(env: RemoteEnvironment) -> None:
        start.wait()
        for _ in range(5):
            assert_same(rollout(env), expected)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(work, envs))
    envs[0].close()
    assert_same(rollout(envs[1]), expected, "the other one closed its session, not the channel")
    envs[1].close()


def test_an_environment_is_handed_from_thread_to_thread(toys: ToyServer) -> None:
    with toys.single("gymnasium_env", KWARGS) as env, gym.make(**KWARGS) as local, ThreadPoolExecutor(1) as thread:
        assert_same(thread.submit(env.reset, seed=1).result(), local.reset(seed=1))
        for number in range(6):
            step = env.step if number % 2 else lambda action: thread.submit(env.step, action).result()
            assert_same(step(number % 2), local.step(number % 2))


# Event loops and prompts.


def test_inside_of_an_event_loop(toys: ToyServer) -> None:
    async def main() -> list[Any]:
        with toys.single("gymnasium_env", KWARGS) as env:
            here = rollout(env)
            ticks: list[int] = []

            async def tick() -> None:
                while True:
                    ticks.append(1)
                    await asyncio.sleep(0)

            ticking = asyncio.create_task(tick())
            there = await asyncio.to_thread(rollout, env)
            ticking.cancel()
            assert ticks, "the loop goes on meanwhile"
            return [here, there]

    assert_same(asyncio.run(main()), [local_rollout()] * 2)


PROMPT = """
import gymnasium as gym
env = gym.make("remote_gym:remote_gym/Remote-v0")
env
observation, info = env.reset(seed=1)
for _ in range(3):
    observation, reward, terminated, truncated, info = env.step(1)

print("stepped", observation.shape, reward)
env.step("left")
env.step(1)[1]
env.nothing
envs = gym.make_vec("remote_gym:remote_gym/Remote-v0", num_envs=2)
envs.reset(seed=1)[0].shape
envs
env.close()
env.step(1)
"""


def test_a_session_at_a_prompt(serve_process: Callable[..., ServeProcess]) -> None:
    """Definitions without a module or a file, errors in between, no close of the last environment."""
    served = serve_process("CartPole-v1")
    variables = {**os.environ, "REMOTE_GYM_URL": served.address, "PYTHON_BASIC_REPL": "1"}
    done = run(["-q", "-i", "-u"], input=PROMPT, timeout=60, env=variables)
    assert done.returncode == 0, done.stderr
    assert "stepped (4,) 1.0" in done.stdout
    assert "(2, 4)" in done.stdout
    assert f"RemoteVectorEnv(remote_gym/Remote-v0, {served.address}, num_envs=2)" in done.stdout
    errors = [line for line in done.stderr.splitlines() if line and line[0] != " " and "Error" in line]
    assert [line.split(":")[0].rpartition(".")[2] for line in errors] == [
        "MisuseError",
        "AttributeError",
        "ClosedEnvironmentError",
    ], done.stderr


# Ends without a close.


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_garbage_collection_frees_the_session(toys: ToyServer, kind: str) -> None:
    before = sessions(toys)
    env = getattr(toys, kind)("counter")
    env.reset()
    assert sessions(toys) == before + 1
    del env
    wait_for_sessions(toys, before)


@pytest.mark.parametrize("kind", ["single", "vector"])
def test_garbage_collection_of_a_cycle_frees_the_session(toys: ToyServer, kind: str) -> None:
    before = sessions(toys)
    env = getattr(toys, kind)("counter")
    env.reset()
    env.itself = env
    wrapped: Any = gym.wrappers.TimeLimit(env, 3) if kind == "single" else gym.vector.VectorWrapper(env)
    del env, wrapped
    gc.collect()
    wait_for_sessions(toys, before)


def test_a_failed_trainer_frees_the_session(toys: ToyServer) -> None:
    before = sessions(toys)

    def train() -> None:
        env = toys.vector("counter")
        env.reset()
        env.step_async(np.zeros(3, np.int64))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        train()
    del caught
    gc.collect()
    wait_for_sessions(toys, before)


LEFT_OPEN = """
import sys
from remote_gym import RemoteEnvironment, RemoteVectorEnv
args = {"entrypoint_kwargs": {"toy": "counter"}}
kind, ending, address, ca = sys.argv[1:]
if kind == "single":
    env = RemoteEnvironment(address, remote_args=args, client_credentials_paths=(ca,))
    env.reset()
else:
    env = RemoteVectorEnv(address, num_envs=2, remote_args=args, client_credentials_paths=(ca,))
    env.reset()
    env.step_async([0, 0])
print("opened", flush=True)
sys.stdin.readline()
if ending == "raises":
    raise SystemExit("the trainer failed")
if ending == "thread":
    import threading
    threading.Thread(target=lambda: env.close()).start()
if ending == "killed":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("ending", ["ends", "raises", "thread"])
@pytest.mark.parametrize("kind", ["single", "vector"])
def test_the_end_of_the_interpreter_frees_the_session(toys: ToyServer, kind: str, ending: str) -> None:
    before = sessions(toys)
    process, began = left_open(toys, kind, ending, before)
    _, errors = process.communicate("go\n", timeout=20)
    assert time.monotonic() - began < 15, "it ends in bounded time"
    assert process.returncode == (1 if ending == "raises" else 0)
    if (kind, ending) == ("vector", "thread"):  # which has called `close`
        assert errors.count("Calling `close` while waiting for a pending call to `step`") == 1
    else:
        assert errors == ("the trainer failed\n" if ending == "raises" else "")
    wait_for_sessions(toys, before)


def left_open(toys: ToyServer, kind: str, ending: str, before: int) -> tuple[subprocess.Popen[str], float]:
    """Start a process that holds a session and ends when it is told to."""
    ca = str(toys.certificates.client[0])
    command = [sys.executable, "-c", textwrap.dedent(LEFT_OPEN), kind, ending, toys.server.address, ca]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
    assert process.stdout.readline() == "opened\n"
    assert sessions(toys) == before + 1
    return process, time.monotonic()


@closes_with_a_pending_step
@pytest.mark.parametrize("when", ["at once", "while it waits"])
def test_closing_while_another_thread_waits(toys: ToyServer, tmp_path: Any, when: str) -> None:
    """Closing ends the wait; neither hangs, though the step itself has not ended."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    env = toys.vector("gated", 1, {"gate": str(gate)})
    env.reset()
    env.step_async(np.array([1]))
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(env.step_wait)
        if when == "while it waits":
            wait_until(lambda: env._remote.fleet.hosted[0].session._protocol.awaited, what="it waits")
        began = time.monotonic()
        env.close()
        assert time.monotonic() - began < 10
        gate.write_bytes(b"")  # lets the worker go
        with pytest.raises(ClosedEnvironmentError):
            waiting.result(timeout=20)


def test_made_of_remote_ones_needs_an_address_only_when_it_is_made() -> None:
    with pytest.raises(MisuseError):
        SyncVectorEnv([lambda: RemoteEnvironment()])
    assert RemoteVectorEnv("localhost", 1).num_envs == 1
