"""Shares: never more than is given, and every piece given back exactly once, whatever happens."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from share_fakes import Server

from remote_gym.server.limits import Limits
from remote_gym.server.principals import Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.shares import SPARE_CONNECTIONS, Hold

# What a principal may have


def test_who_has_its_share_is_refused_by_name_and_others_are_not() -> None:
    server = Server({"alice": {"sessions": 2, "envs": 8}, "*": {"envs": 4}})
    first = server.open("alice", 5)
    assert server.refuses("alice", 4) == (
        "principal_envs", "alice asked for 4 environments and has 5 of its limit of 8"
    )  # fmt: skip
    server.open("alice", 3)
    assert server.refuses("alice") == ("principal_sessions", "alice asked for a session and has 2 of its limit of 2")
    for name in ("bob", "carol"):  # what is said of everybody is for each
        server.open(name, 4)
        assert server.refuses(name)[0] == "principal_envs"
    first.end()
    server.open("alice", 5)


def test_a_refusal_tells_what_waits_for_clients_that_have_left() -> None:
    server = Server({"*": {"sessions": 3}})
    one, other, _ = (server.open("alice") for _ in range(3))
    server.leave(one, ago=100)
    server.leave(other, ago=20)
    text = server.refuses("alice")[1]
    assert text.endswith("; of its sessions 2 wait for clients that have left, the first for at most 200 s more")


def test_opens_within_a_minute_and_how_long_to_wait() -> None:
    server = Server({"*": {"opens_per_minute": 2}, "carol": {"opens_per_minute": 0}})
    server.open("alice").end()
    server.now += 20.05
    server.open("alice").end()
    assert server.refuses("alice") == (
        "principal_opens_per_minute",
        "alice asked for a session and has opened 2 within a minute, of its limit of 2: the next one may be in 40 s",
    )
    server.open("bob")
    server.now += 39.9
    assert server.refuses("alice")[1].endswith("may be in 0.1 s")
    server.now += 0.1
    server.open("alice")
    assert server.refuses("alice")[1].endswith("may be in 20 s")
    assert server.refuses("carol")[1].endswith("of its limit of 0: it may open none")


def test_what_is_refused_is_no_open() -> None:
    server = Server({"*": {"opens_per_minute": 2, "envs": 1}})
    session = server.open("alice")
    for _ in range(10):
        assert server.refuses("alice")[0] == "principal_envs"
    session.end()
    server.open("alice")


def test_bytes_are_of_the_principal_and_within_the_servers() -> None:
    server = Server({"*": {"bytes": 600}}, max_bytes=1_000)
    first = server.open("alice", kwargs_bytes=400)
    limit, text = server.refuses("alice", kwargs_bytes=201)
    assert limit == "principal_bytes"
    assert text == "alice asked for 201 bytes and has 400 of its limit of 600 bytes of its clients' kwargs"
    server.open("bob", kwargs_bytes=500)
    assert server.refuses("carol", kwargs_bytes=200)[0] == "max_held_bytes"
    first.end()
    server.open("carol", kwargs_bytes=200)
    assert server.holdings.bytes["kwargs"] == 700


def test_connections_follow_sessions_and_are_given_back_once() -> None:
    server = Server({"alice": {"sessions": 3}}, max_sessions=5)
    for name, sessions in (("alice", 3), ("bob", 5)):
        principal = Principal(name)
        places = [server.shares.enter(principal) for _ in range(2 * sessions + SPARE_CONNECTIONS)]
        with pytest.raises(RefusalError, match=f"{name} asked for a connection and has {len(places)} of") as caught:
            server.shares.enter(principal)
        assert caught.value.limit == "principal_connections"
        for _ in range(3):
            places[0].hold.release()
        places.append(server.shares.enter(principal))
        with pytest.raises(RefusalError):
            server.shares.enter(principal)
        assert len({id(place.holdings) for place in places}) == 1


def test_a_name_is_printed_harmlessly() -> None:
    server = Server({"*": {"sessions": 0, "bytes": 0}})
    assert "\n" not in server.refuses("a\nb")[1]


def test_who_has_nothing_is_forgotten_and_who_was_counted_is_not() -> None:
    server = Server({"*": {"opens_per_minute": 1}})
    place = server.shares.enter(Principal("connected"))
    session = server.open("opened")
    for number in range(50):
        server.open(f"name {number}").end()
        server.now += 10.0
    assert len(server.shares._accounts) < 12
    assert server.shares.account(session.principal).held["sessions"] == 1
    assert server.shares.account(Principal("connected")).holdings is place.holdings


def test_only_names_that_the_owner_has_said_are_told() -> None:
    server = Server({"alice": {"sessions": 3}, "*": {"envs": 64}})
    server.open("alice", 2, 10)
    for name in ("bob", "carol", "x\ny"):
        server.open(name, 5, 20)
        server.shares.enter(Principal(name))
    assert server.shares.statistics() == {
        "principal_sessions": {"alice": 1, "other": 3},
        "principal_envs": {"alice": 2, "other": 15},
        "principal_connections": {"alice": 0, "other": 3},
        "principal_held_bytes": {"alice": 10, "other": 60},
    }


# Whatever happens

NAMES = ("alice", "bob", "carol", "dave")
GIVEN = {
    "alice": {"sessions": 3, "envs": 9, "bytes": 500, "opens_per_minute": 12},
    "bob": {"sessions": None, "envs": 20},
    "*": {"sessions": 4, "envs": 12, "bytes": 300},
}


def unless_refused(take: Callable[[], Any], limits: tuple[str, ...]) -> Any:
    """Return what is taken; None: it was refused, by one of the limits that begin so."""
    try:
        return take()
    except RefusalError as refused:
        limit = refused.limit
    assert limit.startswith(limits)
    return None


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 200))
def test_no_share_is_exceeded_and_nothing_is_lost(seed: int, steps: int) -> None:
    """Opens, leaves, returns, ends, in any order: what is counted is what there is, and all of it is given back."""
    chance = random.Random(seed)
    limits = Limits(GIVEN)
    server = Server(GIVEN, max_sessions=8, max_envs=30, max_bytes=800)
    opened: dict[str, list[float]] = {name: [] for name in NAMES}
    kwargs: dict[int, int] = {}
    places: list[tuple[str, Hold]] = []
    for _ in range(steps):
        server.now += chance.choice((0.0, 0.1, 1.0, 20.0))
        what = chance.choice(("open", "open", "open", "leave", "return", "end", "end twice", "enter", "exit"))
        name = chance.choice(NAMES)
        here = list(server.sessions)
        session = chance.choice(here) if here else None
        if what == "open":
            size = chance.randrange(300)
            new = unless_refused(partial(server.open, name, chance.randint(1, 10), size), ("principal_", "max_"))
            if new is None:
                assert server.sessions == here
            else:
                opened[name].append(server.now)
                kwargs[id(new)] = size
                gone = [one for one in here if one not in server.sessions]
                assert all(one.told and one.left_at is not None and one.principal.name != name for one in gone)
                kwargs = {key: value for key, value in kwargs.items() if key in map(id, server.sessions)}
        elif what == "enter":
            place = unless_refused(partial(server.shares.enter, Principal(name)), ("principal_connections",))
            if place is not None:
                places.append((name, place.hold))
        elif what == "exit" and places:
            places.pop()[1].release()
        elif session is not None and what in ("leave", "return"):
            session.left_at = server.now if what == "leave" else None
        elif session is not None and what in ("end", "end twice"):
            session.end()
            if what == "end twice":
                session.hold.release()
            kwargs.pop(id(session))
        for one in NAMES:
            share, account = limits.of(one), server.shares.account(Principal(one))
            own = [session for session in server.sessions if session.principal.name == one]
            assert account.held == {"sessions": len(own), "envs": sum(session.num_envs for session in own)}
            assert account.holdings.bytes["kwargs"] == sum(kwargs[id(session)] for session in own)
            assert account.connections == Counter(name for name, _ in places)[one]
            assert share.sessions is None or len(own) <= share.sessions
            assert share.envs is None or account.held["envs"] <= share.envs
            assert share.bytes is None or account.holdings.bytes["kwargs"] <= share.bytes
            recent = [when for when in opened[one] if when > server.now - 60.0]
            assert share.opens_per_minute is None or len(recent) <= share.opens_per_minute
        assert server.shares.held("sessions") == len(server.sessions) <= 8
        assert server.shares.held("envs") <= 30
        assert server.holdings.bytes["kwargs"] == sum(kwargs.values()) <= 800
    for session in list(server.sessions):
        session.end()
    for _, hold in places:
        hold.release()
    server.now += 61.0
    server.shares.account(Principal("new"))
    assert list(server.shares._accounts) == ["new"]
    assert server.holdings.bytes["kwargs"] == 0
