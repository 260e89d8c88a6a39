"""Who gives way to whom where a server is full."""

from __future__ import annotations

import pytest
from share_fakes import Server

from remote_gym.server.giving_way import EQUALS_SECONDS, RETURN_SECONDS


def test_who_has_taken_everything_and_left_keeps_nobody_out() -> None:
    server = Server(max_sessions=40)
    held = [server.open("attacker") for _ in range(40)]
    assert server.refuses("bob")[0] == "max_sessions"
    server.leave(*held)
    held[7].left_at = server.now - 9.0
    server.open("bob")
    assert held[7] not in server.sessions and len(server.sessions) == 40
    assert held[7].told == (
        "the server was full, and its client had been away for 9 s when another one needed the room"
    )
    assert sum(session.told != "" for session in held) == 1


def test_the_same_for_environments_as_many_as_are_needed() -> None:
    server = Server(max_envs=100)
    held = [server.open("attacker", 10) for _ in range(10)]
    server.leave(*held)
    server.open("bob", 25)
    assert sum(session.told != "" for session in held) == 3
    assert server.shares.held("envs") == 95
    assert server.refuses("carol", 101)[0] == "max_envs"
    assert len(server.sessions) == 8  # nobody has given way in vain


def test_a_servers_only_principal_keeps_its_sessions() -> None:
    server = Server(max_sessions=2)
    held = [server.open("anonymous") for _ in range(2)]
    server.leave(*held, ago=299.0)
    assert server.refuses("anonymous")[0] == "max_sessions"
    assert not any(session.told for session in held)


def test_who_has_just_lost_its_connection_gives_way_to_nobody() -> None:
    server = Server(max_sessions=3)
    held = [server.open("alice") for _ in range(3)]
    server.leave(*held, ago=RETURN_SECONDS - 0.01)
    assert server.refuses("bob")[0] == "max_sessions"
    server.now += 0.01
    server.open("bob")


def test_who_holds_little_gives_way_to_nobody_who_holds_more() -> None:
    server = Server(max_sessions=4)
    victim = server.open("victim")
    for _ in range(3):
        server.open("attacker")
    server.leave(victim, ago=200.0)
    for _ in range(3):
        assert server.refuses("attacker")[0] == "max_sessions"
    assert not victim.told


def test_who_would_hold_as_much_waits_longer() -> None:
    server = Server(max_envs=64)
    held = server.open("alice", 64)
    server.leave(held, ago=EQUALS_SECONDS - 1.0)
    assert server.refuses("bob", 64)[0] == "max_envs"
    server.now += 1.0
    server.open("bob", 64)
    assert held.told


@pytest.mark.parametrize("ago", [(1.0, 100.0), (100.0, 1.0)])
def test_whoever_holds_most_gives_way_first(ago: tuple[float, float]) -> None:
    server = Server(max_sessions=6)
    much, little = [server.open("much") for _ in range(4)], [server.open("little") for _ in range(2)]
    server.leave(*much, ago=ago[0])
    server.leave(*little, ago=ago[1])
    server.open("bob")
    server.open("carol")
    assert sum(session.told != "" for session in much) == 2
    assert not any(session.told for session in little)


def test_who_has_given_way_counts_no_more_for_who_is_next() -> None:
    server = Server(max_envs=54)
    more, less = [server.open("more", 10) for _ in range(3)], [server.open("less", 12) for _ in range(2)]
    server.leave(*more, *less)
    server.open("bob", 20)
    assert [session.told != "" for session in (*more, *less)] == [True, False, False, True, False]


def test_one_that_gives_way_makes_room_for_session_and_environments() -> None:
    server = Server(max_sessions=3, max_envs=6)
    held = [server.open("attacker", 2) for _ in range(3)]
    server.leave(*held)
    server.open("bob", 2)
    assert sum(session.told != "" for session in held) == 1


def test_in_how_many_sessions_somebody_holds_makes_no_difference() -> None:
    for sizes in ([60], [4] * 15):
        server = Server(max_envs=60)
        held = [server.open("attacker", size) for size in sizes]
        server.leave(*held)
        server.open("bob", 40)
        assert server.shares.held("envs") <= 60


def test_nobody_gives_way_to_what_is_refused_all_the_same() -> None:
    server = Server({"bob": {"bytes": 10, "envs": 3}}, max_sessions=2)
    held = [server.open("alice") for _ in range(2)]
    server.leave(*held)
    assert server.refuses("bob", 4)[0] == "principal_envs"
    assert server.refuses("bob", kwargs_bytes=11)[0] == "principal_bytes"
    assert not any(session.told for session in held)
