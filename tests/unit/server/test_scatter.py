"""Requests go out to every worker concerned, and come back as one answer, or as several early ones; never as none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from fake_workers import block, worker_of
from gymnasium import spaces

from remote_gym.failures import Failure, FailureKind
from remote_gym.leaves import leaves_of
from remote_gym.messages import Call, Indices, Reset, Returned, Step, Transition
from remote_gym.pool import Block, CallGroup, NoGroup, Outcomes, PackedValues, ResetGroup, Rows, StepGroup, WorkerLost
from remote_gym.server.checks import Order
from remote_gym.server.losses import Losses
from remote_gym.server.opening import Layout
from remote_gym.server.portions import CHUNK_SECONDS
from remote_gym.server.scatter import Scatter
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import read_server

LOST = WorkerLost("exit code 3", 100, 1)
ACTIONS = np.arange(5, dtype="<i8")


class Opened:
    """A session of 5 environments in two blocks; observations are pairs of float32, actions numbers."""

    def __init__(self, compressed: tuple[int, ...] = ()) -> None:
        action_space: Any = spaces.Discrete(9)
        observation_leaves = leaves_of(spaces.Box(-1, 1, (2,)))
        self.layout = Layout(action_space, leaves_of(action_space), observation_leaves, compressed)
        memory = bytearray(Rows.size_bytes(self.layout.action_leaves, observation_leaves, 5))
        self.rows = Rows(memory, self.layout.action_leaves, observation_leaves, 5)
        self.blocks = [block(0, 3), block(3, 2)]
        self.can_rebuild = True

    def rebuild(self, block: Block, callback: Any) -> None:
        """Nothing is heard of it here."""


class Stage:
    """A scatter, its workers and what it has answered."""

    def __init__(self, reply_early: bool = False, compressed: tuple[int, ...] = ()) -> None:
        opened: Any = Opened(compressed)
        self.rows = opened.rows
        self.blocks: list[Block] = opened.blocks
        self.workers = [worker_of(one) for one in self.blocks]
        self.losses = Losses(opened)
        self.answers: list[tuple[Indices, Any]] = []
        self.errors: list[Exception] = []
        self.counters = Counters()
        self.scatter = Scatter(opened, self.losses, reply_early, self.counters, self._answered, self.errors.append)

    def _answered(self, _request: Any, indices: Indices, frame: bytes) -> None:
        self.answers.append((None if indices is None else list(indices), read_server(frame)))

    def step(self, indices: list[int] | None = None) -> None:
        actions = ACTIONS if indices is None else ACTIONS[indices]
        self.scatter.run(Step(7, indices, [actions.tobytes()]), Order(StepGroup, None, (b"",)))


def play(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def moved(said: bytes = b"", *failures: Failure) -> Outcomes:
    return Outcomes(said, failures, {})


def test_a_step_of_all_goes_to_every_worker_and_is_answered_with_the_last() -> None:
    async def test() -> None:
        stage = Stage()
        stage.step()
        assert stage.rows.actions[0].tolist() == ACTIONS.tolist()
        assert [worker.commands for worker in stage.workers] == [[StepGroup(1, None, b"")], [StepGroup(4, None, b"")]]
        stage.rows.rewards[:] = range(5)
        stage.workers[1].answer(moved(b"b"))
        assert (stage.answers, stage.scatter.running) == ([], 1)
        stage.workers[0].answer(moved(b"a", Failure(1, FailureKind.RAISED, "T", "m")))
        ((indices, answer),) = stage.answers
        assert indices is None
        assert isinstance(answer, Transition)
        assert answer.number == 7
        assert np.frombuffer(answer.rewards).tolist() == [0, 1, 2, 3, 4]
        assert [bytes(info) for info in answer.infos] == [b"b", b"a"]
        assert [failure.index for failure in answer.failures] == [1]
        assert stage.scatter.running == 0

    play(test)


def test_a_step_of_some_writes_and_answers_their_rows_in_their_order() -> None:
    async def test() -> None:
        stage = Stage()
        stage.step([4, 0])
        assert stage.rows.actions[0].tolist() == [0, 0, 0, 0, 4]
        assert [worker.commands for worker in stage.workers] == [[StepGroup(1, [0], b"")], [StepGroup(4, [4], b"")]]
        stage.rows.rewards[:] = range(5)
        for worker in stage.workers:
            worker.answer(moved())
        ((indices, answer),) = stage.answers
        assert indices == [4, 0]
        assert np.frombuffer(answer.rewards).tolist() == [4, 0]

    play(test)


def test_a_reset_has_no_rewards() -> None:
    async def test() -> None:
        stage = Stage()
        stage.scatter.run(Reset(1), Order(ResetGroup, None, (b"", b"")))
        for worker in stage.workers:
            worker.answer(moved())
        ((_, answer),) = stage.answers
        assert (len(answer.rewards), len(answer.terminations), len(answer.truncations)) == (0, 0, 0)
        assert len(answer.observations[0]) == 5 * 2 * 4

    play(test)


def test_values_come_in_the_order_of_the_request_and_failures_leave_a_gap() -> None:
    async def test() -> None:
        stage = Stage()
        stage.scatter.run(Call(1, [3, 2, 0], "n"), Order(CallGroup, None, ("n", b"")))
        stage.workers[1].answer(PackedValues([b"three"], []))
        stage.workers[0].answer(PackedValues([b"", b"zero"], [Failure(2, FailureKind.INVALID)]))
        ((_, answer),) = stage.answers
        assert isinstance(answer, Returned)
        assert [bytes(value) for value in answer.values] == [b"three", b"", b"zero"]
        assert [failure.index for failure in answer.failures] == [2]

    play(test)


def test_early_answers_come_together_with_all_that_is_ready() -> None:
    async def test() -> None:
        stage = Stage(reply_early=True)
        stage.workers[0].step_seconds = CHUNK_SECONDS
        stage.step()
        assert [len(worker.commands) for worker in stage.workers] == [3, 1]
        stage.workers[0].answer(moved(b"0"))
        stage.workers[1].answer(moved(b"34"))
        assert stage.answers == []
        await asyncio.sleep(0)
        ((indices, answer),) = stage.answers
        assert indices == [0, 3, 4]
        assert [bytes(info) for info in answer.infos] == [b"0", b"34"]
        stage.workers[0].answer(moved(b"1"))
        await asyncio.sleep(0)
        stage.workers[0].answer(moved())
        await asyncio.sleep(0)
        assert [indices for indices, _ in stage.answers] == [[0, 3, 4], [1], [2]]
        assert [bytes(info) for info in stage.answers[1][1].infos] == [b"1"]  # nothing is told twice
        assert stage.scatter.running == 0

    play(test)


def test_the_time_of_a_step_ends_with_its_last_answer() -> None:
    async def test() -> None:
        stage = Stage(reply_early=True)
        counters = stage.counters
        stage.step()
        stage.workers[1].answer(moved())
        await asyncio.sleep(0)
        assert (counters.step_seconds.count, counters.env_steps) == (0, 2)
        stage.workers[0].answer(moved())
        await asyncio.sleep(0)
        assert (counters.step_seconds.count, counters.env_steps) == (1, 5)
        assert 0.0 < counters.step_seconds.total < 10.0

    play(test)


def test_what_is_answered_in_parts_is_counted_once_and_only_steps_are() -> None:
    async def test() -> None:
        stage = Stage(reply_early=True)
        counters = stage.counters
        stage.scatter.run(Reset(1), Order(ResetGroup, None, (b"", b"")))
        for worker in stage.workers:
            worker.answer(moved())
        await asyncio.sleep(0)
        assert (counters.step_seconds.count, counters.env_steps) == (0, 0)
        stage.step([1, 2])
        stage.workers[0].answer(moved())
        await asyncio.sleep(0)
        assert (counters.step_seconds.count, counters.env_steps) == (1, 2)
        stage.losses.worker_died(stage.blocks[1], LOST)
        stage.step([4])  # answered within the call
        assert (counters.step_seconds.count, counters.env_steps) == (2, 3)
        stage.losses.worker_died(stage.blocks[1], LOST)
        stage.step()  # some of it at once, the rest later
        await asyncio.sleep(0)
        assert (counters.step_seconds.count, counters.env_steps) == (2, 5)
        stage.workers[0].answer(moved())
        await asyncio.sleep(0)
        assert (counters.step_seconds.count, counters.env_steps) == (3, 8)

    play(test)


def test_whoever_is_lost_for_good_hears_it_without_a_worker() -> None:
    async def test() -> None:
        stage = Stage()
        stage.losses.worker_replaced(stage.blocks[1], LOST, False)
        stage.step([3])
        assert stage.workers[1].commands == []
        await asyncio.sleep(0)
        ((_, answer),) = stage.answers
        assert [(failure.index, failure.kind) for failure in answer.failures] == [(3, FailureKind.GONE)]

    play(test)


def test_whoever_has_no_worker_at_the_moment_waits_for_it() -> None:
    async def test() -> None:
        stage = Stage()
        stage.workers[1].lost = LOST
        stage.step([3])
        assert stage.workers[1].commands == []
        stage.workers[1].lost = None  # the new one
        stage.losses.worker_replaced(stage.blocks[1], LOST, True)
        assert stage.workers[1].commands == [StepGroup(4, [3], b"")]

    play(test)


def test_a_worker_that_dies_answers_for_its_environments() -> None:
    async def test() -> None:
        stage = Stage()
        stage.step()
        stage.workers[0].answer(moved())
        stage.workers[1].answer(LOST)
        ((_, answer),) = stage.answers
        assert [(failure.index, failure.kind) for failure in answer.failures] == [
            (3, FailureKind.LOST), (4, FailureKind.LOST),
        ]  # fmt: skip
        stage.losses.worker_died(stage.blocks[1], LOST)
        assert not stage.losses.untold

    play(test)


def test_a_group_that_is_not_there_is_lost() -> None:
    async def test() -> None:
        stage = Stage()
        stage.step([3])
        stage.workers[1].answer(NoGroup())
        ((_, answer),) = stage.answers
        assert [failure.type for failure in answer.failures] == ["not rebuilt"]

    play(test)


@pytest.mark.parametrize("early", [False, True])
def test_losses_that_nobody_was_told_come_with_the_others_or_alone(early: bool) -> None:
    async def test() -> None:
        stage = Stage(reply_early=early)
        stage.losses.worker_died(stage.blocks[1], LOST)
        stage.step()
        assert [len(worker.commands) for worker in stage.workers] == [1, 0]
        await asyncio.sleep(0)
        assert [indices for indices, _ in stage.answers] == ([[3, 4]] if early else [])
        stage.workers[0].answer(moved())
        await asyncio.sleep(0)
        assert [indices for indices, _ in stage.answers] == ([[3, 4], [0, 1, 2]] if early else [None])
        told = [failure.index for _, answer in stage.answers for failure in answer.failures]
        assert told == [3, 4]
        stage.losses.worker_died(stage.blocks[1], LOST)
        stage.step([4])  # nobody is left to be asked: answered within the call
        assert stage.answers[-1][0] == [4]
        assert stage.scatter.running == 0

    play(test)


@pytest.mark.parametrize("plain", [False, True])
def test_compressed_rows_stand_for_the_raw_ones_unless_one_worker_found_them_not_worth_it(plain: bool) -> None:
    async def test() -> None:
        stage = Stage(compressed=(0,))
        stage.step()
        stage.workers[0].answer(Outcomes(b"", [], {0: [b"piece"]}))
        stage.workers[1].answer(Outcomes(b"", [], {0: [] if plain else [b"other"]}))
        ((_, answer),) = stage.answers
        assert [bytes(info) for info in answer.infos] == ([] if plain else [b"piece", b"other"])
        assert len(answer.observations[0]) == (5 * 2 * 4 if plain else 0)

    play(test)


@pytest.mark.parametrize("early", [False, True])
def test_after_release_nobody_is_answered_and_what_runs_still_ends(early: bool) -> None:
    async def test() -> None:
        stage = Stage(reply_early=early)
        stage.step()
        stage.workers[0].answer(moved())
        stage.scatter.release()
        stage.scatter.release()
        stage.workers[1].answer(moved())
        await asyncio.sleep(0)
        assert (stage.answers, stage.errors, stage.scatter.running) == ([], [], 0)

    play(test)


def test_a_bug_of_ours_is_reported_and_not_swallowed() -> None:
    async def test() -> None:
        stage = Stage()
        stage.step([0])
        stage.workers[0].answer("no result")
        assert [type(error) for error in stage.errors] == [AttributeError]

    play(test)


@pytest.mark.parametrize("early", [False, True])
def test_what_is_said_apart_is_answered_in_parts_each_stored_for_its_own_environments(
    early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remote_gym.server.scatter.ANSWER_BYTES", 100)

    async def test() -> None:
        stage = Stage(reply_early=early)
        stage.step()
        failed = Failure(4, FailureKind.INVALID, "", "too much")
        stage.workers[0].answer(Outcomes(b"", [], {}, [([1], b"x" * 90), ([0, 2], b"y" * 60)]))
        stage.workers[1].answer(moved(b"z" * 90, failed))
        await asyncio.sleep(0)
        told = [
            (indices, [bytes(info)[:1] for info in answer.infos], [failure.index for failure in answer.failures])
            for indices, answer in stage.answers
        ]
        assert told == [([0, 2], [b"y"], []), ([1], [b"x"], []), ([3, 4], [b"z"], [4])]
        assert not stage.errors

    play(test)
