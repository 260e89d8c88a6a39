"""Who is told of a loss, when, and once; and what waits for a new worker."""

from __future__ import annotations

import asyncio
from typing import Any

from fake_workers import block, worker_of

from remote_gym.failures import Failure, FailureKind
from remote_gym.ipc.commands import CloseGroup
from remote_gym.messages import Call, Render, Reset, Step
from remote_gym.pool import Block, Done, NotBuilt, WorkerLost
from remote_gym.server.losses import Losses, failure_of
from remote_gym.server.portions import portions

LOST = WorkerLost("killed by SIGKILL", 100, 1, {1: "last words"})
STEP = Step(1, None, [])


class Builder:
    """Remembers what is to be built again."""

    def __init__(self) -> None:
        self.can_rebuild = True
        self.built: list[tuple[Block, Any]] = []

    def rebuild(self, block: Block, callback: Any) -> None:
        self.built.append((block, callback))


def asked(losses: Losses, request: Any, *blocks: Block) -> tuple[list[list[int]], list[int]]:
    """Which env indices are to be run, and whose failures are told instead."""
    found = portions(blocks, [block.first for block in blocks], request.indices)
    left, failures = losses.told_instead(request, found)
    assert all(len(portion.indices) == len(portion.positions) for portion in left)
    return [list(portion.indices) for portion in left], [failure.index for failure in failures]


def test_what_nobody_was_told_the_next_step_tells_once() -> None:
    losses, dead, alive = Losses(Builder()), block(0, 2), block(2, 1)
    assert not losses.untold
    losses.worker_died(dead, LOST)
    assert losses.untold
    assert asked(losses, STEP, dead, alive) == ([[2]], [0, 1])
    assert not losses.untold
    assert asked(losses, STEP, dead, alive) == ([[0, 1], [2]], [])


def test_only_those_asked_are_told() -> None:
    losses, dead = Losses(Builder()), block(0, 3)
    losses.worker_died(dead, LOST)
    assert asked(losses, Step(1, [2, 0], []), dead) == ([], [2, 0])
    assert asked(losses, Step(2, [0, 1], []), dead) == ([[0]], [1])


def test_a_call_is_answered_with_the_loss_but_settles_nothing() -> None:
    losses, dead = Losses(Builder()), block(0, 1)
    losses.worker_died(dead, LOST)
    for request in (Call(1, None, "name"), Render(2)):
        assert asked(losses, request, dead) == ([], [0])
    assert asked(losses, STEP, dead) == ([], [0])


def test_a_reset_needs_no_telling() -> None:
    losses, dead = Losses(Builder()), block(0, 2)
    losses.worker_died(dead, LOST)
    assert asked(losses, Reset(1, [0]), dead) == ([[0]], [])
    assert asked(losses, STEP, dead) == ([[0]], [1])


def test_what_was_in_flight_has_told_already() -> None:
    losses, dead = Losses(Builder()), block(0, 2)
    (failure,) = losses.told_now(STEP, dead, [1], LOST)
    assert failure.index == 1
    losses.worker_died(dead, LOST)
    assert asked(losses, STEP, dead) == ([[1]], [0])
    losses.worker_died(dead, LOST)  # again: what was told of the first death says nothing of the second
    assert asked(losses, STEP, dead) == ([], [0, 1])


def test_a_call_in_flight_tells_and_the_next_step_tells_again() -> None:
    losses, dead = Losses(Builder()), block(0, 1)
    assert [failure.index for failure in losses.told_now(Call(1, None, "name"), dead, [0], LOST)] == [0]
    losses.worker_died(dead, LOST)
    assert asked(losses, STEP, dead) == ([], [0])


def test_a_failure_names_the_environment_and_its_own_last_words() -> None:
    failure = failure_of(3, block(2, 4, group=1), LOST)
    assert failure == Failure(
        3, FailureKind.LOST, LOST.reason, "environment 3 (env_id 103) was lost: its worker was killed by SIGKILL",
        "last words",
    )  # fmt: skip
    assert failure_of(3, block(2, 4, group=9), LOST).detail == ""
    assert failure_of(3, block(2, 4), LOST, final=True).kind is FailureKind.GONE


def test_what_is_asked_while_a_worker_is_replaced_waits_and_runs_after_the_rebuild() -> None:
    builder = Builder()
    losses, one = Losses(builder), block(0, 2)
    worker_of(one).lost = LOST
    losses.submit(one, CloseGroup(1), lambda _result: None)
    assert worker_of(one).commands == []
    worker_of(one).lost = None  # the new one
    losses.worker_replaced(one, LOST, True)
    assert [built for built, _ in builder.built] == [one]
    assert worker_of(one).commands == [CloseGroup(1)]


def test_before_rows_are_there_nothing_is_built_again() -> None:
    builder = Builder()
    builder.can_rebuild = False
    losses, one = Losses(builder), block(0, 1)
    losses.worker_replaced(one, LOST, True)
    losses.worker_replaced(one, LOST, False)
    assert builder.built == []
    losses.submit(one, CloseGroup(1), lambda _result: None)
    assert worker_of(one).commands == [CloseGroup(1)]


def told_at_once(losses: Losses, one: Block) -> Any:
    """What a command hears that is submitted for a block that is not built again."""

    async def main() -> Any:
        heard: list[Any] = []
        losses.submit(one, CloseGroup(1), heard.append)
        assert heard == []  # never within the call
        await asyncio.sleep(0)
        (result,) = heard
        return result

    return asyncio.run(main())


def test_beyond_the_budget_what_waits_and_what_comes_is_told_for_good() -> None:
    losses, one = Losses(Builder()), block(0, 1)
    losses.worker_replaced(one, LOST, False)
    assert told_at_once(losses, one) is LOST
    assert worker_of(one).commands == []
    assert losses.loss_of(one) is LOST
    assert [failure.kind for failure in losses.told_now(STEP, one, [0], LOST)] == [FailureKind.GONE]


def test_what_cannot_be_built_again_says_why() -> None:
    builder = Builder()
    losses, one = Losses(builder), block(0, 1, group=1)
    losses.worker_replaced(one, LOST, True)
    ((_, built),) = builder.built
    assert losses.loss_of(one).reason == "not rebuilt"
    built(NotBuilt(Failure(0, FailureKind.RAISED, "builtins.OSError", "no licence", "traceback")))
    lost = told_at_once(losses, one)
    assert lost.reason == "not rebuilt: builtins.OSError: no licence"
    assert lost.tail(1) == "traceback"
    assert losses.loss_of(one) is lost


def test_a_worker_that_dies_of_building_again_is_no_reason_to_give_up() -> None:
    builder = Builder()
    losses, one = Losses(builder), block(0, 1)
    losses.worker_replaced(one, LOST, True)
    builder.built[0][1](WorkerLost("killed by SIGSEGV", 100))
    losses.submit(one, CloseGroup(1), lambda _result: None)
    worker_of(one).answer(Done())
    assert losses.loss_of(one).reason == "not rebuilt"
