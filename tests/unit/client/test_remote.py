"""What both public classes share: dialling, whose turn it is, what an interrupt leaves behind, frames, and the end."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
from faking import ACTION, OBSERVATION, FakeConnection, faked, transition
from gymnasium import spaces
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from helpers import settings

from remote_gym import ProtocolError, SessionLost
from remote_gym.client import remote as module
from remote_gym.client.hosted import Told
from remote_gym.client.operations import Operation
from remote_gym.client.remote import Remote
from remote_gym.messages import Failure, FailureKind, Lost, Step

TOLD = Told(OBSERVATION, ACTION, {"render_fps": 7}, None, "rgb_array")
LOST = [Failure(0, FailureKind.LOST, "killed")]
Made = tuple[Remote, FakeConnection]
Make = Callable[..., Made]


@pytest.fixture
def make() -> Iterator[Make]:
    servers: list[FakeConnection] = []

    def made(num_envs: int = 2, told: Told = TOLD, **changed: Any) -> Made:
        remote = Remote(settings(num_envs=num_envs, **changed))
        servers.extend(faked(remote, num_envs, told=told))
        return remote, servers[-1]

    yield made
    for server in servers:
        server.close()


# Dialling


def test_it_dials_once_and_on_first_need(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, _ = make()
    dials: list[int] = []
    monkeypatch.setattr(remote.fleet, "dial", lambda: dials.append(1))
    assert str(remote) == "localhost:1234" and not dials
    dialled = remote.dial()
    assert remote.dial() is dialled and dials == [1]
    assert dialled.observation_space == spaces.Box(-1, 1, (2, 2), np.float32)
    assert dialled.action_space == spaces.MultiDiscrete([2, 2])
    assert dialled.told.observation_space == OBSERVATION


def test_a_single_one_has_no_batches(make: Make) -> None:
    dialled = make(1, single=True)[0].dial()
    assert (dialled.observation_space, dialled.action_space) == (OBSERVATION, ACTION)


def test_spaces_that_gymnasium_cannot_batch_are_the_servers_doing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_told: Told, _num_envs: int) -> Any:
        raise KeyError("odd")

    remote, server = make()
    monkeypatch.setattr(Told, "batched", fail)
    with pytest.raises(ProtocolError, match="KeyError: 'odd'"):
        remote.dial()
    with pytest.raises(ProtocolError):
        server.session.check()


def test_spaces_that_are_what_they_inherit_from_are_warned_of(make: Make) -> None:
    remote, _ = make(told=replace(TOLD, bases=("a.Mine", "b.Yours")))
    with pytest.warns(UserWarning, match=r"remote_gym.register_space: a\.Mine, b\.Yours") as caught:
        remote.dial()
    remote.dial()
    assert len(caught) == 1 and caught[0].filename == __file__


def test_what_is_told_can_be_set(make: Make) -> None:
    remote, _ = make(autoreset_mode="SameStep")
    assert remote.metadata == {"render_fps": 7, "autoreset_mode": gymnasium.vector.AutoresetMode.SAME_STEP}
    assert remote.metadata is remote.metadata and TOLD.metadata == {"render_fps": 7}
    assert remote.spec is None
    spec = gymnasium.spec("CartPole-v1")
    remote.metadata, remote.spec = {"mine": 1}, spec
    assert remote.metadata == {"mine": 1} and remote.spec is spec
    assert str(remote) == "CartPole-v1, localhost:1234"
    assert make(1, single=True)[0].metadata == {"render_fps": 7}


def test_an_id_is_named_once_it_is_known(make: Make) -> None:
    remote, _ = make(told=replace(TOLD, spec=gymnasium.spec("CartPole-v1")))
    assert str(remote) == "localhost:1234"
    remote.dial()
    assert str(remote) == "CartPole-v1, localhost:1234"


# Whose turn it is


def test_one_thing_at_a_time(make: Make) -> None:
    remote, _ = make()
    turns = remote.dial().turns
    assert remote.pending is None
    turns.begin("step")
    assert remote.pending == "step"
    for use in (remote.free, remote.opened):
        with pytest.raises(AlreadyPendingCallError, match="step_wait"):
            use("render")
    assert remote.awaited("step") is remote.dial()
    with pytest.raises(NoAsyncCallError):
        remote.awaited("reset")


def test_waiting_for_what_was_never_begun_does_not_dial(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, _ = make()
    monkeypatch.setattr(remote, "dial", None)
    with pytest.raises(NoAsyncCallError, match="`step_wait` without any prior call to `step_async`"):
        remote.awaited("step")


def test_what_came_back_whole_is_asked_nothing_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, _ = make()
    dialled = remote.dial()
    looks: list[str] = []
    monkeypatch.setattr(dialled.turns, "check_all_idle", looks.append)
    dialled.turns.end(clear=True)
    assert remote.free("step") is dialled and looks == []
    assert remote.free("call") is dialled and looks == ["call"], "something may have begun meanwhile"


def test_what_nobody_waits_for_any_more_is_dropped(make: Make) -> None:
    """A step that was sent, and whose caller was interrupted before it was pending."""
    remote, server = make()
    dialled = remote.dial()
    server.session.send(Step(0, None, [b""]), None)
    with ThreadPoolExecutor(1) as thread:
        freeing = thread.submit(remote.free, "step")
        server.answer()
        assert freeing.result(timeout=5.0) is dialled
    assert not dialled.exchange.busy


def test_batches_of_whoever_is_ready_are_not_dropped(make: Make) -> None:
    remote, server = make()
    exchange = remote.dial().exchange
    exchange.counts = True
    exchange.reset([0], [None], b"")
    with pytest.raises(AlreadyPendingCallError, match="recv"):
        remote.free("step")
    assert exchange.busy
    server.answer()


def test_a_loss_among_what_is_dropped_is_told_of_by_the_next_step(make: Make) -> None:
    remote, server = make()
    exchange = remote.dial().exchange
    exchange.reset(None, [None, None], b"")
    server.answer()
    exchange.settle()
    server.session.send(Step(0, None, [b""]), Operation(range(2), False))
    server.carrier.bring(transition(2, None, 2, failures=LOST))
    remote.free("step")
    assert exchange.losses.untold == {0: "killed"}


# Frames


def test_frames_come_with_steps_or_are_asked_for(make: Make) -> None:
    remote, server = make()
    with ThreadPoolExecutor(1) as thread:
        for _ in range(2):
            frames = thread.submit(remote.frames)
            server.give("a", "b")
            assert frames.result(timeout=5.0) == ["a", "b"]
            remote.dial().reader.frames = {1: "d", 0: "c"}
            assert remote.frames() == ["c", "d"] == remote.frames()
            remote.forget_frames()
        remote.dial().reader.frames = {1: "only one of two"}
        frames = thread.submit(remote.frames)
        server.give("a", "b")
        assert frames.result(timeout=5.0) == ["a", "b"]


class Screen:
    """A window that notes what it is asked for."""

    made: list[Screen] = []

    def __init__(self, fetch: Callable[[], Any], mode: str | None, metadata: Any, title: str) -> None:
        self.fetch, self.given, self.title = fetch, (mode, metadata), title
        self.shown: list[Any] = []
        self.closes = 0
        self.made.append(self)

    def show(self) -> None:
        self.shown.append(self.fetch())

    def close(self) -> None:
        self.closes += 1


@pytest.mark.parametrize("single, shown", [(True, "a"), (False, ("a", "b"))])
def test_one_window_shows_all_frames(make: Make, monkeypatch: pytest.MonkeyPatch, single: bool, shown: Any) -> None:
    monkeypatch.setattr(module, "Window", Screen)
    monkeypatch.setattr(Screen, "made", [])
    remote, _ = make(1 if single else 2, single=single, render_mode="human")
    assert not Screen.made
    remote.dial().reader.frames = {0: "a"} if single else {0: "a", 1: "b"}
    remote.show()
    remote.show()
    (screen,) = Screen.made
    assert screen.given == ("rgb_array", remote.metadata) and screen.shown == [shown, shown]
    assert screen.title == (str(remote) if single else f"{remote}, envs 0-1")
    remote.close()
    assert screen.closes == 1


def test_nothing_is_shown_to_who_does_not_look(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Window", None)
    make(render_mode="rgb_array")[0].show()


# Warnings


def test_losses_are_warned_of_once(make: Make) -> None:
    remote, _ = make()
    note = {"remote_gym": {"lost": True, "reason": "killed"}}
    remote.warn_of({})
    with pytest.warns(UserWarning, match=r"environments \[1, 3\] were lost: killed") as caught:
        remote.warn_of({3: note, 1: note})
        remote.warn_of({0: note})
    assert [warning.filename for warning in caught] == [__file__]


def test_values_that_arrive_as_another_type_are_warned_of_each_time(make: Make) -> None:
    remote, _ = make()
    for text in ("first", "second"):
        remote.dial().reader.told = text
        with pytest.warns(UserWarning, match=text):
            remote.warn_of({})
        remote.warn_of({})  # warnings are errors


# The end


def test_nothing_after_the_end(make: Make) -> None:
    remote, server = make()
    turns = remote.dial().turns
    turns.end(clear=True)
    remote.close()
    remote.close()
    assert server.closes and not turns.clear
    for use in (lambda: remote.free("step"), lambda: remote.opened("recv"), lambda: remote.awaited("step")):
        with pytest.raises(ClosedEnvironmentError, match="was called"):
            use()


def test_it_may_end_before_it_began(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    remote, _ = make()
    monkeypatch.setattr(remote, "dial", None)
    remote.close()
    for use in (remote.free, remote.awaited):
        with pytest.raises(ClosedEnvironmentError):
            use("step")


def test_nothing_is_pending_once_it_was_closed(make: Make) -> None:
    remote, _ = make()
    remote.dial().turns.begin("step")
    remote.close()
    assert remote.pending is None


def test_a_lost_session_is_told_by_whatever_comes_next(make: Make) -> None:
    remote, server = make()
    remote.dial()
    server.session.send(Step(0, None, [b""]), None)
    server.carrier.bring(Lost("EXPIRED", "too long"))
    for _ in range(2):
        with pytest.raises(SessionLost, match="too long"):
            remote.free("step")


def test_it_is_freed_when_nobody_holds_it() -> None:
    remote = Remote(settings(num_envs=2))
    gone = weakref.ref(remote)
    del remote
    gc.collect()
    assert gone() is None
