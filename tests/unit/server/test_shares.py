"""Shares: never more than is given, every piece given back once, and who gives way to whom where a server is full."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_gym.server.holdings import Holdings
from remote_gym.server.limits import Limits
from remote_gym.server.principals import Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.shares import EQUALS_SECONDS, RETURN_SECONDS, SPARE_CONNECTIONS, Hold, Shares


class Session:
    """One that is open: leaves when it is told to, and gives way."""

    lease_seconds = 300.0

    def __init__(self, principal: Principal, num_envs: int, hold: Hold, on_end: Callable[[Session], None]) -> None:
        self.principal, self.num_envs, self.hold = principal, num_envs, hold
        self.left_at: float | None = None
        self.told = ""
        self._on_end = on_end

    def give_way(self, detail: str) -> None:
        self.told = detail
        self.end()

    def end(self) -> None:
        self._on_end(self)
        self.hold.release()


class Server:
    """The shares of one server, its sessions and its clock."""

    def __init__(
        self, limits: Any = None, max_sessions: int = 100, max_envs: int = 1_000, max_bytes: int = 1_000
    ) -> None:
        self.now = 1_000.0
        self.holdings = Holdings(max_bytes)
        self.shares = Shares(Limits(limits), max_sessions, max_envs, self.holdings, lambda: self.now)
        self.sessions: list[Session] = []

    def open(self, name: str, num_envs: int = 1, kwargs_bytes: int = 0) -> Session:
        principal = Principal(name)
        leaving = self.shares.who_gives_way(principal, num_envs, self.sessions)
        hold = self.shares.take(principal, num_envs, kwargs_bytes, leaving)
        session = Session(principal, num_envs, hold, self.sessions.remove)
        self.sessions.append(session)
        return session

    def leave(self, *sessions: Session, ago: float = RETURN_SECONDS) -> None:
        for session in sessions:
            session.left_at = self.now - ago

    def refuses(self, name: str, num_envs: int = 1, kwargs_bytes: int = 0) -> tuple[str, str]:
        held = self.shares.statistics()
        with pytest.raises(RefusalError) as caught:
            self.open(name, num_envs, kwargs_bytes)
        assert self.shares.statistics() == held
        return caught.value.limit, str(caught.value)


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


# Who gives way


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
