"""One slow, stalled or rude client: the others do not notice, and the server's memory stays bounded."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from conftest import Certificates, ServeProcess, ServerFactory
from helpers import HOSTILE, wait_until

from remote_gym import RefusedError, RemoteVectorEnv, values
from remote_gym.messages import Open, Opened, Reset, Step
from remote_gym.server import listening
from remote_gym.server.carriers import door
from remote_gym.server.carriers.outlet import UNREAD_BYTES
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, SESSION_METHOD, pack_client, read_server

ServeFactory = Callable[..., ServeProcess]

STALLING = """
import sys, numpy as np
from remote_gym import RemoteVectorEnv
envs = RemoteVectorEnv(sys.argv[1], num_envs=16, remote_args={"entrypoint_kwargs": {"pixels": 100_000}})
envs.reset()
print("stepping", flush=True)
while True:
    envs.step(np.zeros(16, np.int64))
"""


@contextlib.contextmanager
def stalling_client(address: str) -> Iterator[subprocess.Popen[str]]:
    """A client process that steps 16 environments with 1.6 MB of observations and is stopped in the middle."""
    command = [sys.executable, "-c", STALLING, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "stepping\n"
            yield process
        finally:
            process.kill()


def steps_per_second(envs: RemoteVectorEnv, seconds: float = 1.0) -> tuple[float, float]:
    """Return the rate and the longest step."""
    actions, longest, count = np.zeros(4, np.int64), 0.0, 0
    began = before = time.monotonic()
    while before - began < seconds:
        envs.step(actions)
        now = time.monotonic()
        longest, before, count = max(longest, now - before), now, count + 1
    return count / seconds, longest


def test_a_stopped_client_slows_nobody(serve_process: ServeFactory) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "2", "--allow-kwargs", "pixels")
    with RemoteVectorEnv(served.address, num_envs=4) as envs, contextlib.ExitStack() as stack:
        envs.reset()
        alone, _ = steps_per_second(envs)
        clients = [stack.enter_context(stalling_client(served.address)) for _ in range(3)]
        for client in clients:
            client.send_signal(signal.SIGSTOP)
        server = psutil.Process(served.process.pid)
        memory = server.memory_info().rss
        beside, longest = steps_per_second(envs)
        grown = server.memory_info().rss - memory
    print(f"{alone:.0f} steps/s alone, {beside:.0f} beside 3 stopped clients, longest {1e3 * longest:.0f} ms, {grown=}")
    assert beside > 0.5 * alone
    assert longest < 0.5
    assert grown < 16e6


class RudeClient:
    """Asks and asks, and never reads an answer. Speaks the protocol by hand: ours does no such thing."""

    def __init__(self, address: str, num_envs: int, pixels: int) -> None:
        self.sent = 0
        self._num_envs = num_envs
        self._kwargs = values.pack({"pixels": pixels})
        self._channel = grpc.insecure_channel(address)
        self._ended = threading.Event()
        self._call: Any = self._channel.stream_stream(SESSION_METHOD)(self._requests())  # type: ignore[arg-type]

    def _requests(self) -> Iterator[bytes]:
        yield pack_client(
            Open(PROTOCOL_MIN, PROTOCOL_MAX, os.urandom(16), self._num_envs, self._kwargs, autoreset_mode="NextStep")
        )
        yield pack_client(Reset(1))
        for number in itertools.count(2):
            if self._ended.is_set():
                return
            yield pack_client(Step(number, None, [np.zeros(self._num_envs, np.int64)]))
            self.sent += 1
            time.sleep(0.001)  # it shares our interpreter with the client that is measured

    def read(self) -> Any:
        return read_server(next(self._call))

    def close(self) -> None:
        self._ended.set()
        self._call.cancel()
        self._channel.close()


def test_of_a_client_that_never_reads_no_more_is_read(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, allow_client_kwargs=["pixels"])
    num_envs, pixels = 2, 500_000
    with RemoteVectorEnv(server.address, num_envs=4) as envs:
        envs.reset()
        alone, _ = steps_per_second(envs)
        rude = RudeClient(server.address, num_envs, pixels)
        try:
            wait_until(lambda: rude.sent > 10, what="requests")
            held = 0
            for _ in range(5):
                beside, longest = steps_per_second(envs, 0.5)
                held = max(held, *(outlet.unread_bytes for outlet in server._edge.outlets))
            print(f"{alone:.0f} steps/s alone, {beside:.0f} beside it, longest {longest:.3f} s; {held=}")
            # What is stored, what is being written, and the answer that was running when reading stopped.
            assert held < UNREAD_BYTES + 3 * num_envs * pixels + 100_000
            assert beside > 0.3 * alone
            before = rude.sent
            assert isinstance(rude.read(), Opened)
            for _ in range(20):  # it goes on once it reads
                rude.read()
            wait_until(lambda: rude.sent > before, what="more requests")
        finally:
            rude.close()
        wait_until(lambda: server.statistics()["stored_reply_bytes"] < 3 * num_envs * pixels, what="bounded memory")
        envs.step(np.zeros(4, np.int64))


def test_a_client_that_never_reads_delays_the_stop_by_no_more_than_the_grace(serve: ServerFactory) -> None:
    server = serve(str(HOSTILE), num_workers=1, allow_client_kwargs=["pixels"])
    rude = RudeClient(server.address, 2, 500_000)
    try:
        wait_until(lambda: server.statistics()["stored_reply_bytes"] > 0, what="answers")
        began = time.monotonic()
        server.stop(grace=0.5)
        assert time.monotonic() - began < 2.5
    finally:
        rude.close()


@pytest.mark.parametrize("tls", [False, True])
def test_who_connects_and_says_nothing_is_dropped(
    serve: ServerFactory, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    given = dict(listening.options())
    assert given["grpc.server_handshake_timeout_ms"] == 10_000
    monkeypatch.setattr(listening, "_OPTIONS", [*{**given, "grpc.server_handshake_timeout_ms": 300}.items()])
    assert door.DECISION_SECONDS == 10.0
    monkeypatch.setattr(door, "DECISION_SECONDS", 0.3)
    server = serve("CartPole-v1", num_workers=1, server_credentials_paths=certificates.server if tls else None)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        began = time.monotonic()
        while connection.recv(65_536):  # without TLS the server greets first
            pass
        assert time.monotonic() - began < 3.0


def test_admission_limits_refuse_at_once_and_by_name(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", num_workers=1, max_sessions=2, max_envs=5)
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(RemoteVectorEnv(server.address, num_envs=2))
        first.reset()
        began = time.monotonic()
        with pytest.raises(RefusedError, match="room for 3 of its limit of 5") as caught:
            stack.enter_context(RemoteVectorEnv(server.address, num_envs=4)).reset()
        assert caught.value.limit == "max_envs"
        stack.enter_context(RemoteVectorEnv(server.address, num_envs=3)).reset()
        with pytest.raises(RefusedError, match="its limit of 2 sessions") as caught:
            stack.enter_context(RemoteVectorEnv(server.address, num_envs=1)).reset()
        assert caught.value.limit == "max_sessions"
        assert time.monotonic() - began < 5.0
        first.close()
        again = stack.enter_context(RemoteVectorEnv(server.address, num_envs=2))
        wait_until(lambda: server.statistics()["sessions"] == 1, what="room")
        again.reset()
        assert server.statistics()["refusals"] == {"max_envs": 1, "max_sessions": 1}
