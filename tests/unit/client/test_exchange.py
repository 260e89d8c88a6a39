"""Requests out and parts in, over one server or two, on fake carriers."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from faking import OBSERVATION, fleet_of, transition
from gymnasium.error import NoAsyncCallError
from gymnasium.vector import AutoresetMode

from remote_gym import MisuseError, ProtocolError, RefusedError, SessionLost, values
from remote_gym.client import exchange as exchange_module
from remote_gym.client import request_sizes
from remote_gym.client.actions import Actions
from remote_gym.client.exchange import Exchange
from remote_gym.client.observations import Observations
from remote_gym.client.parts import Part
from remote_gym.client.session import session as session_module
from remote_gym.client.transitions import TransitionReader
from remote_gym.messages import Failure, FailureKind, Lost, Refused, Reset, Returned, Step


class Stage:
    """An exchange over servers of `counts` environments."""

    def __init__(self, *counts: int, truncate: bool = True, reopen: bool = True) -> None:
        self.fleet, self.servers = fleet_of(*counts)
        reader, observations = TransitionReader(OBSERVATION, sum(counts)), Observations(OBSERVATION, sum(counts))
        settings: Any = SimpleNamespace(
            mode=AutoresetMode.NEXT_STEP,
            on_worker_failure="truncate" if truncate else "raise",
            on_session_lost="truncate" if reopen else "raise",
            move_timeout_seconds=5.0,
        )
        self.exchange = Exchange(self.fleet, reader, observations, settings)
        self.exchange.counts = True

    def step(self, indices: Any = None) -> None:
        rows = self.fleet.num_envs if indices is None else len(indices)
        self.exchange.step(indices, Actions([np.zeros(rows, np.int64)]))

    def reset(self, indices: Any = None) -> None:
        rows = self.fleet.num_envs if indices is None else len(indices)
        self.exchange.reset(indices, [None] * rows, b"")

    def answer(self, server: int = 0, **fields: Any) -> Any:
        """Answer the next request of a server, as told or wholly; return the request."""
        connection = self.servers[server]
        request = connection.request()
        answer = transition(request.number, fields.pop("indices", request.indices), connection.num_envs, **fields)
        if isinstance(request, Reset):
            answer.rewards = answer.terminations = answer.truncations = b""
        connection.carrier.bring(answer)
        return request

    def take(self) -> list[Part]:
        parts: list[Part] = []
        while not parts:
            parts = list(self.exchange.receive(5.0))
            self.exchange.took()
        return parts


@pytest.fixture
def one(stages: list[Stage]) -> Stage:
    stages.append(Stage(3))
    return stages[0]


@pytest.fixture
def two(stages: list[Stage]) -> Stage:
    stages.append(Stage(2, 3))
    return stages[0]


def test_a_step_comes_back_whole(one: Stage) -> None:
    one.step()
    assert one.exchange.in_flight.all() and one.exchange.busy
    assert isinstance(one.answer(), Step)
    (part,) = one.take()
    assert part.indices is None and not one.exchange.in_flight.any() and not one.exchange.busy


def test_a_part_that_was_not_taken_comes_again_and_is_made_once(one: Stage) -> None:
    one.step()
    one.answer(failures=[Failure(1, FailureKind.LOST, "killed")])
    first = one.exchange.receive(5.0)
    assert one.exchange.in_flight.all(), "until it is where it belongs"
    again = one.exchange.receive(5.0)
    assert all(a is b for a, b in zip(first, again, strict=True))
    assert one.exchange.losses.generations[1] == 1
    one.exchange.took()
    assert not one.exchange.in_flight.any()


def test_parts_of_one_answer(one: Stage) -> None:
    one.step()
    number = one.servers[0].request().number
    for indices in ([2], [0, 1]):
        one.servers[0].carrier.bring(transition(number, indices))
        (part,) = one.take()
        assert part.indices == indices
    assert not one.exchange.busy


@pytest.fixture
def small_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_sizes, "MAX_REQUEST_BYTES", 1_000)
    for module in (request_sizes, exchange_module):
        monkeypatch.setattr(module, "SURE_BYTES", 500)


@pytest.mark.usefixtures("small_requests")
def test_a_request_too_large_for_one_server_goes_to_none(two: Stage) -> None:
    before = [server.session.highest for server in two.servers]
    large: list[Any] = [Actions([np.zeros((5, 240), np.uint8)]), Actions([np.zeros((5, 499), np.uint8)])]
    large += [Actions([], given=values.pack([b"", b"", b"", b"", bytes(1_000)]))]
    for actions in large[1:]:
        with pytest.raises(MisuseError, match="the actions take"):
            two.exchange.step(None, actions)
    assert [server.session.highest for server in two.servers] == before
    assert not two.exchange.in_flight.any() and not two.exchange.busy
    two.exchange.step(None, large[0])  # too large for one request, but these are two
    assert [two.answer(server).actions[0].nbytes for server in (0, 1)] == [480, 720]


def test_two_servers_answer_in_the_indices_of_the_batch(two: Stage) -> None:
    two.step([4, 0, 2])
    assert two.answer(1).indices == [2, 0]
    assert [part.indices for part in two.take()] == [[4, 2]]
    assert two.exchange.in_flight.tolist() == [True, False, False, False, False]
    two.answer(0)
    assert [part.indices for part in two.take()] == [[0]]
    assert not two.exchange.busy


def test_a_refusal_frees_its_environments(one: Stage) -> None:
    one.step()
    one.servers[0].carrier.bring(Refused(1, "memory", "too much"))
    with pytest.raises(RefusedError):
        one.exchange.receive(5.0)
    assert not one.exchange.in_flight.any() and not one.exchange.busy


def test_a_call_that_was_interrupted_leaves_nothing_in_the_way(one: Stage) -> None:
    session = one.servers[0].session
    session.send(Step(0, None, [b""]))  # nothing was noted with it
    one.servers[0].carrier.bring(Returned(1, None, [b""] * 3))
    assert list(one.exchange.receive(5.0)) == []
    one.exchange.took()
    assert not one.exchange.busy


def test_an_answer_of_another_kind_ends_the_session(one: Stage) -> None:
    one.step()
    one.servers[0].carrier.bring(Returned(1, None, [b""] * 3))
    for _ in range(2):
        with pytest.raises(ProtocolError):
            one.exchange.receive(5.0)


def test_a_lost_session_is_made_up_for(two: Stage) -> None:
    two.step()
    two.answer(0)
    two.take()
    number = two.servers[1].request().number
    two.servers[1].carrier.bring(transition(number, [2], 3), Lost("SERVER_RESTARTED", "anew"))
    assert [part.indices for part in two.take()] == [[4]], "what came before the loss"
    (part,) = two.take()
    assert part.indices == [2, 3] and part.truncations is not None and part.truncations.all()
    assert set(part.notes) == {2, 3}
    assert set(two.exchange.losses.untold) == {4}, "it was answered, and is told of by the next step"
    assert not two.exchange.in_flight.any()


def test_a_loss_that_is_found_out_by_sending(one: Stage) -> None:
    one.servers[0].carrier.bring(Lost("EXPIRED"))
    while not one.servers[0].session._protocol.over:
        pass
    one.step()
    (part,) = one.take()
    assert part.indices == [0, 1, 2] and part.truncations is not None and part.truncations.all()


def test_what_a_lost_session_has_brought_is_kept_when_sending_finds_out(one: Stage) -> None:
    one.step([0])
    one.servers[0].carrier.bring(transition(1, [0]), Lost("EXPIRED"))
    while not one.servers[0].session._protocol.over:
        pass
    one.step([1])
    first, second = one.take(), one.take()
    assert [part.indices for part in (*first, *second)] == [[0], [1]]
    assert not first[0].notes and set(second[0].notes) == {1}


def test_a_server_that_is_about_to_go_refuses_and_its_end_makes_up_for_it(one: Stage) -> None:
    one.step()
    one.servers[0].carrier.bring(Refused(1, "draining", "going away"))
    assert list(one.exchange.receive(5.0)) == []
    one.exchange.took()
    assert one.exchange.busy
    one.servers[0].carrier.bring(Lost("SERVER_RESTARTED"))
    (part,) = one.take()
    assert set(part.notes) == {0, 1, 2}


def test_a_loss_is_raised_where_it_is_not_to_be_made_up_for(stages: list[Stage]) -> None:
    stages.append(Stage(3, reopen=False))
    stages[0].step()
    stages[0].servers[0].carrier.bring(Lost("EXPIRED"))
    for _ in range(2):
        with pytest.raises(SessionLost):
            stages[0].exchange.receive(5.0)


def test_a_lost_reset_is_sent_again(one: Stage) -> None:
    one.reset()
    one.answer(failures=[Failure(1, FailureKind.LOST, "killed")])
    (part,) = one.take()
    assert part.indices == [0, 2]
    again = one.servers[0].request()
    assert isinstance(again, Reset) and again.indices == [1]


@pytest.mark.parametrize("what", ["step", "reset"])
def test_who_was_not_asked_before_an_interrupt_is_not_at_work(
    two: Stage, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The first server was asked, the second was not: only the first one's environments are waited for."""
    pack, requests = session_module.pack_client, itertools.count(1)

    def strikes(request: Any) -> bytes:
        if next(requests) == 2:
            raise KeyboardInterrupt
        return pack(request)

    with monkeypatch.context() as patch:
        patch.setattr(session_module, "pack_client", strikes)
        with pytest.raises(KeyboardInterrupt):
            getattr(two, what)()
    assert two.exchange.in_flight.tolist() == [True, True, False, False, False]
    two.answer(0)
    (part,) = two.take()
    assert list(part.indices or ()) == [0, 1] and not two.exchange.in_flight.any()
    with pytest.raises(NoAsyncCallError, match="interrupted before it was sent"):
        two.exchange.check_busy(what)
    two.step()
    assert two.exchange.in_flight.all()
