"""A session that comes back may come over the other carrier: nothing is lost, nothing is done twice."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import Certificates, ServerFactory
from gymnasium.vector import SyncVectorEnv
from sameness import assert_same

from remote_gym import RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.carriers import dialing
from remote_gym.client.carriers.connecting import NotDirect
from remote_gym.client.carriers.dialing import DirectDialer
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.client.carriers.grpc import GrpcCarrier

NUM_ENVS = 4
begin_direct = DirectDialer.begin


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMOTE_GYM_TRANSPORT", raising=False)


def carrier_of(envs: Any) -> Any:
    (shard,) = envs._remote.fleet.shards
    return shard.session._reader._carrier


def test_there_and_back_in_the_middle_of_a_run(
    serve: ServerFactory, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialing, "_grpc_only", {})
    blocked = False

    def begin(dialer: DirectDialer, *timeout: float) -> DirectCarrier:
        if blocked:
            raise NotDirect("a gRPC proxy has come in between", True)
        return begin_direct(dialer, *timeout)

    monkeypatch.setattr(DirectDialer, "begin", begin)
    server = serve(server_credentials_paths=certificates.server_mutual)
    oracle = SyncVectorEnv([lambda: gym.make("CartPole-v1")] * NUM_ENVS)
    seen = []
    with RemoteVectorEnv(
        server.address, num_envs=NUM_ENVS, client_credentials_paths=certificates.client_mutual
    ) as envs:
        assert_same(envs.reset(seed=3), oracle.reset(seed=3))
        for step in range(120):
            actions = np.array([(step + index) % 2 for index in range(NUM_ENVS)])
            envs.step_async(actions)
            if step % 10 == 5:  # with an answer on its way, or here
                blocked = not blocked
                carrier_of(envs).close()
            assert_same(envs.step_wait(), oracle.step(actions))
            if step % 10 == 9:
                seen.append(type(carrier_of(envs)))
    assert {*seen[0::2]} == {GrpcCarrier}
    assert {*seen[1::2]} == {DirectCarrier}
    oracle.close()


@pytest.mark.parametrize(
    ("transport", "kind"), [("direct", DirectCarrier), ("auto", DirectCarrier), ("grpc", GrpcCarrier)]
)
def test_each_transport(serve: ServerFactory, transport: str, kind: type) -> None:
    with RemoteEnvironment(serve().address, transport=transport) as env:
        env.reset(seed=1)
        env.step(0)
        assert type(carrier_of(env)) is kind


def test_a_server_for_grpc_only(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialing, "_grpc_only", {})
    with RemoteEnvironment(serve(grpc_only=True).address) as env:
        env.reset(seed=1)
        assert type(carrier_of(env)) is GrpcCarrier
