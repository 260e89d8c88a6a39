"""Several servers' inboxes, waited for with one bell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from faking import FakeConnection, fleet_of, step, transition
from helpers import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remote_gym import ConnectError, EnvironmentLost, SessionLost
from remote_gym.client.fleet import Fleet, News, ShardFailed, _weighed
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.shards import Layout, Moved
from remote_gym.messages import Lost

Two = tuple[Fleet, list[FakeConnection]]


def take(fleet: Fleet, connections: list[FakeConnection]) -> tuple[int, Arrival]:
    shard, arrival = fleet.receive(5.0)
    shard.session.took(arrival.answer)
    return connections.index(shard.hosted), arrival  # type: ignore[arg-type]


def test_whoever_answers_is_received(two: Two) -> None:
    fleet, connections = two
    for connection in connections:
        step(connection.session)
    connections[1].carrier.bring(transition(1, None, 3))
    assert take(fleet, connections)[0] == 1
    connections[0].carrier.bring(transition(1, None, 2))
    assert take(fleet, connections)[0] == 0


OF_SERVERS = ("remote_gym server", "remote_gym output", "remote_gym log", "remote_gym handshakes")


def test_who_waits_for_all_is_woken_by_any_and_has_no_thread_of_its_own(two: Two) -> None:
    fleet, connections = two
    step(connections[1].session)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(take, fleet, connections)
        wait_until(lambda: connections[1].session._protocol.awaited)
        names = [one.name for one in threading.enumerate() if one.name.startswith("remote_gym")]
        # Not those of other tests' servers in this process.
        names = [name for name in names if not name.startswith(OF_SERVERS)]
        assert names.count("remote_gym session") == len(names) >= 2
        connections[1].carrier.bring(transition(1, None, 3))
        assert waiting.result(timeout=5.0)[0] == 1


def test_what_is_not_taken_comes_again(two: Two) -> None:
    fleet, connections = two
    step(connections[0].session)
    connections[0].carrier.bring(transition(1, None, 2))
    assert fleet.receive(5.0)[1] is fleet.receive(5.0)[1]


def test_a_timeout_loses_nothing(two: Two) -> None:
    fleet, connections = two
    step(connections[0].session)
    with pytest.raises(TimeoutError):
        fleet.receive(0.01)
    connections[0].carrier.bring(transition(1, None, 2))
    assert take(fleet, connections)[0] == 0


def test_a_loss_names_its_server(two: Two) -> None:
    fleet, connections = two
    connections[1].carrier.bring(Lost("EXPIRED"))
    with pytest.raises(ShardFailed) as failed:
        fleet.receive(5.0)
    assert failed.value.shard is fleet.shards[1]
    assert isinstance(failed.value.error, SessionLost)


def test_a_reopened_session_rings_the_same_bell(two: Two) -> None:
    fleet, connections = two
    connections[1].carrier.bring(Lost("EXPIRED"))
    with pytest.raises(ShardFailed):
        fleet.receive(5.0)
    fleet.shards[1].reopen()
    step(connections[1].session)
    connections[1].carrier.bring(transition(1, None, 3))
    assert take(fleet, connections)[0] == 1


def test_closing_begins_everywhere_first(two: Two) -> None:
    fleet, connections = two
    fleet.close()
    assert [connection.closes for connection in connections] == [1, 1]
    assert all(connection.session._protocol.closing for connection in connections)


def test_indices_are_those_of_the_batch(two: Two) -> None:
    fleet, _ = two
    assert [(shard.first, list(at)) for shard, at in fleet.parts([4, 0, 2])] == [(0, [1]), (2, [0, 2])]
    assert fleet.shards[1].local([2, 3, 4]) is None and fleet.shards[1].local([3]) == [1]


def test_servers_come_and_go(two: Two) -> None:
    fleet, connections = two
    lost, kept = fleet.shards
    fleet.homeless.update({0: "gone", 1: "gone"})
    fleet.remove(lost)
    assert fleet.shards == [kept] and lost.session._protocol.closing
    assert [block[:3] for block in fleet.blocks()] == [("", range(2), "moving"), ("fake:1", range(2, 5), "there")]
    assert fleet.parts([3, 4]) == [(kept, [0, 1])] and fleet.parts([0, 1, 2]) == [(kept, [2])]
    for indices, reached in ((None, False), ([1, 2], False), ([2, 4], True)):
        if reached:
            fleet.check_housed(indices, "call")
        else:
            with pytest.raises(EnvironmentLost, match=r"call: environments \[.*1\] have lost their server .*: gone"):
                fleet.check_housed(indices, "call")
    connections.append(new := FakeConnection(2))
    moved = Moved(new, 0)  # type: ignore[arg-type]
    assert fleet.adopt(moved) is fleet.adopt(moved) is fleet.shards[0] and len(fleet.shards) == 2
    assert [shard.first for shard in fleet.shards] == [0, 2]


def test_news_come_between_answers(two: Two) -> None:
    fleet, connections = two
    step(connections[1].session)
    news: list[int] = []
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(fleet.receive, 30.0, lambda: bool(news))
        wait_until(lambda: connections[1].session._protocol.awaited)
        news.append(1)
        fleet.ring()
        with pytest.raises(News):
            waiting.result(timeout=10.0)


def test_who_is_left_out_at_the_start() -> None:
    class Away:
        def num_workers(self) -> int:
            raise ConnectError("nowhere:1", "no answer")

    class There:
        def num_workers(self) -> int:
            return 3

    for leaves_out in (False, True):
        fleet = Fleet([Away(), There()], 4, leaves_out=leaves_out)  # type: ignore[list-item]
        told = [_weighed(one) for one in fleet.hosted]
        if leaves_out:
            assert fleet._weights(told) == [0, 3]
            told = told[:1]
        with pytest.raises(ConnectError, match="nowhere"):
            fleet._weights(told)


def test_nobody_is_forgotten_where_another_is_always_ready(two: Two) -> None:
    fleet, connections = two
    for connection, num_envs in zip(connections, (2, 3), strict=True):
        for number in (1, 2):
            step(connection.session)
            connection.carrier.bring(transition(number, None, num_envs))
        wait_until(lambda connection=connection: len(connection.session.unread()) == 2)
    first, arrival = fleet.receive(5.0)
    assert fleet.receive(5.0) == (first, arrival), "it was not taken"
    first.session.took(arrival.answer)
    assert [take(fleet, connections)[0] for _ in range(3)] == [1, 0, 1]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(range(5))), st.lists(st.integers(0, 14), unique=True))
def test_each_server_gets_its_own_indices(five: Fleet, gone: set[int], indices: list[int]) -> None:
    fleet = Fleet([], 15)
    fleet.layout = Layout.of([shard for at, shard in enumerate(five.shards) if at not in gone], 15)
    parts = {shard: list(positions) for shard, positions in fleet.parts(indices)}
    for shard in fleet.shards:
        own = [at for at, index in enumerate(indices) if shard.first <= index < shard.stop]
        assert parts.get(shard, []) == own and (shard in parts) is bool(own)
    assert [shard.first for shard in parts] == sorted(shard.first for shard in parts)


@pytest.fixture(scope="module")
def five() -> Iterator[Fleet]:
    fleet, connections = fleet_of(1, 5, 2, 4, 3)
    yield fleet
    for connection in connections:
        connection.close()


def test_all_of_a_server_is_told_as_nothing(two: Two) -> None:
    (_, shard) = two[0].shards
    for everyone in (range(2, 5), [2, 3, 4], (2, 3, 4)):
        assert shard.local(everyone) is None
    assert shard.local(range(2, 4)) == [0, 1] and shard.local([4, 2, 3]) == [2, 0, 1]
