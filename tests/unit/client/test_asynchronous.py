"""The part of `RemoteVectorEnv` that is EnvPool's, on a fake server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from faking import FakeConnection, faked
from gymnasium.error import NoAsyncCallError

from remote_gym import RemoteVectorEnv, TimedOut, values

Made = tuple[RemoteVectorEnv, FakeConnection]


@pytest.fixture
def make() -> Iterator[Callable[..., Made]]:
    servers: list[FakeConnection] = []

    def made(**options: Any) -> Made:
        envs = RemoteVectorEnv("localhost:1", num_envs=3, **options)
        servers.extend(faked(envs._remote, 3))
        return envs, servers[-1]

    yield made
    for server in servers:
        server.close()


def test_some_are_sent_and_received(make: Callable[..., Made]) -> None:
    envs, server = make(batch_size=1)
    envs.async_reset(seed=5, options={"reset_mask": np.array([False, True, False])})
    assert server.answer().seeds == values.pack([6])
    assert envs.recv(5.0)[-1]["env_id"].tolist() == [1]
    envs.send([1], [0])
    server.answer(rewards=np.array([2.5]).tobytes())
    _, rewards, *_, infos = envs.recv(5.0)
    assert rewards.tolist() == [2.5] and infos["env_id"].tolist() == [0]


@pytest.mark.parametrize("batch_size, everything", [(None, False), (None, True), (1, True), (3, True)])
def test_all_that_was_sent_is_received(make: Callable[..., Made], batch_size: Any, everything: bool) -> None:
    envs, server = make(batch_size=batch_size)
    assert envs.batch_size == (batch_size or 3)
    for sent in ([[2], [0]], [[1, 2]], [[0, 2, 1]]):
        for env_id in sent:
            envs.send([0] * len(env_id), env_id)
        server.answer()
        if len(sent) > 1:
            with pytest.raises(TimedOut):
                envs.recv(0.0, everything=everything)
            server.answer()
        assert envs.recv(5.0, everything=everything)[-1]["env_id"].tolist() == [one for each in sent for one in each]
    with pytest.raises(NoAsyncCallError, match=r"0 environments were started by `send` or `async_reset`$"):
        envs.recv(0.0, everything=everything)


def test_options_of_their_own(make: Callable[..., Made]) -> None:
    envs, server = make()
    envs.async_reset(seed=5, options=[{"level": 1}, None, {"level": 1}])
    first, second = server.answer(), server.answer()
    assert (first.indices, values.unpack(bytes(first.options))) == ([0, 2], {"level": 1})
    assert (second.indices, second.options) == ([1], b"")
    assert first.seeds == values.pack([5, 7]) and second.seeds == values.pack([6])
    assert sorted(envs.recv(5.0)[-1]["env_id"]) == [0, 1, 2]
