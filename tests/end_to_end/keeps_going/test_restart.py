"""A server that goes away and comes back on its port: what its clients are told, and when."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import ServeProcess
from helpers import HOSTILE, percentile_50, wait_until
from hostile import ACTIONS

from remote_gym import RemoteVectorEnv, SessionLost

ServeFactory = Callable[..., ServeProcess]

CLIENTS = 4
ABSENCE_SECONDS = 3.0  # long enough for every back-off to have reached its longest


class Stepping:
    """A client on a thread of its own that steps until its session is lost.

    Attributes:
        lost: (when, on the monotonic clock, and the error) once it is.
    """

    def __init__(self, address: str, reconnect_timeout_seconds: float = 60.0) -> None:
        self.lost: tuple[float, SessionLost] | None = None
        self.steps = 0
        self._envs = RemoteVectorEnv(address, num_envs=1, reconnect_timeout_seconds=reconnect_timeout_seconds)
        self._envs.reset()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self._envs as envs:
            try:
                while True:
                    envs.step(np.zeros(1, np.int64))
                    self.steps += 1
                    time.sleep(0.01)
            except SessionLost as error:
                self.lost = time.monotonic(), error


@contextlib.contextmanager
def steppers(address: str, count: int = CLIENTS) -> Iterator[list[Stepping]]:
    clients = [Stepping(address) for _ in range(count)]
    wait_until(lambda: all(client.steps > 3 for client in clients), what="steps")
    yield clients
    for client in clients:
        client.thread.join(20.0)
        assert not client.thread.is_alive()


def test_clients_of_a_killed_server_are_told_within_a_second_of_its_return(serve_process: ServeFactory) -> None:
    first = serve_process("CartPole-v1", "--num-workers", "1")
    with steppers(first.address) as clients:
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        time.sleep(ABSENCE_SECONDS)
        assert not any(client.lost for client in clients)
        second = serve_process("CartPole-v1", "--num-workers", "1", "--port", first.address.rpartition(":")[2])
        returned = time.monotonic()
        assert second.address == first.address
        wait_until(lambda: all(client.lost for client in clients), what="the news")
    told = [client.lost[0] - returned for client in clients if client.lost]
    print(f"told after {', '.join(f'{seconds:.2f}' for seconds in sorted(told))} s")
    assert percentile_50(told) < 1.0
    assert max(told) < 2.0  # 1 s on a machine of its own
    assert {client.lost[1].reason for client in clients if client.lost} == {"SERVER_RESTARTED"}
    with RemoteVectorEnv(second.address, num_envs=1) as envs:
        envs.reset()


def test_a_client_of_a_drained_server_waits_and_is_told_who_came_back(
    serve_process: ServeFactory, tmp_path: Path
) -> None:
    flags = (str(HOSTILE), "--num-workers", "1", "--entrypoint-kwargs", f'{{"notes": "{tmp_path}"}}')
    first = serve_process(*flags)
    with RemoteVectorEnv(first.address, num_envs=1, reconnect_timeout_seconds=60) as envs:
        envs.reset()
        envs.step_async([ACTIONS["gated"]])
        wait_until((tmp_path / "waiting").exists, what="a running step")
        first.process.terminate()
        wait_until(lambda: "draining: refusing" in first.log, what="the drain")
        (tmp_path / "open").touch()
        assert envs.step_wait()[1].tolist() == [1.0]
        assert first.process.wait(10.0) == 0
        envs.step_async([0])  # goes nowhere yet
        with pytest.raises(TimeoutError):
            envs.step_wait(timeout=0.5)
        serve_process(*flags, "--port", first.address.rpartition(":")[2])
        with pytest.raises(SessionLost) as caught:
            envs.step_wait()
        assert caught.value.reason == "SERVER_RESTARTED"


def test_a_client_of_a_server_that_stays_away_is_told_when_its_patience_ends(serve_process: ServeFactory) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1")
    with RemoteVectorEnv(served.address, num_envs=1, reconnect_timeout_seconds=1.0) as envs:
        envs.reset()
        served.process.terminate()
        assert served.process.wait(10.0) == 0
        began = time.monotonic()
        with pytest.raises(SessionLost) as caught:
            envs.step(np.zeros(1, np.int64))
        assert caught.value.reason == "UNREACHABLE"
        assert "could not be reached again for 1 s" in str(caught.value)
        assert 0.3 < time.monotonic() - began < 3.0
