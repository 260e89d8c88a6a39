"""The commands of a worker, in this process: what each is answered with, whatever goes wrong."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from remote_gym import values
from remote_gym.failures import FailureKind
from remote_gym.ipc.commands import (
    AskKind,
    AttachRows,
    BuildGroup,
    Building,
    BuildMore,
    Built,
    CallGroup,
    CloseGroup,
    Done,
    EntrypointKind,
    HostingOptions,
    NoGroup,
    NotBuilt,
    Outcomes,
    PackedValues,
    RenderGroup,
    ResetGroup,
    RowsRefused,
    SetGroup,
    StepGroup,
)
from remote_gym.ipc.memory import SharedBlock
from remote_gym.ipc.progress import NO_GROUP, SIZE_BYTES, Board
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import leaves_of
from remote_gym.worker import main
from remote_gym.worker.main import Worker

SOURCE = """
import time
from toys import FunctionEnv

def step(env, action):
    if action == 1:
        raise ValueError("as asked")
    if action == 2:
        time.sleep(0.005)
    return env.observation_space.sample(), 1.0, False, False, {}

def create_environment(broken=False):
    if broken:
        raise OSError("no licence")
    env = FunctionEnv(step)
    env.level = 1
    return env
"""
ARGUMENTS = values.pack([[], {}], "arguments")


class Stage:
    """A worker, the server's ends of its sockets, and what it answered, round by round."""

    def __init__(self, entrypoint: str) -> None:
        self.entrypoint = entrypoint
        self.descriptors, theirs = socket.socketpair()
        self.theirs = theirs
        self.board = Board(bytearray(SIZE_BYTES))
        self.worker = Worker(theirs, self.board)
        self.answers: list[list[Any]] = []

    def ask(self, *commands: Any) -> list[Any]:
        """Run one round; return all its results."""
        self.answers = []
        self.worker.run(list(commands), lambda results: self.answers.append(list(results)))
        return [result for results in self.answers for result in results]

    def build(self, group: int = 1, kwargs: bytes = b"", **changes: Any) -> Any:
        """Build, however many slices it takes."""
        result = self.begin(group, kwargs, **changes)
        while isinstance(result, Building):
            (result,) = self.ask(BuildMore(group))
        return result

    def begin(self, group: int = 1, kwargs: bytes = b"", **changes: Any) -> Any:
        options = HostingOptions("None")
        command = BuildGroup(group, self.entrypoint, b"", kwargs, None, [0, 1], 0, options, None, False, None, False)
        (result,) = self.ask(command._replace(**changes))
        return result

    def attach(self, built: Built, group: int = 1) -> Rows:
        from remote_gym.spaces import build

        observations, actions = leaves_of(build(built.observation_space)), leaves_of(build(built.action_space))
        with SharedBlock.create(Rows.size_bytes(actions, observations, 2)) as block:
            socket.send_fds(self.descriptors, [b"\0"], [block.descriptor])
            assert self.ask(AttachRows(group, 2, block.size)) == [Done()]
            return Rows(block.buffer, actions, observations, 2)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    path = tmp_path / "hosted_by_test_main.py"
    path.write_text(SOURCE)
    stage = Stage(str(path))
    yield stage
    stage.worker.close()
    stage.descriptors.close()
    stage.theirs.close()


def test_the_life_of_a_group(stage: Stage) -> None:
    built = stage.build()
    assert isinstance(built, Built)
    rows = stage.attach(built)
    assert stage.ask(ResetGroup(1, None, values.pack([1, 2], "seeds"), b"")) == [Outcomes(b"", [], {})]
    rows.actions[0][:] = 0
    assert stage.ask(StepGroup(1, [1], b"")) == [Outcomes(b"", [], {})]
    assert rows.rewards.tolist() == [0.0, 1.0]
    assert stage.board.read()[2] == "idle"
    assert stage.board.step_seconds > 0
    (called,) = stage.ask(CallGroup(1, None, "level", b""))
    assert [values.unpack(value) for value in called.values] == [{"value": 1}, {"value": 1}]
    assert stage.ask(SetGroup(1, [1], values.pack([5], "values"), "level"))[0].failures == []
    (called,) = stage.ask(CallGroup(1, None, "level", ARGUMENTS))
    assert [values.unpack(value) for value in called.values] == [1, 5]
    assert type(stage.ask(RenderGroup(1, None))[0]) is PackedValues
    assert stage.ask(CloseGroup(1), CloseGroup(1)) == [Done(), Done()]


SLOW = """
import time
from pathlib import Path

from toys import FunctionEnv

def note(what, env_id):
    with open(Path(__file__).with_name(what), "a") as file:
        print(env_id, file=file)

def create_environment(env_id, broken=-1):
    time.sleep(0.02)
    if env_id == broken:
        raise OSError("no licence")
    note("built", env_id)
    env = FunctionEnv(lambda env, action: (env.observation_space.low, 0.0, False, False, {}))
    env.close = lambda: note("closed", env_id)
    return env
"""


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Stage]:
    """A worker whose environments each take longer than a slice."""
    path = tmp_path / "slowly_built_by_test_main.py"
    path.write_text(SLOW)
    stage = Stage(str(path))
    yield stage
    stage.worker.close()
    stage.descriptors.close()
    stage.theirs.close()


def noted(slow: Stage, what: str) -> list[int]:
    """The env_ids that were "built", or "closed"."""
    return [int(line) for line in Path(slow.entrypoint).with_name(what).read_text().split()]


def test_many_environments_are_built_in_slices_and_others_step_in_between(slow: Stage) -> None:
    one = slow.build(7, env_ids=[70])
    slow.attach(one, 7)
    assert slow.begin(1, env_ids=[0, 1, 2]) == Building(1)
    for expected in (Building(2), Built):
        slow.ask(ResetGroup(7, None, b"", b""))
        result, more = slow.ask(StepGroup(7, None, b""), BuildMore(1))
        assert len(slow.answers) == 2  # the step is answered before the slice begins
        assert result.failures == []
        assert more == expected or type(more) is expected
    assert slow.ask(BuildMore(1)) == [NoGroup()]
    assert noted(slow, "built") == [70, 0, 1, 2]
    assert slow.begin(2, env_ids=[3, 4, 5]) == Building(1)
    assert slow.ask(StepGroup(2, None, b""), ResetGroup(2, None, b"", b"")) == [NoGroup(), NoGroup()]
    assert slow.ask(CloseGroup(2), BuildMore(2)) == [Done(), NoGroup()]
    assert noted(slow, "closed") == [3]


def test_what_takes_the_place_of_lost_environments_is_built_at_once(slow: Stage) -> None:
    assert isinstance(slow.begin(1, env_ids=[0, 1, 2], rebuilt=True), Built)


def test_an_environment_that_fails_in_a_later_slice_closes_those_before(slow: Stage) -> None:
    kwargs = values.pack({"broken": 2}, "kwargs")
    assert slow.begin(1, kwargs, env_ids=[0, 1, 2, 3], first=5) == Building(1)
    assert slow.ask(BuildMore(1)) == [Building(2)]
    (refused,) = slow.ask(BuildMore(1))
    assert (refused.failure.index, refused.failure.message) == (7, "no licence")
    assert noted(slow, "closed") == [0, 1]
    assert slow.ask(BuildMore(1)) == [NoGroup()]


@pytest.mark.parametrize(
    "command",
    [ResetGroup(9, None, b"", b""), StepGroup(9, [0], b""), CallGroup(9, None, "x", b""),
     SetGroup(9, None, b"", "x"), RenderGroup(9, None)],
)  # fmt: skip
def test_a_group_that_is_not_there(stage: Stage, command: Any) -> None:
    assert stage.ask(command) == [NoGroup()]


def test_what_the_entrypoint_makes(stage: Stage) -> None:
    assert stage.ask(AskKind(stage.entrypoint, None)) == [EntrypointKind(False)]
    (result,) = stage.ask(AskKind("no_such_module:x", None))
    assert isinstance(result, NotBuilt)
    assert "no_such_module" in result.failure.message


def test_what_cannot_be_built_says_why_and_leaves_no_group(stage: Stage) -> None:
    result = stage.build(kwargs=values.pack({"broken": True}, "kwargs"))
    assert isinstance(result, NotBuilt)
    assert (result.failure.type, result.failure.message) == ("builtins.OSError", "no licence")
    assert stage.ask(StepGroup(1, None, b"")) == [NoGroup()]


def test_kwargs_that_are_no_values_are_the_client_s_fault(stage: Stage) -> None:
    result = stage.build(kwargs=b"\xc1", first=4)
    assert isinstance(result, NotBuilt)
    assert (result.failure.kind, result.failure.index) == (FailureKind.INVALID, 4)


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (ResetGroup(1, [1], b"\xc1", b""), Outcomes),
        (StepGroup(1, [1], b"\xc1"), Outcomes),
        (CallGroup(1, [1], "x", b"\xc1"), PackedValues),
        (SetGroup(1, [1], b"\xc1", "x"), PackedValues),
    ],
)
def test_what_is_no_value_fails_for_those_asked_only(stage: Stage, command: Any, kind: type) -> None:
    stage.attach(stage.build())
    (result,) = stage.ask(command)
    assert type(result) is kind
    assert [(failure.index, failure.kind) for failure in result.failures] == [(1, FailureKind.INVALID)]


def test_an_environment_that_raises_leaves_the_others_alone(stage: Stage) -> None:
    rows = stage.attach(stage.build())
    stage.ask(ResetGroup(1, None, b"", b""))
    rows.actions[0][:] = [1, 0]
    (result,) = stage.ask(StepGroup(1, None, b""))
    assert [(failure.index, failure.message) for failure in result.failures] == [(0, "as asked")]
    assert rows.rewards.tolist() == [0.0, 1.0]


def test_the_duration_of_a_step_is_a_moving_average(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.attach(stage.build())
    for nanoseconds, average in ((8_000, 8e-6), (16_000, 9e-6)):  # of one of two environments
        times = iter([0, 0, 2 * nanoseconds, 2 * nanoseconds])  # of the round, and of the step in it
        monkeypatch.setattr(time, "perf_counter_ns", lambda times=times: next(times))
        stage.ask(StepGroup(1, None, b""))
        assert stage.board.step_seconds == pytest.approx(average)


def test_the_board_shows_whose_command_runs_and_nobodys_between_rounds(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.attach(stage.build(group=3), group=3)
    hosted, seen = stage.worker._groups[3], []

    def step(action: Any) -> Any:
        seen.append((stage.board.group, *stage.board.read()[1:]))
        return np.zeros(0), 0.0, False, False, {}

    for env in hosted.envs:
        monkeypatch.setattr(env, "step", step)
    before = stage.board.read()[0]
    stage.ask(StepGroup(3, None, b""), StepGroup(3, [1], b""))
    assert seen == [(3, 0, "step"), (3, 1, "step"), (3, 1, "step")]
    assert (stage.board.group, *stage.board.read()) == (NO_GROUP, before + 3, 1, "idle")


def test_rows_that_cannot_be_mapped(stage: Stage) -> None:
    with SharedBlock.create(100) as block:
        socket.send_fds(stage.descriptors, [b"\0"], [block.descriptor])
        (result,) = stage.ask(AttachRows(1, 2, 2**60))
    assert isinstance(result, RowsRefused)


def test_a_server_that_has_gone_sends_no_rows(stage: Stage) -> None:
    stage.descriptors.shutdown(socket.SHUT_RDWR)
    (result,) = stage.ask(AttachRows(1, 2, 4_096))
    assert isinstance(result, RowsRefused)
    assert "the server has gone" in result.reason


def test_what_took_long_is_answered_before_the_rest_is_run(stage: Stage) -> None:
    rows = stage.attach(stage.build())
    stage.ask(ResetGroup(1, None, b"", b""))
    rows.actions[0][:] = 2
    began = time.monotonic()
    stage.ask(StepGroup(1, None, b""), CloseGroup(8), CloseGroup(9))
    assert time.monotonic() - began >= 0.01
    assert [len(results) for results in stage.answers] == [1, 2]


def test_a_result_that_cannot_be_encoded_fails_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.build()
    bad: Any = object()
    monkeypatch.setattr(stage.worker._groups[1], "render", lambda _indices: PackedValues([bad], []))
    sent: list[Any] = []

    def answer(results: list[Any]) -> None:
        from remote_gym.ipc.link import encode

        encode(results)
        sent.extend(results)

    stage.worker.run([CloseGroup(9), RenderGroup(1, [0])], answer)
    done, failed = sent
    assert done == Done()
    assert (failed.values, len(failed.failures)) == ([b""], 1)


def test_a_spare_becomes_the_first_of_its_group(stage: Stage) -> None:
    stage.build(group=1, env_ids=[7])
    spare = stage.worker._groups[1].envs[0].env
    assert isinstance(stage.build(group=2, env_ids=[7, 8], spare=1), Built)
    assert stage.worker._groups[2].envs[0].env is spare
    assert 1 not in stage.worker._groups


def test_what_is_rebuilt_needs_a_reset(stage: Stage) -> None:
    rows = stage.attach(stage.build(rebuilt=True))
    rows.actions[0][:] = 0
    (result,) = stage.ask(StepGroup(1, None, b""))
    assert {failure.kind for failure in result.failures} == {FailureKind.NEEDS_RESET}
    assert np.isfinite(rows.rewards).all()


def test_plain_ints_are_unpacked_once_and_few_are_remembered(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, unpacked = stage.worker, []

    def unpack(packed: bytes, where: str) -> Any:
        unpacked.append(packed)
        return values.unpack(packed, where)

    monkeypatch.setattr(worker, "_unpack", unpack)
    for packed in map(values.pack, ([1], [True], [1, 1], [[1]], [1 << 99])):
        for _ in range(2):
            assert worker._given(packed) == values.unpack(packed)
    assert len(unpacked) == 1 + 2 + 2 + 2 + 2
    for number in range(2 * main.MAX_INTS):
        worker._given(values.pack([number]))
    assert len(worker._ints) == main.MAX_INTS
