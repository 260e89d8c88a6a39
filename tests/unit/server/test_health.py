"""The standard health service, as load balancers and Kubernetes ask for it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from conftest import ServerFactory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from helpers import HOSTILE, wait_until
from hostile import ACTIONS

from remote_gym import RemoteEnvironment, RemoteEnvironmentServer, RemoteVectorEnv

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def server(serve: ServerFactory, tmp_path: Path) -> RemoteEnvironmentServer:
    return serve(str(HOSTILE), {"notes": str(tmp_path)}, num_workers=1)


@pytest.fixture
def stub(server: RemoteEnvironmentServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.address) as channel:
        yield health_pb2_grpc.HealthStub(channel)


def check(stub: Any, service: str = "") -> int:
    return stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5.0).status  # type: ignore[no-any-return]


@pytest.mark.parametrize("service", ["", "remote_gym.v1.RemoteGym"])
def test_a_running_server_serves(stub: Any, service: str) -> None:
    assert check(stub, service) == SERVING


def test_another_service_is_unknown(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        check(stub, "another.Service")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="another.Service"))
    assert next(watch).status == SERVICE_UNKNOWN
    watch.cancel()


def test_it_serves_no_more_from_the_beginning_of_the_drain_and_what_runs_is_delivered(
    server: RemoteEnvironmentServer, stub: Any, tmp_path: Path
) -> None:
    with RemoteVectorEnv(server.address, num_envs=1, reconnect_timeout_seconds=0) as envs:
        envs.reset()
        envs.step_async([ACTIONS["gated"]])
        wait_until((tmp_path / "waiting").exists, what="a running step")
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        for service in ("", "remote_gym.v1.RemoteGym"):
            wait_until(lambda service=service: check(stub, service) == NOT_SERVING, what="NOT_SERVING")
        assert stopping.is_alive()
        (tmp_path / "open").touch()
        assert envs.step_wait()[1].tolist() == [1.0]
        stopping.join(10.0)
        assert not stopping.is_alive()


def test_who_watches_is_told_and_does_not_keep_the_server_from_stopping(
    server: RemoteEnvironmentServer, stub: Any
) -> None:
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=""))
    assert next(watch).status == SERVING
    began = threading.Event()
    stopping = threading.Thread(target=lambda: (began.set(), server.stop()))
    stopping.start()
    assert next(watch).status == NOT_SERVING
    with pytest.raises(StopIteration):
        next(watch)
    stopping.join(3.0)  # the grace is 10 s
    assert not stopping.is_alive()


def test_without_the_library_there_is_no_service_and_all_else_works(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grpc_health.v1", None)
    server = serve("CartPole-v1", num_workers=1)
    with RemoteEnvironment(server.address) as env:
        env.reset(seed=0)
    with grpc.insecure_channel(server.address) as channel, pytest.raises(grpc.RpcError) as caught:
        check(health_pb2_grpc.HealthStub(channel))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]
