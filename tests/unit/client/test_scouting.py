"""Who asks servers what they would take: on real ones, which are full, slow, going away, or not there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import ServerFactory
from helpers import settings, wait_until

from remote_gym import RefusedError, RemoteVectorEnv
from remote_gym.client import scouting
from remote_gym.client.carriers.channel import Address
from remote_gym.client.placement import Place
from remote_gym.client.scouting import Scout

PATIENCE = 60.0


def scout(*addresses: str, workers: Any = None, **options: Any) -> Scout:
    options = {"on_session_lost": "move", "move_timeout_seconds": 2.0, **options}
    return Scout(settings(url=lambda: list(addresses), **options), workers or {})


def places(one: Scout, held: dict[str, int] | None = None, **options: Any) -> list[Place]:
    addresses = one.addresses()
    assert addresses is not None
    return one.places(addresses, held or {}, **options)


@pytest.fixture
def silent() -> Iterator[str]:
    """Return the address of somebody who takes connections, and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def test_who_has_none_of_ours_is_asked(serve: ServerFactory) -> None:
    one, two = serve(num_workers=1, max_envs=7), serve(num_workers=3)
    assert places(scout(one.address, two.address)) == [Place(one.address, 1, 0, 7), Place(two.address, 3, 0, 16_384)]


def test_who_has_some_is_taken_at_his_word(silent: str) -> None:
    known = scout(silent, workers={silent: 4})
    assert places(known, {silent: 2}) == [Place(silent, 4, 2, None)]
    known.doubt(silent)
    assert places(known, {silent: 2}) == []


def test_all_may_be_asked_anew(serve: ServerFactory) -> None:
    server = serve(num_workers=2, max_envs=5)
    known = scout(server.address, workers={server.address: 2})
    with RemoteVectorEnv(server.address, num_envs=3) as envs:
        envs.reset()
        assert places(known, {server.address: 3}) == [Place(server.address, 2, 3, None)]
        assert places(known, {server.address: 3}, anew=True) == [Place(server.address, 2, 3, 2)]


def test_who_is_full_has_no_room_and_keeps_what_it_has(serve: ServerFactory) -> None:
    server = serve(num_workers=2, max_sessions=1)
    with RemoteVectorEnv(server.address, num_envs=3) as envs:
        envs.reset()
        assert places(scout(server.address), {server.address: 3}, anew=True) == [Place(server.address, 2, 3, 0)]


def test_who_answers_too_late_is_known_the_next_time(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    quick, slow = serve(num_workers=1), serve(num_workers=1)
    asked, answers = [], threading.Event()
    really = scouting.describe

    def describe(address: Address, seconds: float) -> Any:
        if str(address) == slow.address:
            asked.append(address)
            answers.wait(PATIENCE)
        return really(address, seconds)

    monkeypatch.setattr(scouting, "describe", describe)
    known = scout(quick.address, slow.address)
    assert [place.name for place in places(known)] == [quick.address]
    answers.set()
    wait_until(lambda: not known.known[slow.address].asking)
    answers.clear()
    assert [place.name for place in places(known)] == [quick.address, slow.address]
    answers.set()


def test_nobody_waits_for_who_is_silent(serve: ServerFactory, silent: str) -> None:
    server = serve(num_workers=1)
    known = scout(silent, server.address, move_timeout_seconds=10.0)
    began = time.monotonic()
    assert [place.name for place in places(known)] == [server.address]
    assert time.monotonic() - began < 5
    known.closed = True


def test_who_asks_all_may_be_in_a_hurry(serve: ServerFactory, silent: str) -> None:
    server = serve(num_workers=1)
    known = scout(silent, server.address, move_timeout_seconds=10.0)
    began = time.monotonic()
    assert [place.name for place in places(known, anew=True, hurry=lambda: True)] == [server.address]
    assert time.monotonic() - began < 5


def test_who_is_not_there_is_avoided_and_says_why() -> None:
    known = scout("127.0.0.1:1")
    assert places(known) == []
    wait_until(known.said, PATIENCE, "it was not reached")
    assert known.known["127.0.0.1:1"].avoided_until and places(known) == []
    (said,) = known.said()
    assert said.startswith("127.0.0.1:1: ")
    known.known["127.0.0.1:1"].avoided_until = 0.0
    known.built("127.0.0.1:1")
    assert known.said() == []


def test_who_is_going_away_takes_nobody(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteVectorEnv(server.address) as envs:
        envs.reset()
        stopping = threading.Thread(target=server.stop, kwargs={"handover": PATIENCE})
        stopping.start()
        wait_until(lambda: server.statistics()["draining"], PATIENCE)
        known = scout(server.address)
        assert places(known) == [] and known.said() == [f"{server.address}: it is going away"]
    stopping.join(PATIENCE)
    assert not stopping.is_alive()


def test_who_refuses_is_asked_for_less() -> None:
    known = scout("a:1", workers={"a:1": 1})
    known.refused("a:1", 5)
    assert known.places({"a:1": Address("a", 1, None)}, {"a:1": 1}) == [Place("a:1", 1, 1, 2)]
    known.note("a:1", RefusedError("no", "max_envs"))
    assert known.places({"a:1": Address("a", 1, None)}, {"a:1": 1}) == []


def test_a_source_that_does_not_say(tmp_path: Any) -> None:
    known = Scout(settings(url=f"file:{tmp_path / 'none'}", on_session_lost="move", connect_timeout_seconds=0.1), {})
    assert known.addresses() is None and "cannot be read" in known.said()[0]


def test_whose_address_is_nobodys_any_more_is_forgotten() -> None:
    known = scout(workers={"gone:1": 1, "held:1": 1})
    known.places({}, {"held:1": 2})
    assert known.known.keys() == {"held:1"}
