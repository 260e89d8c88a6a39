"""A caller that reads its answer itself, interrupted at every single point, and by handlers that do as they like."""

from __future__ import annotations

import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from gymnasium.error import ClosedEnvironmentError
from gymnasium.vector import SyncVectorEnv
from mortal import MortalEnv
from sameness import assert_same
from striking import Interrupted, Striking

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.carriers import direct, incoming, turn
from remote_gym.client.session import delivery, outstanding, reader, session
from remote_gym.errors import RemoteGymError
from remote_gym.wire import frames

MORTAL = Path(__file__).parents[2] / "mortal.py"
MODULES = (direct, incoming, turn, delivery, outstanding, reader, session, frames, ssl)
FILES = [str(module.__file__) for module in MODULES]
ACTIONS = np.zeros(2, np.int64)

pytestmark = pytest.mark.skipif(not hasattr(os, "eventfd"), reason="the system cannot lend a socket")


@pytest.fixture(autouse=True)
def over_the_direct_carrier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_GYM_TRANSPORT", raising=False)


@pytest.fixture
def stood_in(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the answer came so, each time that somebody stood in."""
    stand_in, times = direct.DirectCarrier.stand_in, []

    def counted(*args: Any) -> bool:
        times.append(stand_in(*args))
        return times[-1]

    monkeypatch.setattr(direct.DirectCarrier, "stand_in", counted)
    return times


def test_steps_are_read_by_who_waits_for_them(serve: ServerFactory, stood_in: list[bool]) -> None:
    with RemoteVectorEnv(serve(str(MORTAL), num_workers=1).address, num_envs=2) as envs:
        envs.reset(seed=1)
        for _ in range(200):
            envs.step(ACTIONS)
    assert sum(stood_in) > 100


def test_an_interrupt_at_every_point(serve: ServerFactory) -> None:
    """The step stays pending, and the next `step_wait` returns its result: it ran once, and nothing is shifted."""
    oracle = SyncVectorEnv([MortalEnv] * 2)
    with RemoteVectorEnv(serve(str(MORTAL), num_workers=1).address, num_envs=2) as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        places, at, missed = set(), 0, 0
        while missed < 3:  # the number of points varies a little
            at += 1
            striking = Striking(at, *FILES)
            result = None
            envs.step_async(ACTIONS)
            try:
                sys.settrace(striking.trace)
                try:
                    result = envs.step_wait(timeout=20.0)
                finally:
                    sys.settrace(None)
            except Interrupted:
                places.add(striking.where)
                result = envs.step_wait(timeout=20.0)
            missed = missed + 1 if striking.left > 0 else 0
            assert_same(result, oracle.step(ACTIONS))
    oracle.close()
    assert len(places) > 30


def test_a_handler_closes_at_every_point(serve: ServerFactory) -> None:
    """Neither waits for what it has interrupted itself: `close` returns at once, and the step says why it ended."""
    address = serve(str(MORTAL), num_workers=1).address
    places, at, missed, slow = set(), 0, 0, set()
    while missed < 3:
        at += 1
        took = []
        with RemoteEnvironment(address) as env:
            env.reset(seed=3)

            def close(env: RemoteEnvironment = env, took: list[float] = took) -> None:
                began = time.monotonic()
                env.close()
                took.append(time.monotonic() - began)

            striking = Striking(at, *FILES, handler=close)
            sys.settrace(striking.trace)
            try:
                env.step(0)
            except ClosedEnvironmentError:
                assert took
            finally:
                sys.settrace(None)
        missed = missed + 1 if striking.left > 0 else 0
        if took:
            places.add(striking.where)
            if took[0] >= 0.4:  # who waits for itself does so again, a busy machine does not
                assert at not in slow, striking.where
                slow.add(at)
                at -= 1
    assert len(places) > 30


def test_a_handler_that_waits_for_what_it_has_interrupted_is_told(serve: ServerFactory) -> None:
    oracle = MortalEnv()
    with RemoteEnvironment(serve(str(MORTAL), num_workers=1).address) as env:
        assert_same(env.reset(seed=3), oracle.reset(seed=3))
        stand_in, told = direct.DirectCarrier._receive_here, []

        def struck(*args: Any) -> bool:
            with pytest.raises(RemoteGymError, match="only `close` may be called there") as raised:
                env.step(0)
            told.append(raised)
            return stand_in(*args)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(direct.DirectCarrier, "_receive_here", struck)
            while not told:
                assert_same(env.step(0), oracle.step(0))
        assert_same(env.step(0), oracle.step(0))


@pytest.fixture
def handled() -> Iterator[None]:
    old = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, old)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("what", ["forks", "takes long"])
def test_a_signals_handler_while_a_caller_reads(serve: ServerFactory, handled: None, what: str) -> None:
    oracle = SyncVectorEnv([MortalEnv] * 2)
    struck: list[int] = []

    def handler(*_: object) -> None:
        struck.append(1)
        if what == "forks":
            if (child := os.fork()) == 0:
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        else:
            time.sleep(0.01)

    signal.signal(signal.SIGUSR1, handler)
    with RemoteVectorEnv(serve(str(MORTAL), num_workers=1).address, num_envs=2) as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        for number in range(20):
            timer = threading.Timer(0.0001 * number, os.kill, (os.getpid(), signal.SIGUSR1))
            envs.step_async(ACTIONS)
            timer.start()
            result = envs.step_wait(timeout=20.0)
            timer.join()
            assert_same(result, oracle.step(ACTIONS))
    oracle.close()
    assert struck
