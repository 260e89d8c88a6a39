"""Several inboxes and one bell: nobody is looked at in vain, nobody is forgotten, whatever is lost on the way."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import gymnasium
import pytest
from faking import FakeConnection, step, transition
from helpers import wait_until

from remote_gym import SessionLost
from remote_gym.client.inboxes import PASS_SECONDS, Inboxes, Ringer
from remote_gym.client.session.session import Session
from remote_gym.errors import TimedOut
from remote_gym.messages import Lost


class Gone(Exception):
    pass


@dataclass(eq=False)
class Holder:
    session: Session


@dataclass
class Stand:
    connections: list[FakeConnection]
    holders: list[Holder]
    inboxes: Inboxes[Holder]

    def ask(self, at: int, count: int = 1) -> None:
        connection = self.connections[at]
        for _ in range(count):
            self.answer(at)
        wait_until(lambda: len(connection.session.unread()) >= count)

    def answer(self, at: int) -> None:
        connection = self.connections[at]
        connection.carrier.bring(transition(step(connection.session), None, connection.num_envs))

    def receive(self, timeout_seconds: float | None = 5.0) -> int:
        holder, arrival = self.inboxes.receive(self.holders, timeout_seconds, lambda: None)
        holder.session.took(arrival.answer)
        return self.holders.index(holder)


@pytest.fixture
def stand() -> Iterator[Stand]:
    connections = [FakeConnection(1) for _ in range(4)]
    yield Stand(connections, [Holder(one.session) for one in connections], Inboxes(lambda _holder, error: Gone(error)))
    for connection in connections:
        connection.close()


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """Sessions that were looked at."""
    seen: list[Session] = []
    peek = Session.peek

    def counting(self: Session) -> Any:
        seen.append(self)
        return peek(self)

    monkeypatch.setattr(Session, "peek", counting)
    return seen


def test_only_who_has_rung_is_looked_at(stand: Stand, looks: list[Session]) -> None:
    with pytest.raises(TimedOut):
        stand.receive(0.0)
    assert len(looks) == 4, "all, once, when they are new"
    looks.clear()
    for at in (2, 0, 3):
        stand.ask(at)
        assert stand.receive() == at
    assert len(looks) <= 6 and stand.connections[1].session not in looks


def test_what_was_there_before_is_found(stand: Stand) -> None:
    for at in (3, 1):
        stand.ask(at)
    assert [stand.receive(), stand.receive()] == [1, 3]


def test_a_ring_that_was_lost_costs_a_moment(stand: Stand) -> None:
    with pytest.raises(TimedOut):
        stand.receive(0.0)
    ringer = stand.connections[2].session.bell
    assert isinstance(ringer, Ringer)
    ringer.is_noted = True  # an interrupt has come just before it was added
    stand.ask(2)
    began = time.monotonic()
    assert stand.receive() == 2
    assert time.monotonic() - began < PASS_SECONDS + 2.0
    stand.ask(2)
    assert stand.receive() == 2, "and no more than once"


def test_whoever_was_taken_from_comes_last(stand: Stand) -> None:
    stand.ask(0, 3)
    stand.ask(1, 2)
    assert [stand.receive() for _ in range(5)] == [0, 1, 0, 1, 0]


def test_what_was_not_taken_comes_again(stand: Stand) -> None:
    stand.ask(0)
    stand.ask(1)
    first, again = (stand.inboxes.receive(stand.holders, 5.0, lambda: None) for _ in range(2))
    assert first[1] is again[1]


def test_others_take_their_places(stand: Stand) -> None:
    stand.ask(0)
    assert stand.receive() == 0
    stand.ask(1)
    everyone = stand.holders
    stand.holders = everyone[2:]
    with pytest.raises(TimedOut):  # of who has left nothing is received
        stand.receive(0.01)
    stand.ask(2)
    assert stand.receive() == 0
    stand.holders = everyone
    assert stand.receive() == 1


def test_a_loss_is_told_as_asked(stand: Stand) -> None:
    stand.connections[1].carrier.bring(Lost("EXPIRED"))
    with pytest.raises(Gone) as told:
        stand.receive()
    assert isinstance(told.value.__cause__, SessionLost)


def test_closing_ends_the_waiting(stand: Stand) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(stand.receive, None)
        wait_until(lambda: stand.connections[3].session._protocol.awaited)
        stand.connections[3].session.begin_close()
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):
            waiting.result(timeout=10.0)


def test_patience_runs_although_others_answer(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: dict[Session, float] = {}

    def note(self: Session, seconds: float) -> None:
        waited[self] = waited.get(self, 0.0) + seconds

    monkeypatch.setattr(Session, "waited", note)
    with ThreadPoolExecutor(1) as thread:
        began = time.monotonic()
        while time.monotonic() - began < 4 * PASS_SECONDS:
            thread.submit(lambda: (time.sleep(0.005), stand.answer(0)))
            stand.receive()
    assert waited[stand.connections[1].session] >= 2 * PASS_SECONDS


def test_a_check_ends_the_waiting(stand: Stand) -> None:
    def check() -> None:
        raise KeyError("news")

    with pytest.raises(KeyError, match="news"):
        stand.inboxes.receive(stand.holders, None, check)


def test_a_bell_keeps_no_session_alive(stand: Stand) -> None:
    with pytest.raises(TimedOut):
        stand.receive(0.0)
    ringer, kept = stand.connections[0].session.bell, weakref.ref(stand.holders[0])
    stand.holders = stand.holders[1:]
    with pytest.raises(TimedOut):
        stand.receive(0.0)
    gc.collect()
    assert kept() is None and isinstance(ringer, Ringer)
