"""Who connects has little time, and little room, until it has a session; who has one stays."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from helpers import wait_until

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.server import listening
from remote_gym.server.carriers import connection, edge
from remote_gym.wire.codec import DESCRIBE_METHOD, SESSION_METHOD
from remote_gym.wire.direct import MAGIC, Hello, pack_hello

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
"""How gRPC's clients begin: that they speak HTTP/2, with settings that change nothing."""


class Silent:
    """A gRPC connection with streams that say nothing."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self.ended: list[Any] = []
        self._queues: list[queue.SimpleQueue[Any]] = []

    def begin(self, count: int) -> None:
        for _ in range(count):
            said: queue.SimpleQueue[Any] = queue.SimpleQueue()
            self._queues.append(said)
            call: Any = self._channel.stream_stream(SESSION_METHOD)(iter(said.get, None))  # type: ignore[arg-type]
            threading.Thread(target=self._wait, args=(call,), daemon=True).start()

    def _wait(self, call: Any) -> None:
        try:
            list(call)
        except grpc.RpcError as error:
            self.ended.append(error)

    def describe(self) -> bytes:
        ask: Any = self._channel.unary_unary(DESCRIBE_METHOD)
        return ask(b"", timeout=10.0)  # type: ignore[no-any-return]

    def close(self) -> None:
        for said in self._queues:
            said.put(None)
        self._channel.close()


@pytest.mark.parametrize("grpc_only", [False, True])
def test_streams_that_say_nothing_are_ended(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, grpc_only: bool
) -> None:
    assert edge.BEGIN_SECONDS == 10.0
    monkeypatch.setattr(edge, "BEGIN_SECONDS", 0.3)
    server = serve(num_workers=1, grpc_only=grpc_only)
    with contextlib.closing(Silent(server.address)) as silent:
        silent.begin(20)
        wait_until(lambda: len(silent.ended) == 20, what="their ends")
        assert {error.code() for error in silent.ended} == {grpc.StatusCode.UNAVAILABLE}
        assert "nothing was opened within 0.3 s" in silent.ended[0].details()
        assert not server._edge.outlets
        assert silent.describe()


def test_a_connection_has_so_many_streams_and_no_more(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(listening.options())
    assert given["grpc.max_concurrent_streams"] >= 128, "a channel of ours carries 100 sessions"
    monkeypatch.setattr(listening, "_OPTIONS", [*{**given, "grpc.max_concurrent_streams": 4}.items()])
    server = serve(num_workers=1)
    with contextlib.closing(Silent(server.address)) as silent, RemoteEnvironment(server.address) as env:
        silent.begin(12)
        wait_until(lambda: len(server._edge.outlets) == 4, what="streams")
        env.reset()
        env.step(0)
        assert len(server._edge.outlets) == 5


@pytest.mark.parametrize("tls", [False, True])
def test_connections_that_ask_for_nothing_are_closed_and_sessions_stay(
    serve: ServerFactory, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    given = dict(listening.options())
    assert given["grpc.max_connection_idle_ms"] == 10_000
    monkeypatch.setattr(listening, "_OPTIONS", [*{**given, "grpc.max_connection_idle_ms": 300}.items()])
    server = serve(num_workers=1, server_credentials_paths=certificates.server if tls else None)
    paths = certificates.client if tls else None
    with RemoteEnvironment(server.address, client_credentials_paths=paths, transport="grpc") as env:
        env.reset()
        if tls:
            credentials = grpc.ssl_channel_credentials(certificates.client[0].read_bytes())
            channel = grpc.secure_channel(server.address, credentials, [("grpc.use_local_subchannel_pool", 1)])
        else:
            channel = grpc.insecure_channel(server.address, [("grpc.use_local_subchannel_pool", 1)])
        with contextlib.closing(channel):
            grpc.channel_ready_future(channel).result(10.0)
            admission = server._front._door.admission  # type: ignore[union-attr]
            wait_until(lambda: not admission.silent + admission.idle, what="the end of who asks for nothing")
        assert admission.descriptors == 3, "who has a session"
        env.step(0)
        assert server.statistics()["attaches"] == 0


def test_who_speaks_http_and_does_nothing_is_closed(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    given = dict(listening.options())
    monkeypatch.setattr(listening, "_OPTIONS", [*{**given, "grpc.max_connection_idle_ms": 300}.items()])
    server = serve(num_workers=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=8.0) as client:
        client.sendall(PREFACE)
        while client.recv(65_536):  # settings, and that it goes away
            pass


def test_who_greets_and_opens_nothing_is_closed(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert connection.BEGIN_SECONDS == 10.0
    monkeypatch.setattr(connection, "BEGIN_SECONDS", 0.3)
    server = serve(num_workers=1)
    with socket.create_connection(("127.0.0.1", server.port), timeout=8.0) as client:
        client.sendall(MAGIC + pack_hello(Hello()))
        began = time.monotonic()
        while client.recv(65_536):
            pass
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_a_session_is_counted_as_long_as_it_has_a_carrier(serve: ServerFactory, transport: str) -> None:
    server = serve(num_workers=1)
    admission = server._front._door.admission  # type: ignore[union-attr]
    with RemoteVectorEnv(server.address, num_envs=2, transport=transport) as envs:
        envs.reset()
        assert not [*admission._silent, *admission._idle]
        assert list(admission._known) == [b"ipv4:127.0.0.1"]
        envs.step(np.zeros(2, np.int64))
    wait_until(lambda: not server.statistics()["sessions"], what="its end")
    wait_until(lambda: admission.descriptors == len(admission._idle) * 3, what="nothing but idle channels")


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_who_has_had_a_session_comes_back_when_others_have_taken_all_room(serve: ServerFactory, transport: str) -> None:
    server = serve(num_workers=1)
    admission = server._front._door.admission  # type: ignore[union-attr]
    with RemoteVectorEnv(server.address, num_envs=2, transport=transport) as envs:
        envs.reset()
        # As if others, each with a session, had taken all that is there for those who have had none.
        admission._limit = 64
        admission.descriptors = 64 - 64 // 8
        with socket.create_connection(("127.0.0.1", server.port), source_address=("127.0.0.9", 0)) as stranger:
            stranger.settimeout(5.0)
            assert stranger.recv(1) == b""
        for session in server._sessions.by_id.values():
            server._loop.call_soon_threadsafe(session._outlet.end)  # type: ignore[union-attr]
        wait_until(lambda: not next(iter(server._sessions.by_id.values()))._outlet, what="the end")
        envs.step(np.zeros(2, np.int64))
        assert server.statistics()["attaches"] == 1
