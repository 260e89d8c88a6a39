"""What a vector environment tells of its servers."""

from __future__ import annotations

import pytest
from faking import FakeConnection, step, transition
from helpers import wait_until

from remote_gym.client.carriers.channel import Address
from remote_gym.client.fleet import Fleet
from remote_gym.client.pace import MIN_STEPS
from remote_gym.client.statistics import collect
from remote_gym.messages import Load

Two = tuple[Fleet, list[FakeConnection]]


@pytest.fixture
def two(two: Two) -> Two:
    for at, connection in enumerate(two[1]):
        connection.address = Address("fake", at + 1, None)
        connection.workers = at + 4
    return two


def test_before_anything_was_told(two: Two) -> None:
    fleet, _ = two
    told = collect(fleet)
    assert (told["rows"], told["homeless"], told["moves"], told["stragglers"]) == (5, 0, 0, [])
    assert list(told["servers"]) == ["fake:1", "fake:2"]
    first = told["servers"]["fake:1"]
    assert first["rows"] == 2 and first["workers"] == 4 and not first["straggling"]
    assert all(first[name] is None for name in ("step_seconds", "server_step_seconds", "env_step_seconds", "envs"))


def test_what_servers_tell_and_what_is_seen_from_here(two: Two) -> None:
    fleet, (_, second) = two
    fleet.shards[0].took.extend([0.010] * MIN_STEPS)
    fleet.shards[1].took.extend([0.050] * MIN_STEPS)
    fleet.shards[1].tally.env_steps = 48
    step(second.session)
    second.carrier.bring(transition(1, None, 3))
    second.carrier.bring(Load(7, 30, 0.002, 0.045, 0.046, 0.048))
    wait_until(lambda: second.session.outstanding.load is not None)
    told = collect(fleet)
    assert told["stragglers"] == ["fake:2"] and told["env_steps"] == 48
    server = told["servers"]["fake:2"]
    assert server["step_seconds"] == {"p50": 0.050, "p90": 0.050, "p99": 0.050}
    assert server["server_step_seconds"] == {"p50": 0.045, "p90": 0.046, "p99": 0.048}
    assert (server["workers"], server["envs"], server["env_step_seconds"]) == (7, 30, 0.002)
    assert server["straggling"] and server["received_bytes"] == told["received_bytes"] > 0


def test_a_server_that_is_gone_stays_among_them(two: Two) -> None:
    fleet, _ = two
    fleet.homeless.update({0: "gone", 1: "gone"})
    fleet.remove(fleet.shards[0])
    told = collect(fleet)
    assert (told["rows"], told["homeless"]) == (3, 2)
    assert told["servers"]["fake:1"]["moved_out"] == 2 and told["servers"]["fake:1"]["rows"] == 0
