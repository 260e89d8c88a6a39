"""Ctrl-C at any moment of a step: it stays pending, `step_wait` returns *its* result, and nothing is shifted by one.

Up to three interrupts per step: those after the first strike while it is mended.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from signal import SIGUSR2
from types import FrameType
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from gymnasium.error import NoAsyncCallError
from gymnasium.vector import SyncVectorEnv
from mortal import MortalEnv
from sameness import assert_same
from striking import is_of_a_finalizer

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.session import session as session_module

MORTAL = Path(__file__).parents[2] / "mortal.py"
INTERRUPTS = 60
MAX_DELAY_SECONDS = 0.004
"""A step takes about half of it."""

INTERRUPTS_PER_STEP = 3


class Alarm:
    """Raises KeyboardInterrupt in the main thread at some moment soon after it was set."""

    def __init__(self) -> None:
        self._chance = random.Random(20261122)
        self._armed = False
        self._timer = threading.Timer(0, lambda: None)
        signal.signal(signal.SIGUSR2, self._ring)

    def set(self) -> None:
        self._armed = True
        self._timer = threading.Timer(self._chance.uniform(1e-6, MAX_DELAY_SECONDS), os.kill, (os.getpid(), SIGUSR2))
        self._timer.start()

    def _ring(self, _signal: int, frame: FrameType | None) -> None:
        if self._armed and is_of_a_finalizer(frame):
            self.set()
        elif self._armed:
            self._armed = False
            raise KeyboardInterrupt

    def stop(self) -> None:
        self._armed = False
        self._timer.join()


@pytest.fixture
def alarm() -> Iterator[Alarm]:
    old = signal.getsignal(SIGUSR2)
    alarm = Alarm()
    yield alarm
    alarm.stop()
    signal.signal(SIGUSR2, old)


def stubborn_step(envs: Any, actions: Any, alarm: Alarm) -> tuple[Any, int]:
    """Return the result of one step that may be interrupted, and how often it was."""
    interrupts = 0
    wait = False
    while True:
        try:
            try:
                if interrupts < INTERRUPTS_PER_STEP:
                    alarm.set()
                result = envs.step_wait() if wait else envs.step(actions)
            finally:
                alarm.stop()
            return result, interrupts
        except KeyboardInterrupt:
            interrupts += 1
            wait = True
        except NoAsyncCallError:  # it came before anything was sent
            wait = False


@pytest.mark.parametrize("servers", [1, 2])
def test_a_step_that_is_interrupted_stays_pending(serve: ServerFactory, alarm: Alarm, servers: int) -> None:
    addresses = [serve(str(MORTAL), num_workers=1).address for _ in range(servers)]
    oracle = SyncVectorEnv([MortalEnv] * 4)
    interrupts = steps = 0
    with RemoteVectorEnv(addresses, num_envs=4, batch_size=None if servers == 1 else 3) as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        while interrupts < INTERRUPTS and steps < 20 * INTERRUPTS:
            result, times = stubborn_step(envs, np.zeros(4, np.int64), alarm)
            interrupts, steps = interrupts + times, steps + 1
            assert_same(result, oracle.step(np.zeros(4, np.int64)))
    assert interrupts > INTERRUPTS // 4
    oracle.close()


def test_a_recv_that_is_interrupted_loses_nothing(serve: ServerFactory, alarm: Alarm) -> None:
    server = serve(str(MORTAL), num_workers=2)
    local = [MortalEnv() for _ in range(4)]
    expected = [env.reset(seed=3 + index)[0]["draw"] for index, env in enumerate(local)]
    over = [False] * 4
    interrupts = 0
    with RemoteVectorEnv(server.address, num_envs=4, batch_size=2) as envs:
        envs.async_reset(seed=3)
        for _ in range(40 * INTERRUPTS):
            times = 0
            while True:
                try:
                    try:
                        if times < INTERRUPTS_PER_STEP:
                            alarm.set()
                        received = envs.recv()
                    finally:
                        alarm.stop()
                    break
                except KeyboardInterrupt:
                    interrupts, times = interrupts + 1, times + 1
            ids = received[4]["env_id"]
            for row, index in enumerate(ids):
                assert (received[0]["draw"][row] == expected[index]).all()
                if over[index]:
                    expected[index], over[index] = local[index].reset()[0]["draw"], False
                else:
                    stepped = local[index].step(0)
                    expected[index], over[index] = stepped[0]["draw"], stepped[2]
            envs.send([0, 0], ids)
            if interrupts >= INTERRUPTS:
                break
    assert interrupts > INTERRUPTS // 8


def test_a_single_environment_goes_on(serve: ServerFactory, alarm: Alarm) -> None:
    """Whether an interrupted step ran cannot be known, as locally; the next call works and is not shifted."""
    server = serve(str(MORTAL), num_workers=1)
    interrupts = 0
    with RemoteEnvironment(server.address) as env:
        for episode in range(10 * INTERRUPTS):
            try:
                try:
                    env.reset(seed=episode)
                    alarm.set()
                    for _ in range(3):
                        env.step(0)
                finally:
                    alarm.stop()
            except KeyboardInterrupt:
                interrupts += 1
            observation, _ = env.reset(seed=episode)
            assert_same(observation["draw"], MortalEnv().reset(seed=episode)[0]["draw"])
            assert env.step(0)[1] == 1.0
            if interrupts >= INTERRUPTS // 2:
                break
    assert interrupts > INTERRUPTS // 8


def strike_in_request(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let Ctrl-C strike while the request of this number, counted from now on, is being packed."""
    pack, requests = session_module.pack_client, itertools.count(1)

    def packing(request: Any) -> bytes:
        if next(requests) == number:
            raise KeyboardInterrupt
        return bytes(pack(request))

    monkeypatch.setattr(session_module, "pack_client", packing)


def test_a_step_that_not_all_servers_were_asked_for_is_made_up_for(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [serve(str(MORTAL), num_workers=1).address for _ in range(2)]
    oracle = SyncVectorEnv([MortalEnv] * 4)
    with RemoteVectorEnv(servers, num_envs=4) as envs:
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        for _ in range(3):
            with monkeypatch.context() as patch:
                strike_in_request(patch, 2)
                with pytest.raises(KeyboardInterrupt):
                    envs.step_async(np.zeros(4, np.int64))
            assert_same(envs.step_wait(timeout=20.0), oracle.step(np.zeros(4, np.int64)))
    oracle.close()


def test_a_step_that_nobody_was_asked_for_is_not_waited_for(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = [serve("CartPole-v1", num_workers=1).address for _ in range(2)]
    with RemoteVectorEnv(servers, num_envs=4) as envs:
        envs.reset(seed=1)
        with monkeypatch.context() as patch:
            strike_in_request(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                envs.step_async(np.zeros(4, np.int64))
        with pytest.raises(NoAsyncCallError, match="interrupted before it was sent"):
            envs.step_wait(timeout=20.0)
        envs.reset(seed=1)
        envs.step(np.zeros(4, np.int64))


def test_a_send_that_was_not_sent_is_not_received(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    with RemoteVectorEnv(serve("CartPole-v1", num_workers=1).address, num_envs=2, batch_size=2) as envs:
        envs.async_reset(seed=1)
        envs.recv()
        with monkeypatch.context() as patch:
            strike_in_request(patch, 1)
            with pytest.raises(KeyboardInterrupt):
                envs.send(np.zeros(2, np.int64), np.arange(2))
        with pytest.raises(NoAsyncCallError, match="would wait for ever"):
            envs.recv(timeout=20.0)
        envs.send(np.zeros(2, np.int64), np.arange(2))
        assert sorted(envs.recv(timeout=20.0)[4]["env_id"]) == [0, 1]


def test_what_was_applied_and_not_taken_does_not_come_with_the_next_step(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    oracle = SyncVectorEnv([MortalEnv] * 2)
    actions = np.zeros(2, np.int64)
    with RemoteVectorEnv(serve(str(MORTAL), num_workers=1).address, num_envs=2) as envs:
        assert_same(envs.reset(seed=1), oracle.reset(seed=1))
        envs.step_async(actions)
        with monkeypatch.context() as patch:
            patch.setattr(session_module.Session, "took", strike)
            with pytest.raises(KeyboardInterrupt):
                envs.step_wait()
        assert_same(envs.step_wait(timeout=20.0), oracle.step(actions))
        assert_same(envs.step(actions), oracle.step(actions))
    oracle.close()
