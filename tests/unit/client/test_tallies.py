"""What has gone there and back is counted once, also where sessions and servers come and go."""

from __future__ import annotations

from faking import FakeConnection, step, transition
from helpers import wait_until

from remote_gym.client.fleet import Fleet
from remote_gym.client.tallies import Gone, Tally, counted, env_step_seconds, tallies_by_server, took_by_server
from remote_gym.messages import Load, Lost

Two = tuple[Fleet, list[FakeConnection]]


def answered(connection: FakeConnection, number: int) -> None:
    session = connection.session
    step(session)
    connection.carrier.bring(transition(number, None, connection.num_envs))
    wait_until(lambda: len(session.unread()) == 1)
    session.took(session.unread()[0].answer)


def test_sums() -> None:
    assert Tally(1, 2, 3, 4, 5, 6) + Tally(10, 20, 30, 40, 50, 60) == Tally(11, 22, 33, 44, 55, 66)


def test_bytes_are_those_of_the_messages(two: Two) -> None:
    fleet, (first, second) = two
    answered(first, 1)
    seen = counted(fleet.shards[0])
    assert 0 < seen.sent_bytes < 100
    assert counted(fleet.shards[1]) == Tally()
    answered(first, 2)
    rows = 2 * (8 + 8 + 1 + 1)  # observations, rewards, two flags
    assert rows < counted(fleet.shards[0]).received_bytes - seen.received_bytes < rows + 40
    assert counted(fleet.shards[0]).sent_bytes == 2 * seen.sent_bytes
    answered(second, 1)
    whole = tallies_by_server(fleet.shards, fleet.gone)
    assert whole == {"fake:1": counted(fleet.shards[0]) + counted(fleet.shards[1])}, "they have one address"


def test_what_is_gone_stays_counted(two: Two) -> None:
    fleet, (first, _) = two
    answered(first, 1)
    before = tallies_by_server(fleet.shards, fleet.gone)
    first.carrier.bring(Lost("EXPIRED"))
    wait_until(lambda: first.session._protocol.lost is not None)
    lost = fleet.shards[0]
    lost.reopen()
    assert tallies_by_server(fleet.shards, fleet.gone) == before
    answered(first, 1)
    after = tallies_by_server(fleet.shards, fleet.gone)
    assert after["fake:1"].sent_bytes == 2 * before["fake:1"].sent_bytes
    fleet.remove(lost)
    fleet.remove(lost)  # an interrupt may have come in between
    assert tallies_by_server(fleet.shards, fleet.gone)["fake:1"] == after["fake:1"] + Tally(moved_out=2)


def test_gone_is_assigned_whole(two: Two) -> None:
    fleet, _ = two
    gone = Gone()
    before = gone.by_server
    gone.add(fleet.shards[1], 3)
    assert before == {} and gone.by_server == {"fake:1": Tally(moved_out=3)}


def test_steps_and_loads_are_those_of_a_server(two: Two) -> None:
    fleet, (first, second) = two
    fleet.shards[0].took.extend([0.1, 0.2])
    fleet.shards[1].took.append(0.3)
    assert took_by_server(fleet.shards) == {"fake:1": [0.1, 0.2, 0.3]}
    assert env_step_seconds(fleet.shards) == {}
    for connection in (first, second):
        answered(connection, 1)
        connection.carrier.bring(Load(1, 5, 0.004))
        wait_until(lambda connection=connection: connection.session.outstanding.load is not None)
    assert env_step_seconds(fleet.shards) == {"fake:1": 0.004}
