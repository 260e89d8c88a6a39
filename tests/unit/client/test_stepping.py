"""Resets and steps as begun, gathered and handed out; what a timeout, an interrupt or a failure leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from faking import ACTION, OBSERVATION, faked
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError, ResetNeeded
from helpers import settings

from remote_gym import EnvironmentRaised, MisuseError, ProtocolError, TimedOut, values
from remote_gym.client.dialled import Dialled
from remote_gym.client.hosted import Told
from remote_gym.client.remote import Remote
from remote_gym.client.stepping import Stepping
from remote_gym.info_blocks import pack_infos
from remote_gym.messages import Failure, FailureKind, Lost, Refused, Reset, Step

RAISED = [Failure(1, FailureKind.RAISED, "builtins.ValueError", "no", base="builtins.ValueError")]
LOST = [Failure(1, FailureKind.LOST, "killed by SIGKILL")]


def observed(*firsts: float) -> dict[str, Any]:
    """Observations whose first element is given, as a transition has them."""
    return {"observations": [np.array([[first, 0] for first in firsts], np.float32).tobytes()]}


def rewarded(*rewards: float) -> dict[str, Any]:
    return {"rewards": np.array(rewards, np.float64).tobytes()}


class Stage:
    """Whoever steps, on servers of `counts` environments, and all that was sent to them."""

    def __init__(self, *counts: int, **changed: Any) -> None:
        self.num_envs, told = sum(counts), changed.pop("told", None)
        self.remote = Remote(settings(num_envs=self.num_envs, **{"autoreset_mode": "NextStep", **changed}))
        self.servers = faked(self.remote, *counts, told=told)
        self.stepping = Stepping(self.remote)

    @property
    def dialled(self) -> Dialled:
        return self.remote.dial()

    @property
    def turns(self) -> Any:
        return self.dialled.turns

    @property
    def silent(self) -> bool:
        return all(server.carrier.silent for server in self.servers)

    def begin(self) -> None:
        self.stepping.begin_step(np.zeros(self.num_envs, np.int64))

    def answer(self, **fields: Any) -> Any:
        return self.servers[0].answer(**fields)

    def finish(self, timeout: float | None = 5.0) -> Any:
        return self.stepping.finish_step(timeout)

    def whole(self, **fields: Any) -> Any:
        """One step, there and back."""
        self.begin()
        for server in self.servers:
            server.answer(**fields)
        return self.finish()


Make = Callable[..., Stage]


@pytest.fixture
def make() -> Iterator[Make]:
    stages: list[Stage] = []

    def made(*counts: int, **changed: Any) -> Stage:
        stages.append(Stage(*(counts or (3,)), **changed))
        return stages[-1]

    yield made
    for stage in stages:
        for server in stage.servers:
            server.close()


# Whole steps


def test_a_step_there_and_back(make: Make) -> None:
    stage = make()
    stage.stepping.begin_step([1, 0, 1])
    request = stage.answer(**observed(1, 2, 3), **rewarded(1, 2, 3), terminations=b"\0\1\0", truncations=b"\0\0\1")
    assert isinstance(request, Step) and request.indices is None
    assert np.frombuffer(request.actions[0], np.int64).tolist() == [1, 0, 1]
    observations, rewards, terminations, truncations, infos = stage.finish()
    assert observations[:, 0].tolist() == [1, 2, 3] and rewards.tolist() == [1, 2, 3]
    assert terminations.tolist() == [False, True, False] and truncations.tolist() == [False, False, True]
    assert infos == {}


def test_several_servers_make_one_batch_in_whatever_order_they_answer(make: Make) -> None:
    stage = make(1, 2)
    stage.begin()
    stage.servers[1].answer(**observed(2, 3), **rewarded(2, 3))
    stage.servers[0].answer(**observed(1), **rewarded(1))
    observations, rewards, *_ = stage.finish()
    assert observations[:, 0].tolist() == [1, 2, 3] and rewards.tolist() == [1, 2, 3]


@pytest.mark.parametrize("copy", [True, False])
def test_observations_are_copies_if_asked_for(make: Make, copy: bool) -> None:
    assert make(copy=copy).whole()[0].flags.writeable is copy


@pytest.mark.parametrize("name", ["reset", "step"])
def test_nothing_is_waited_for_that_was_not_begun(make: Make, name: str) -> None:
    stage = make()
    finish = getattr(stage.stepping, f"finish_{name}")
    for _ in range(2):
        with pytest.raises(NoAsyncCallError, match=f"`{name}_wait` without any prior call to `{name}_async`"):
            finish(0.0)
        stage.whole()


def test_a_step_is_no_reset(make: Make) -> None:
    stage = make()
    stage.begin()
    with pytest.raises(NoAsyncCallError):
        stage.stepping.finish_reset(0.0)
    with pytest.raises(AlreadyPendingCallError):
        stage.begin()
    with pytest.raises(AlreadyPendingCallError):
        stage.stepping.begin_reset(None, None)
    stage.answer()
    stage.finish()
    assert stage.silent


def test_wrong_actions_begin_nothing(make: Make) -> None:
    stage = make()
    with pytest.raises(MisuseError):
        stage.stepping.begin_step([0])
    assert stage.turns.pending is None and stage.silent
    stage.whole()


def test_what_could_not_be_sent_is_not_pending(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make()

    def fail(*_: object) -> None:
        raise MisuseError("no")

    with monkeypatch.context() as patch:
        patch.setattr(stage.dialled.exchange, "step", fail)
        with pytest.raises(MisuseError):
            stage.begin()
    assert stage.turns.pending is None
    stage.whole()


# What the next one is spared, and what it is not


def test_after_a_whole_step_anything_may_begin(make: Make) -> None:
    stage = make()
    assert not stage.turns.clear, "nothing came back yet"
    stage.begin()
    assert not stage.turns.clear
    stage.answer()
    stage.finish()
    assert stage.turns.clear and stage.turns.pending is None
    stage.whole()
    stage.remote.close()
    with pytest.raises(ClosedEnvironmentError):
        stage.begin()


@pytest.mark.parametrize(
    "fields, error",
    [({"failures": RAISED}, EnvironmentRaised), ({"rewards": b""}, ProtocolError), ({"failures": LOST}, None)],
)
def test_after_anything_else_the_next_one_looks(make: Make, fields: dict[str, Any], error: Any) -> None:
    stage = make()
    stage.begin()
    stage.answer(**fields)
    if error is None:
        with pytest.warns(UserWarning, match="killed by SIGKILL"):
            stage.finish()
    else:
        with pytest.raises(error):
            stage.finish()
    assert not stage.turns.clear and stage.turns.pending is None


def test_a_step_asks_for_all_once_it_was_sent(make: Make) -> None:
    stage = make()
    stage.begin()
    assert stage.turns.batch.asked and stage.turns.batch.missing == 3
    stage.answer()
    stage.finish()


# Timeouts


def test_a_timeout_loses_nothing(make: Make) -> None:
    stage = make()
    stage.begin()
    for _ in range(2):
        with pytest.raises(TimedOut, match=r"`step_wait` has timed out after 0.0 second"):
            stage.finish(0.0)
    assert stage.turns.pending == "step"
    stage.answer(**rewarded(1, 2, 3))
    assert stage.finish()[1].tolist() == [1, 2, 3]
    assert stage.silent, "it was sent once"


def test_a_timeout_keeps_what_one_of_two_servers_has_brought(make: Make) -> None:
    stage = make(1, 2)
    stage.begin()
    stage.servers[1].answer(**rewarded(2, 3))
    stage.dialled.exchange.deliver(lambda part: stage.dialled.batches.add(stage.turns.batch, part), 5.0)
    with pytest.raises(TimedOut):
        stage.finish(0.0)
    assert stage.turns.batch.missing == 1
    stage.servers[0].answer(**rewarded(1))
    assert stage.finish()[1].tolist() == [1, 2, 3]


def test_an_environments_own_timeout_is_no_timeout_of_the_wait(make: Make) -> None:
    stage = make()
    stage.begin()
    stage.answer(failures=[Failure(0, FailureKind.RAISED, "builtins.TimeoutError", "slow")])
    with pytest.raises(TimeoutError, match="environment 0 raised") as error:
        stage.finish()
    assert not isinstance(error.value, TimedOut) and stage.turns.pending is None


# Interrupts


class Strikes:
    """Ctrl-C before or after the first call of something, and never again."""

    def __init__(self, patch: pytest.MonkeyPatch, where: Any, name: str, when: str) -> None:
        self.real, self.when, self.struck = getattr(where, name), when, False
        patch.setattr(where, name, self)

    def __call__(self, *args: Any) -> Any:
        if self.struck:
            return self.real(*args)
        self.struck = True
        if self.when == "after":
            self.real(*args)
        raise KeyboardInterrupt


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("where", ["batches.add", "exchange.took", "batches.commit"])
def test_an_interrupt_while_it_is_gathered_loses_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, where: str, when: str
) -> None:
    stage = make(1, 2)
    part, name = where.split(".")
    Strikes(monkeypatch, getattr(stage.dialled, part), name, when)
    stage.begin()
    stage.servers[0].answer(**observed(1), **rewarded(1))
    stage.servers[1].answer(**observed(2, 3), **rewarded(2, 3))
    with pytest.raises(KeyboardInterrupt):
        stage.finish()
    assert stage.turns.pending == "step" and not stage.turns.clear
    observations, rewards, *_ = stage.finish()
    assert observations[:, 0].tolist() == [1, 2, 3] and rewards.tolist() == [1, 2, 3]
    assert stage.silent and not stage.dialled.exchange.busy


def test_an_interrupt_before_it_was_sent(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make()
    Strikes(monkeypatch, stage.dialled.exchange, "step", "before")
    with pytest.raises(KeyboardInterrupt):
        stage.begin()
    assert not stage.turns.batch.asked
    with pytest.raises(NoAsyncCallError, match="the step was interrupted before it was sent"):
        stage.finish()
    assert stage.turns.pending is None
    stage.whole()


def test_an_interrupt_after_it_was_sent(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make()
    Strikes(monkeypatch, stage.dialled.exchange, "step", "after")
    with pytest.raises(KeyboardInterrupt):
        stage.begin()
    stage.answer(**rewarded(1, 2, 3))
    assert stage.finish()[1].tolist() == [1, 2, 3] and stage.silent


def test_what_only_one_of_two_servers_got(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is asked by whoever waits for the step: it is whole, and done once."""
    stage = make(1, 2)
    Strikes(monkeypatch, stage.servers[1].session, "send", "before")
    with pytest.raises(KeyboardInterrupt):
        stage.begin()
    stage.servers[0].answer()
    with ThreadPoolExecutor(1) as thread:
        answered = thread.submit(stage.servers[1].answer)
        assert stage.finish()[1].tolist() == [0, 0, 0]
    answered.result()
    assert stage.whole()[1].tolist() == [0, 0, 0]


def test_an_interrupt_while_a_lost_session_is_made_up_for_is_not_waited_for(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a new session, and nobody has asked it for anything."""
    stage = make(on_session_lost="truncate")
    stage.begin()
    Strikes(monkeypatch, stage.dialled.exchange._fleet.shards[0], "reopen", "after")
    stage.servers[0].carrier.bring(Lost("EXPIRED"))
    with pytest.raises(KeyboardInterrupt):
        stage.finish()
    with pytest.raises(NoAsyncCallError, match="interrupted before it was sent"):
        stage.finish()
    stage.whole()


# Failures and losses


def test_a_failure_is_raised_once_and_the_others_were_stepped(make: Make) -> None:
    stage = make()
    stage.whole(**observed(1, 2, 3))
    stage.begin()
    stage.answer(**observed(4, 5, 6), failures=RAISED)
    with pytest.raises(ValueError, match=r"environment 1 raised builtins\.ValueError: no"):
        stage.finish()
    assert stage.dialled.observations.batch(True)[:, 0].tolist() == [4, 2, 6], "its last one stays"
    with pytest.raises(NoAsyncCallError):
        stage.finish(0.0)
    stage.whole()


def test_a_refusal_ends_the_step(make: Make) -> None:
    stage = make()
    stage.begin()
    stage.servers[0].carrier.bring(Refused(stage.servers[0].request().number, "request", "odd"))
    with pytest.raises(MisuseError, match="odd"):
        stage.finish()
    assert stage.turns.pending is None
    stage.whole()


def test_a_loss_is_told_and_begins_again_with_the_next_step(make: Make) -> None:
    stage = make()
    stage.whole(**observed(1, 2, 3))
    stage.begin()
    stage.answer(**observed(4, 0, 6), failures=LOST)
    with pytest.warns(UserWarning, match=r"environments \[1\] were lost"):
        observations, rewards, _, truncations, infos = stage.finish()
    assert observations[:, 0].tolist() == [4, 2, 6], "the last one that was handed out"
    assert rewards.tolist() == [0, 0, 0] and truncations.tolist() == [False, True, False]
    assert infos["_remote_gym"].tolist() == [False, True, False]
    stage.begin()
    reset, step = stage.answer(**observed(9)), stage.answer(**observed(7, 8))
    assert isinstance(reset, Reset) and reset.indices == [1]
    assert isinstance(step, Step) and step.indices == [0, 2]
    assert stage.finish()[0][:, 0].tolist() == [7, 9, 8] and stage.turns.clear


def test_infos_that_do_not_aggregate_end_a_step_that_is_done(make: Make) -> None:
    stage = make()
    stage.begin()
    block = pack_infos([0, 1], [{"a": np.zeros(2)}, {"a": np.zeros(3)}])
    stage.answer(**observed(1, 2, 3), infos=[values.pack([block, None, None, None])])
    with pytest.raises(ValueError, match="broadcast"):
        stage.finish()
    assert stage.turns.pending is None
    assert stage.dialled.observations.batch(True)[:, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("mode, raises", [("Disabled", True), ("NextStep", False)])
def test_whose_episode_is_over_is_reset_by_whoever_does_that(make: Make, mode: str, raises: bool) -> None:
    stage = make(autoreset_mode=mode)
    stage.whole(terminations=b"\0\1\0")
    if not raises:
        stage.whole()
        return
    with pytest.raises(ResetNeeded):
        stage.begin()
    assert stage.turns.pending is None and stage.silent
    stage.stepping.begin_reset(None, {"reset_mask": np.array([False, True, False])})
    stage.answer()
    stage.stepping.finish_reset(5.0)
    stage.whole()


# Steps of some


def begin_some(stage: Stage, *indices: int) -> None:
    stage.stepping.begin_step(np.zeros(len(indices), np.int64), list(indices))


def test_a_step_of_some_there_and_back(make: Make) -> None:
    stage = make()
    stage.whole(**observed(1, 2, 3))
    stage.stepping.begin_step([1, 0], [2, 0])
    assert stage.turns.batch.asked and stage.turns.batch.missing == 2
    request = stage.answer(**observed(30, 10), **rewarded(3, 1), terminations=b"\0\1")
    assert request.indices == [2, 0] and np.frombuffer(request.actions[0], np.int64).tolist() == [1, 0]
    observations, rewards, terminations, truncations, infos = stage.finish()
    assert observations[:, 0].tolist() == [30, 10] and rewards.tolist() == [3, 1]
    assert terminations.tolist() == [False, True] and truncations.tolist() == [False, False] and infos == {}
    assert stage.dialled.observations.batch(True)[:, 0].tolist() == [10, 2, 30]
    assert stage.turns.clear
    stage.whole()


def test_all_of_them_in_order_are_a_whole_step(make: Make) -> None:
    stage = make()
    begin_some(stage, 0, 1, 2)
    assert stage.turns.batch.order is None
    assert stage.answer(**rewarded(1, 2, 3)).indices is None
    assert stage.finish()[1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("answers", [[0, 1], [1, 0]])
def test_some_of_several_servers_in_whatever_order_they_answer(make: Make, answers: list[int]) -> None:
    stage = make(2, 2)
    begin_some(stage, 3, 0, 2)
    fields = [{**observed(1), **rewarded(1)}, {**observed(4, 3), **rewarded(4, 3)}]
    requests = {server: stage.servers[server].answer(**fields[server]) for server in answers}
    assert [requests[server].indices for server in (0, 1)] == [[0], [1, 0]]
    observations, rewards, *_ = stage.finish()
    assert observations[:, 0].tolist() == [4, 1, 3] and rewards.tolist() == [4, 1, 3]


def test_a_step_of_some_survives_a_timeout(make: Make) -> None:
    stage = make(1, 2)
    begin_some(stage, 2, 0)
    stage.servers[1].answer(**rewarded(3))
    with pytest.raises(TimedOut, match="step_wait"):
        stage.finish(0.05)
    with pytest.raises(AlreadyPendingCallError):
        begin_some(stage, 1)
    stage.servers[0].answer(**rewarded(1))
    assert stage.finish()[1].tolist() == [3, 1] and stage.silent


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("where", ["batches.add", "exchange.took", "batches.commit"])
def test_an_interrupt_in_a_step_of_some_loses_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, where: str, when: str
) -> None:
    stage = make(1, 2)
    part, name = where.split(".")
    Strikes(monkeypatch, getattr(stage.dialled, part), name, when)
    begin_some(stage, 1, 0)
    stage.servers[0].answer(**observed(1), **rewarded(1))
    stage.servers[1].answer(**observed(2), **rewarded(2))
    with pytest.raises(KeyboardInterrupt):
        stage.finish()
    assert stage.turns.pending == "step" and not stage.turns.clear
    observations, rewards, *_ = stage.finish()
    assert observations[:, 0].tolist() == [2, 1] and rewards.tolist() == [2, 1]
    assert stage.silent and not stage.dialled.exchange.busy


def test_what_only_one_of_two_servers_got_of_some(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = make(1, 2)
    Strikes(monkeypatch, stage.servers[1].session, "send", "before")
    with pytest.raises(KeyboardInterrupt):
        begin_some(stage, 1, 0)
    stage.servers[0].answer(**rewarded(1))
    with ThreadPoolExecutor(1) as thread:
        answered = thread.submit(stage.servers[1].answer, **rewarded(2))
        assert stage.finish()[1].tolist() == [2, 1]
    assert answered.result().indices == [0]


def test_of_some_a_failure_is_raised_and_the_others_were_stepped(make: Make) -> None:
    stage = make()
    stage.whole(**observed(1, 2, 3))
    begin_some(stage, 2, 1)
    stage.answer(**observed(30, 0), failures=RAISED)
    with pytest.raises(ValueError, match="environment 1 raised"):
        stage.finish()
    assert stage.dialled.observations.batch(True)[:, 0].tolist() == [1, 2, 30]
    assert stage.turns.pending is None and not stage.turns.clear


def test_of_some_a_loss_is_told_and_begins_again_with_its_next_step(make: Make) -> None:
    stage = make()
    stage.whole(**observed(1, 2, 3))
    begin_some(stage, 2, 1)
    stage.answer(**observed(30, 0), failures=LOST)
    with pytest.warns(UserWarning, match=r"environments \[1\] were lost"):
        observations, rewards, _, truncations, infos = stage.finish()
    assert observations[:, 0].tolist() == [30, 2] and truncations.tolist() == [False, True]
    assert infos["_remote_gym"].tolist() == [False, True] and rewards.tolist() == [0, 0]
    begin_some(stage, 0)  # not yet its turn
    stage.answer()
    stage.finish()
    begin_some(stage, 1, 2)
    reset, step = stage.answer(**observed(9)), stage.answer(**observed(7))
    assert isinstance(reset, Reset) and reset.indices == [1] and isinstance(step, Step) and step.indices == [2]
    assert stage.finish()[0][:, 0].tolist() == [9, 7]


def test_only_whose_episode_is_over_is_refused(make: Make) -> None:
    stage = make(autoreset_mode="Disabled")
    stage.whole(terminations=b"\0\1\0")
    with pytest.raises(ResetNeeded, match=r"environments \[1\]"):
        begin_some(stage, 0, 1)
    assert stage.silent
    begin_some(stage, 0, 2)
    stage.answer()
    stage.finish()


def test_wrong_indices_begin_nothing(make: Make) -> None:
    stage = make()
    stage.whole()
    for wrong in ([0, 0], [3], [], 1):
        with pytest.raises(MisuseError, match="env_id"):
            stage.stepping.begin_step([0], wrong)
    with pytest.raises(MisuseError, match="actions are for 1"):
        stage.stepping.begin_step([0], [0, 1])
    assert stage.turns.pending is None and stage.silent
    stage.whole()


# Resets


@pytest.mark.parametrize("seed, sent", [(5, [5, 6, 7]), ([1, None, 3], [1, None, 3]), (None, None)])
def test_each_environment_has_its_seed(make: Make, seed: Any, sent: Any) -> None:
    stage = make()
    stage.stepping.begin_reset(seed, None)
    request = stage.answer(**observed(1, 2, 3))
    assert isinstance(request, Reset) and request.options == b""
    assert request.seeds == (b"" if sent is None else values.pack(sent))
    observations, infos = stage.stepping.finish_reset(5.0)
    assert observations[:, 0].tolist() == [1, 2, 3] and infos == {}


def test_a_mask_resets_some_and_the_others_keep_their_observation(make: Make) -> None:
    stage = make()
    stage.whole(**observed(1, 2, 3))
    options = {"reset_mask": np.array([True, False, True]), "hard": True}
    stage.stepping.begin_reset(10, options)
    assert stage.turns.batch.missing == 2
    request = stage.answer(**observed(7, 9))
    assert request.indices == [0, 2] and request.seeds == values.pack([10, 12])
    assert values.unpack(bytes(request.options)) == {"hard": True}
    assert set(options) == {"reset_mask", "hard"}, "the caller's own"
    assert stage.stepping.finish_reset(5.0)[0][:, 0].tolist() == [7, 2, 9]


def test_options_of_their_own_are_one_batch(make: Make) -> None:
    stage = make(1, 2)
    one, same = {"level": 1}, {"level": 1}
    stage.stepping.begin_reset(10, [one, {"level": 2}, same])
    assert stage.turns.batch.missing == 3 and stage.turns.batch.rows == 3
    first = stage.servers[0].answer(**observed(1))
    third, second = stage.servers[1].answer(**observed(3)), stage.servers[1].answer(**observed(2))
    for request, indices, seed, level in ((first, None, 10, 1), (second, [0], 11, 2), (third, [1], 12, 1)):
        assert (request.indices, values.unpack(bytes(request.seeds))) == (indices, [seed])
        assert values.unpack(bytes(request.options)) == {"level": level}
    observations, infos = stage.stepping.finish_reset(5.0)
    assert observations[:, 0].tolist() == [1, 2, 3] and infos == {} and stage.silent


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_between_two_requests_of_a_reset_leaves_nothing_behind(
    make: Make, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    stage = make()
    Strikes(monkeypatch, stage.dialled.exchange, "reset", when)
    with pytest.raises(KeyboardInterrupt):
        stage.stepping.begin_reset(None, [{"level": 1}, {"level": 2}, {"level": 1}])
    assert stage.turns.pending is None
    if when == "after":
        stage.answer(**observed(8, 8))  # nobody waits for it
    stage.stepping.begin_reset(None, [{"level": 3}, {"level": 4}, {"level": 3}])
    stage.answer(**observed(1, 3))
    stage.answer(**observed(2))
    assert stage.stepping.finish_reset(5.0)[0][:, 0].tolist() == [1, 2, 3] and stage.silent


def test_a_lost_reset_is_made_again_with_its_own_options(make: Make) -> None:
    stage = make()
    stage.stepping.begin_reset(5, [{"level": 1}, {"level": 2}, {"level": 1}])
    stage.answer(**observed(1, 3))
    stage.answer(**observed(0), failures=LOST)
    with ThreadPoolExecutor(1) as thread, pytest.warns(UserWarning, match="were lost"):
        again = thread.submit(stage.answer, **observed(2))
        assert stage.stepping.finish_reset(5.0)[0][:, 0].tolist() == [1, 2, 3]
    request = again.result()
    assert (request.indices, values.unpack(bytes(request.seeds))) == ([1], [6])
    assert values.unpack(bytes(request.options)) == {"level": 2}


def test_wrong_options_of_their_own_ask_nobody(make: Make) -> None:
    stage = make()
    for wrong in ([{}], [{}, {}, 5], [{}, {}, {"reset_mask": np.ones(3, np.bool_)}], [{}, {}, {"x": object()}]):
        with pytest.raises(MisuseError, match="options"):
            stage.stepping.begin_reset(None, wrong)
    assert stage.turns.pending is None and stage.silent


@pytest.mark.parametrize("mask", [[True] * 3, np.ones(2, np.bool_), np.ones(3), np.zeros(3, np.bool_)])
def test_a_wrong_mask_begins_nothing(make: Make, mask: Any) -> None:
    stage = make()
    with pytest.raises((TypeError, ValueError), match="reset_mask"):
        stage.stepping.begin_reset(None, {"reset_mask": mask})
    assert stage.turns.pending is None and stage.silent


def test_a_reset_too_survives_a_timeout(make: Make) -> None:
    stage = make()
    stage.stepping.begin_reset(None, None)
    with pytest.raises(TimedOut, match="reset_wait"):
        stage.stepping.finish_reset(0.0)
    stage.answer(**observed(1, 2, 3))
    assert stage.stepping.finish_reset(5.0)[0][:, 0].tolist() == [1, 2, 3]


def test_a_hosted_vector_environment_gets_seed_and_options_as_they_are(make: Make) -> None:
    stage = make(told=Told(OBSERVATION, ACTION, {}, None, None, is_vector=True))
    options = {"reset_mask": np.array([True, False, True])}
    for seed, sent in ((5, 5), ((1, 2, 3), [1, 2, 3])):
        stage.stepping.begin_reset(seed, options)
        request = stage.answer()
        assert request.indices is None and request.seeds == values.pack(sent)
        assert values.unpack(bytes(request.options))["reset_mask"].tolist() == [True, False, True]
        stage.stepping.finish_reset(5.0)
    for use in (lambda: stage.stepping.reset_some(None, None), lambda: stage.stepping.step_some([0], [0])):
        with pytest.raises(MisuseError, match="hosts a vector environment, which steps as a whole"):
            use()


# Whoever is ready first


def test_whoever_is_ready_first_is_received_first(make: Make) -> None:
    stage = make(1, 2, batch_size=2)
    stage.stepping.step_some([0, 1, 0], None)
    stage.servers[1].answer(**observed(2, 3), **rewarded(2, 3))
    observations, rewards, *_, infos = stage.stepping.receive(5.0)
    assert infos["env_id"].tolist() == [1, 2]
    assert observations[:, 0].tolist() == [2, 3] and rewards.tolist() == [2, 3]
    stage.stepping.step_some([1], [2])
    assert stage.servers[1].answer(**rewarded(30)).indices == [1]
    stage.servers[0].answer(**rewarded(1))
    assert sorted(stage.stepping.receive(5.0)[1].tolist()) == [1, 30]


def test_first_observations_are_received_like_steps(make: Make) -> None:
    stage = make(batch_size=1)
    stage.stepping.reset_some(5, {"reset_mask": np.array([False, True, False])})
    assert stage.answer(**observed(2)).seeds == values.pack([6])
    observations, rewards, terminations, truncations, infos = stage.stepping.receive(5.0)
    assert observations[:, 0].tolist() == [2] and infos["env_id"].tolist() == [1]
    assert (rewards.tolist(), terminations.tolist(), truncations.tolist()) == ([0.0], [False], [False])


def test_who_runs_is_not_started_again(make: Make) -> None:
    stage = make(batch_size=1)
    stage.stepping.step_some([0], [1])
    for use in (
        lambda: stage.stepping.step_some([0], [1]),
        lambda: stage.stepping.reset_some(None, None),
        lambda: stage.begin(),
        lambda: stage.stepping.begin_reset(None, None),
    ):
        with pytest.raises(AlreadyPendingCallError, match="recv"):
            use()
    stage.answer()
    stage.stepping.receive(5.0)
    stage.stepping.step_some([0], [1])


def test_receiving_what_was_never_started(make: Make) -> None:
    stage = make(batch_size=2)
    stage.stepping.step_some([0], [1])
    with pytest.raises(NoAsyncCallError, match="would wait for ever"):
        stage.stepping.receive(0.0)


def test_receiving_in_time_or_later(make: Make) -> None:
    stage = make(batch_size=1)
    stage.stepping.step_some([0], [1])
    with pytest.raises(TimedOut):
        stage.stepping.receive(0.0)
    stage.answer(**rewarded(1))
    assert stage.stepping.receive(5.0)[1].tolist() == [1]


def test_a_failure_leaves_the_others_to_be_received(make: Make) -> None:
    stage = make(batch_size=2)
    stage.stepping.step_some([0, 0, 0], None)
    stage.answer(**rewarded(1, 2, 3), failures=RAISED)
    with pytest.raises(ValueError, match="environment 1 raised"):
        stage.stepping.receive(5.0)
    *_, infos = received = stage.stepping.receive(5.0)
    assert infos["env_id"].tolist() == [0, 2] and received[1].tolist() == [1, 3]


def test_infos_that_do_not_aggregate_are_received_once(make: Make) -> None:
    stage = make(batch_size=2)
    stage.stepping.step_some([0, 0, 0], None)
    block = pack_infos([0, 1], [{"a": np.zeros(2)}, {"a": np.zeros(3)}])
    stage.answer(infos=[values.pack([block, None, None, None])])
    with pytest.raises(ValueError, match="broadcast"):
        stage.stepping.receive(5.0)
    stage.stepping.step_some([0, 0], [0, 1])
    stage.answer()
    assert stage.stepping.receive(5.0)[-1]["env_id"].tolist() == [2, 0]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("where", ["ready.add", "exchange.took", "batches.join"])
def test_an_interrupt_while_it_is_received_loses_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, where: str, when: str
) -> None:
    stage = make(batch_size=3)
    part, name = where.split(".")
    Strikes(monkeypatch, getattr(stage.dialled, part), name, when)
    stage.stepping.step_some([0, 0, 0], None)
    stage.answer(**rewarded(1, 2, 3))
    with pytest.raises(KeyboardInterrupt):
        stage.stepping.receive(5.0)
    assert stage.stepping.receive(5.0)[1].tolist() == [1, 2, 3]
    with pytest.raises(NoAsyncCallError):
        stage.stepping.receive(0.0)


def test_a_whole_step_after_batches_of_some(make: Make) -> None:
    stage = make()
    stage.whole()
    stage.stepping.step_some([0, 0, 0], None)
    assert not stage.turns.clear
    stage.answer()
    stage.stepping.receive(5.0)
    assert not stage.turns.clear
    stage.whole()


# What is shown and told


def test_who_looks_on_sees_every_step(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, shown = make(render_mode="human"), []
    monkeypatch.setattr(stage.remote, "show", lambda: shown.append(stage.turns.pending))
    stage.whole()
    assert len(shown) == 1
    stage.stepping.step_some([0, 0, 0], None)
    stage.answer()
    stage.stepping.receive(5.0)
    assert len(shown) == 2


def test_what_the_reader_has_to_tell_is_warned_of_once(make: Make) -> None:
    stage = make()
    stage.dialled.reader.told = "infos hold something"
    with pytest.warns(UserWarning, match="infos hold something"):
        stage.whole()
    stage.whole()  # warnings are errors
