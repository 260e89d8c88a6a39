"""How a session's environments come to be, with fake workers: what is asked of them, and every way it is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from fake_workers import Worker, block, worker_of
from gymnasium import spaces

from remote_gym.failures import Failure, FailureKind
from remote_gym.messages import Open
from remote_gym.pool import (
    AskKind,
    AttachRows,
    Block,
    BuildGroup,
    Built,
    Done,
    EntrypointKind,
    HostingOptions,
    NoRoomError,
    NotBuilt,
    RowsRefused,
    WorkerLost,
)
from remote_gym.server.opening import Opening, check_spaces, unless_refused
from remote_gym.server.refusals import RefusalError
from remote_gym.spaces import describe

LOST = WorkerLost("exit code 3", 0, 1, {1: "last words"})


def built(observation_space: Any = None, action_space: Any = None) -> Built:
    described = describe(observation_space or spaces.Box(0, 1, (2,))), describe(action_space or spaces.Discrete(3))
    return Built(*described, b"", "", b"", None, False, [])


class Pool:
    """Places two blocks, each in a worker of its own that answers by itself as `says` has it."""

    def __init__(self, says: dict[type, Any]) -> None:
        self.says = {AskKind: EntrypointKind(False), BuildGroup: built(), AttachRows: Done(), **says}
        self.hosts_vector: bool | None = None
        self.asked: list[Any] = []
        self.released: list[Block] = []
        self.error: Exception | None = None
        self.workers = [self._worker(), self._worker()]

    def _worker(self) -> Worker:
        worker: Any = Worker()

        def submit(command: Any, callback: Any) -> None:
            self.asked.append(command)
            said = self.says[type(command)]
            callback(said(command) if callable(said) else said)

        worker.submit = submit
        return worker  # type: ignore[no-any-return]

    async def worker_to_ask(self, _tenant: str) -> Worker:
        return self.workers[0]

    async def place(self, num_envs: int, *_arguments: Any, **_more: Any) -> list[Block]:
        if self.error is not None:
            raise self.error
        return [block(0, num_envs - 1, self.workers[0]), block(num_envs - 1, 1, self.workers[1])]

    def release(self, block: Block) -> None:
        self.released.append(block)


class Settings:
    entrypoint = "file.py"
    packed_kwargs = b"owner's"
    vectorization_mode = None


def opened(pool: Any, **fields: Any) -> tuple[Opening, Built]:
    message = Open(1, 1, b"", 3, autoreset_mode="NextStep", **fields)
    settings: Any = Settings()
    opening = Opening(message, b"client's", settings, pool)
    return opening, asyncio.run(opening.open(lambda *_: None, lambda *_: None))


def refused(pool: Any) -> RefusalError:
    with pytest.raises(RefusalError) as caught:
        opened(pool)
    return caught.value


def test_what_is_asked_of_the_workers() -> None:
    pool = Pool({})
    opening, first = opened(pool, render_mode="human", exact_types=True)
    assert first == built()
    assert opening.is_vector is False
    assert pool.hosts_vector is False
    kind, one, other, *rows = pool.asked
    assert kind == AskKind("file.py", None)
    options = HostingOptions("NextStep", True)
    assert one == BuildGroup(
        1, "file.py", b"owner's", b"client's", "rgb_array", [100, 101], 0, options, None, False, None, False
    )
    assert (other.group, other.env_ids, other.first) == (3, [102], 2)
    assert [(command.group, command.num_envs) for command in rows] == [(1, 3), (3, 3)]
    assert [len(worker_of(block).descriptors) for block in opening.blocks] == [1, 1]
    assert opening.rows.rewards.shape == (3,)
    opening.release()
    assert len(pool.released) == 2


def test_a_server_asks_for_the_kind_of_its_entrypoint_once() -> None:
    pool = Pool({AskKind: EntrypointKind(True)})
    for _ in range(2):
        opening, _ = opened(pool)
        assert opening.is_vector
        opening.release()
    assert sum(type(command) is AskKind for command in pool.asked) == 1
    assert all(command.is_vector for command in pool.asked if isinstance(command, BuildGroup))


def test_a_block_is_built_again_as_it_was_but_needs_a_reset_and_no_spare() -> None:
    pool = Pool({})
    opening, _ = opened(pool)
    before = next(command for command in pool.asked if isinstance(command, BuildGroup))
    opening.blocks[0].spare = 9
    pool.asked.clear()
    heard: list[Any] = []
    assert opening.can_rebuild
    opening.rebuild(opening.blocks[0], heard.append)
    build, rows = pool.asked
    assert build == before._replace(rebuilt=True)
    assert isinstance(rows, AttachRows)
    assert heard == [built()]
    opening.release()
    assert not opening.can_rebuild
    opening.release()  # again: nothing


def test_the_probed_environment_becomes_the_first() -> None:
    pool = Pool({})

    async def place(*_: Any, **_more: Any) -> list[Block]:
        one = block(0, 3, pool.workers[0])
        one.spare = 9
        return [one]

    pool.place = place  # type: ignore[method-assign]
    opening, _ = opened(pool)
    assert [command.spare for command in pool.asked if isinstance(command, BuildGroup)] == [9]
    opening.release()


@pytest.mark.parametrize(
    ("error", "limit"),
    [(OSError("no"), "num_workers"), (MemoryError("no"), "num_workers"), (NoRoomError("no"), "max_workers")],
)
def test_no_place(error: Exception, limit: str) -> None:
    pool = Pool({})
    pool.error = error
    assert refused(pool).limit == limit


FAILED = Failure(1, FailureKind.RAISED, "builtins.OSError", "no licence", "traceback")


def test_an_entrypoint_that_cannot_be_imported() -> None:
    error = refused(Pool({AskKind: NotBuilt(FAILED)}))
    assert (error.limit, error.failure) == ("build", FAILED)


def test_the_first_error_by_env_index_is_told_whichever_worker_was_quicker() -> None:
    def fail(command: BuildGroup) -> NotBuilt:
        return NotBuilt(Failure(command.first, FailureKind.RAISED, "T", f"of {command.first}"))

    assert "of 0" in str(refused(Pool({BuildGroup: fail})))


def test_spaces_that_differ_between_workers() -> None:
    def build(command: BuildGroup) -> Built:
        return built(action_space=spaces.Discrete(3 + command.first))

    error = refused(Pool({BuildGroup: build}))
    assert error.limit == "build"
    assert "the action space of environment 2 differs from that of environment 0" in str(error)


def test_spaces_that_are_equal_may_be_described_differently() -> None:
    one, other = built(spaces.Text(3, charset="ab")), built(spaces.Text(3, charset="ab"))
    other.observation_space["text"]["characters"] = "ba"
    check_spaces([0, 1], [one, other], "same")


def test_observation_spaces_that_may_differ_between_workers() -> None:
    one, other = built(spaces.Box(0, 1, (2,))), built(spaces.Box(0, 2, (2,)))
    check_spaces([0, 1], [one, other], "different")
    check_spaces([0, 1], [one, other], "given")
    for mode, narrow, kind in (("same", other, "RuntimeError"), ("different", built(spaces.Box(0, 1)), "ValueError")):
        with pytest.raises(RefusalError, match=r"environment 1|all Box.low shape") as caught:
            check_spaces([0, 1], [one, narrow], mode)
        failure = caught.value.failure
        assert failure is not None and (failure.index, failure.type) == (1, f"builtins.{kind}")


@pytest.mark.parametrize("mode, told", [("same", []), ("different", [1, 1, 2]), ("given", [])])
def test_each_space_is_told_to_who_wants_to_know(mode: str, told: list[int]) -> None:
    described = {high: describe(spaces.Box(0, high, (2,)), False) for high in (1, 2)}

    def build(command: BuildGroup) -> Built:
        assert command.options.observation_mode == mode
        high = 1 if command.first == 0 or mode == "same" else 2
        return built(spaces.Box(0, high, (2,)))._replace(observation_spaces=[described[high]])

    _, told_of = opened(Pool({BuildGroup: build}), observation_mode=mode)
    assert told_of.observation_spaces == [described[high] for high in told]


def test_rows_that_a_worker_refuses() -> None:
    error = refused(Pool({AttachRows: RowsRefused("no memory")}))
    assert (error.limit, str(error)) == ("row_memory", "no memory")


def test_a_worker_that_dies_meanwhile() -> None:
    assert "a worker died while the session was opened: exit code 3" in str(refused(Pool({AttachRows: LOST})))
    error = refused(Pool({BuildGroup: LOST}))
    assert error.failure == Failure(0, FailureKind.LOST, "exit code 3", "", "last words")


def test_what_was_not_even_tried_is_the_client_s_mistake() -> None:
    with pytest.raises(RefusalError, match="bad kwargs") as caught:
        unless_refused(NotBuilt(Failure(0, FailureKind.INVALID, "", "bad kwargs")), 0, 1)
    assert caught.value.limit == "request"


def test_a_misuse_is_told_without_its_type() -> None:
    failure = Failure(2, FailureKind.RAISED, "remote_gym.errors.MisuseError", "no such file")
    with pytest.raises(RefusalError) as caught:
        unless_refused(NotBuilt(failure), 0, 1)
    assert str(caught.value) == "environment 2 could not be built: no such file"


@pytest.mark.parametrize("vector", [False, True])
def test_probing(vector: bool) -> None:
    pool: Any = Pool({AskKind: EntrypointKind(vector)})
    settings: Any = Settings()
    opening = Opening(Open(1, 1, b"", 1), b"", settings, pool)
    assert asyncio.run(opening.probe(block(0, 1, pool.workers[0]))) is not vector
    assert pool.asked[-1].options.mode == ("" if vector else "None")


@pytest.mark.parametrize("vector", [False, True])
def test_how_many_are_probed(vector: bool) -> None:
    pool: Any = Pool({AskKind: EntrypointKind(vector)})
    settings: Any = Settings()
    opening = Opening(Open(1, 1, b"", 6), b"", settings, pool)
    assert asyncio.run(opening.envs_to_probe()) == (6 if vector else 1)


@pytest.mark.parametrize("vector", [False, True])
def test_a_vector_environment_that_cannot_be_probed_may_want_another_number(vector: bool) -> None:
    failure = Failure(0, FailureKind.RAISED, "builtins.AssertionError", "a multiple of three")
    pool: Any = Pool({AskKind: EntrypointKind(vector), BuildGroup: NotBuilt(failure)})
    settings: Any = Settings()
    opening = Opening(Open(1, 1, b"", 1), b"", settings, pool)
    with pytest.raises(RefusalError, match="a multiple of three") as caught:
        asyncio.run(opening.probe(block(0, 1, pool.workers[0])))
    assert (
        "it was asked for 1: where it takes only some numbers, name one by probe_envs=" in str(caught.value)
    ) is vector
    assert caught.value.failure == failure
