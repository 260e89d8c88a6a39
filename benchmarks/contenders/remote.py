"""Contender's process: clients of a remote_gym server that the parent has started.

Config: `addresses` (one, or several behind one vector env), `credentials` (PEM paths or None), `num_envs`, and what the
function names. `transport`: ``"direct"`` or ``"grpc"``; without it, whatever the client chooses.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

from contenders.stepping import Run, Single, action_batches, stepping, timing

from remote_gym import RemoteEnvironment, RemoteVectorEnv


def _connect(config: dict[str, Any], **options: Any) -> RemoteVectorEnv:
    addresses = config["addresses"]
    return RemoteVectorEnv(
        addresses[0] if len(addresses) == 1 else addresses,
        num_envs=config["num_envs"],
        client_credentials_paths=config["credentials"],
        **_transport(config),
        **options,
    )


def _transport(config: dict[str, Any]) -> dict[str, Any]:
    return {"transport": config["transport"]} if "transport" in config else {}  # old checkouts do not know it


@contextmanager
def local(config: dict[str, Any]) -> Iterator[Run]:
    """`RemoteVectorEnv.local`: no server of the parent's; `env` is a name of `environments.py`."""
    kwargs = {"name": config["env"]}
    with RemoteVectorEnv.local(
        config["entrypoint"], config["num_envs"], entrypoint_kwargs=kwargs, num_workers=config["num_workers"]
    ) as envs:
        envs.reset(seed=0)
        yield stepping(envs.step, action_batches(envs.action_space), envs.num_envs)


@contextmanager
def _stepping(config: dict[str, Any], copy: bool) -> Iterator[Run]:
    began = time.perf_counter()
    with _connect(config, copy=copy) as envs:
        envs.reset(seed=0)
        facts = {"open_seconds": time.perf_counter() - began, "process": os.getpid()}
        run = stepping(envs.step, action_batches(envs.action_space), envs.num_envs)
        yield lambda seconds: {**run(seconds), **facts}


def step(config: dict[str, Any]) -> Any:
    """`step()`, whose observations are writable copies."""
    return _stepping(config, copy=True)


@contextmanager
def counted(config: dict[str, Any]) -> Iterator[Run]:
    """`step()`, with what it costs this process; the bytes are those of messages, both ways. Linux only."""
    began = time.perf_counter()
    with _connect(config) as envs:
        envs.reset(seed=0)
        opened = time.perf_counter() - began
        stepped = stepping(envs.step, action_batches(envs.action_space), envs.num_envs)

        def run(seconds: float) -> dict[str, Any]:
            before = _bytes(envs), time.process_time(), time.thread_time()
            account = stepped(seconds)
            after = _bytes(envs), time.process_time(), time.thread_time()
            passed, cpu, caller = (now - then for then, now in zip(before, after, strict=True))
            own = Path("/proc/self")
            return {
                **account, "rounds": account["steps"] // envs.num_envs, "cpu_seconds": cpu, "caller_seconds": caller,
                "bytes": passed, "open_seconds": opened,
                "resident_bytes": int((own / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
                "threads": len(list((own / "task").iterdir())), "descriptors": len(list((own / "fd").iterdir())),
            }  # fmt: skip

        yield run


def _bytes(envs: RemoteVectorEnv) -> int:
    told = envs.statistics()
    return int(told["sent_bytes"] + told["received_bytes"])


def views(config: dict[str, Any]) -> Any:
    """`step()` with ``copy=False``."""
    return _stepping(config, copy=False)


@contextmanager
def batches(config: dict[str, Any]) -> Iterator[Run]:
    """`send` and `recv` of the first `batch_size` ready environments; all the others are in flight meanwhile."""
    size = config["batch_size"]
    with _connect(config, batch_size=size) as envs:
        actions = [batch[:size] for batch in action_batches(envs.action_space)]
        envs.async_reset(seed=0)

        def exchange(batch: Any) -> None:
            *_, info = envs.recv()
            envs.send(batch, info["env_id"])

        timed = stepping(exchange, actions, size)

        def run(seconds: float) -> dict[str, Any]:
            # What got ready while others had their turn must not count.
            for _ in range(2 * -(-config["num_envs"] // size)):
                exchange(actions[0])
            return timed(seconds)

        yield run


@contextmanager
def in_flight(config: dict[str, Any]) -> Iterator[Run]:
    """Several vector envs of `num_envs` each, all with a step in flight: `step_async` on the rest while one waits."""
    with ExitStack() as stack:
        clients = [stack.enter_context(_connect(config)) for _ in range(config["clients"])]
        for envs in clients:
            envs.reset(seed=0)
        actions = action_batches(clients[0].action_space)

        def run(seconds: float) -> dict[str, Any]:
            began = time.perf_counter()
            waiting = deque(clients)
            for envs in clients:
                envs.step_async(actions[0])
            rounds = 0
            while time.perf_counter() - began < seconds:
                waiting[0].step_wait()
                waiting[0].step_async(actions[rounds % len(actions)])
                waiting.rotate(-1)
                rounds += 1
            for envs in waiting:
                envs.step_wait()
            elapsed = time.perf_counter() - began
            return {"steps": (rounds + len(clients)) * config["num_envs"], "seconds": elapsed}

        yield run


@contextmanager
def sessions(config: dict[str, Any]) -> Iterator[Run]:
    """`clients` sessions of `num_envs` environments each, all stepped at the same time."""
    began = time.perf_counter()
    with ExitStack() as stack:
        clients = [stack.enter_context(_connect(config)) for _ in range(config["clients"])]
        for envs in clients:
            envs.reset_async(seed=0)
        for envs in clients:
            envs.reset_wait()
        open_seconds = time.perf_counter() - began
        actions = action_batches(clients[0].action_space)

        def step_all(batch: Any) -> None:
            for envs in clients:
                envs.step_async(batch)
            for envs in clients:
                envs.step_wait()

        run = stepping(step_all, actions, config["num_envs"] * len(clients))
        yield lambda seconds: {**run(seconds), "open_seconds": open_seconds}


@contextmanager
def single(config: dict[str, Any]) -> Iterator[Run]:
    """One `RemoteEnvironment`, each step timed."""
    credentials = config["credentials"]
    with RemoteEnvironment(config["addresses"][0], client_credentials_paths=credentials, **_transport(config)) as env:
        one = Single(env)
        yield timing(one.step, one.reset_if_over)


@contextmanager
def timed(config: dict[str, Any]) -> Iterator[Run]:
    """One `RemoteVectorEnv`, each step timed."""
    with _connect(config) as envs:
        envs.reset(seed=0)
        actions = cycle(action_batches(envs.action_space))
        yield timing(lambda: envs.step(next(actions)))
