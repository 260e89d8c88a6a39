"""Servers tell how busy they are: who is slow is named, and what is new goes where steps are quick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from helpers import wait_until

from remote_gym import RemoteVectorEnv
from remote_gym.client import hosted
from remote_gym.client.pace import MIN_STEPS
from remote_gym.server import session

PAUSING = str(Path(__file__).parents[2] / "pausing.py")
QUICK, SLOW = 0.001, 0.4
"""Seconds of a step: far apart, so that they are so on a busy machine, too."""


@pytest.fixture(autouse=True)
def _told_with_every_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "LOAD_SECONDS", 1e-6)
    monkeypatch.setattr(session, "MIN_LOAD_SECONDS", 1e-6)


@pytest.fixture
def servers(serve: ServerFactory) -> list[Any]:
    return [serve(PAUSING, entrypoint_kwargs={"seconds": seconds}, num_workers=1) for seconds in (QUICK, SLOW, QUICK)]


@pytest.mark.parametrize("transport", ["direct", "grpc"])
def test_a_straggler_is_named_and_says_why(servers: list[Any], transport: str) -> None:
    addresses = [server.address for server in servers]
    with RemoteVectorEnv(addresses, num_envs=3, transport=transport) as envs:
        envs.reset(seed=1)
        assert [block.straggling for block in envs.fleet] == [False] * 3
        for step in range(MIN_STEPS):
            observations = envs.step(np.zeros(3, np.int64))[0]
            assert observations.tolist() == [[step + 1]] * 3
        assert [block.address for block in envs.fleet if block.straggling] == [addresses[1]]
        assert all(block.step_seconds is not None for block in envs.fleet)
        wait_until(lambda: all(one["envs"] is not None for one in envs.statistics()["servers"].values()))
        told = envs.statistics()
        assert told["stragglers"] == [addresses[1]] and told["env_steps"] == 3 * MIN_STEPS and told["rows"] == 3
        for address, server, seconds in zip(addresses, servers, (QUICK, SLOW, QUICK), strict=True):
            one, own = told["servers"][address], server.statistics()
            assert (one["rows"], one["env_steps"], one["workers"], one["envs"]) == (1, MIN_STEPS, 1, 1)
            assert one["step_seconds"]["p50"] >= one["server_step_seconds"]["p50"] >= seconds
            assert one["env_step_seconds"] >= seconds and own["env_step_seconds"] >= seconds
            assert 0 < one["sent_bytes"] <= own["received_bytes"]
            assert 0 < one["received_bytes"] <= own["sent_bytes"]
            assert one["reconnects"] == one["moved_in"] == one["moved_out"] == 0


def test_new_environments_go_where_steps_are_quick(servers: list[Any]) -> None:
    addresses = [server.address for server in servers]
    with RemoteVectorEnv(addresses, num_envs=9) as envs:
        envs.reset(seed=1)
        assert [len(block.rows) for block in envs.fleet] == [3, 3, 3], "nothing is known yet"
        for _ in range(3):
            envs.step(np.zeros(9, np.int64))
    with RemoteVectorEnv(addresses, num_envs=10) as envs:
        observations, _ = envs.reset(seed=1)
        quick, slow, other = (len(block.rows) for block in envs.fleet)
        assert 1 <= slow < max(quick, other) and quick + slow + other == 10
        assert observations.shape == (10, 1)
