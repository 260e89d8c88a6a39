"""What a worker prints: every line in the log, and kept only for whose it certainly is."""

from __future__ import annotations

import logging

import pytest

from remote_gym.ipc.progress import NO_ENV_ID, NO_GROUP
from remote_gym.pool import output
from remote_gym.pool.output import MAX_LINE_BYTES, TAIL_CHARACTERS, TAIL_LINES, WorkerOutput
from remote_gym.worker.output import LABEL


class Turn:
    """Whose turn it is."""

    env_id: int = NO_ENV_ID
    hanging: int | None = None

    def __call__(self) -> tuple[int, int | None]:
        return self.env_id, self.hanging


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "remote_gym.worker")
    monkeypatch.setattr(logging.getLogger("remote_gym.worker"), "filters", [])  # those of other tests' servers
    return caplog


def line(env_id: int, group: int, text: str) -> bytes:
    return f"{LABEL % (env_id, group)}{text}\n".encode()


def test_lines_are_logged_whole_however_they_come(logged: pytest.LogCaptureFixture) -> None:
    printed = WorkerOutput("worker 0", Turn())
    for data in (b"fir", b"st\nsecond\nunfin", b"ished"):
        printed.feed(data)
    printed.end()
    printed.end()
    assert logged.messages == ["worker 0, worker: first", "worker 0, worker: second", "worker 0, worker: unfinished"]


def test_a_line_without_end_is_cut(logged: pytest.LogCaptureFixture) -> None:
    printed = WorkerOutput("worker 0", Turn())
    printed.feed(b"x" * (MAX_LINE_BYTES + 1))
    assert len(logged.messages) == 1
    printed.end()
    assert len(logged.messages) == 1


def test_a_labelled_line_is_its_groups_and_nobody_elses(logged: pytest.LogCaptureFixture) -> None:
    printed = WorkerOutput("worker 0", Turn())
    printed.enter(1)
    printed.enter(2)
    printed.feed(line(7, 1, "hello") + line(8, 2, "other") + line(9, 3, "of who has left"))
    assert printed.tails() == {1: "hello", 2: "other"}
    assert logged.messages[0] == "worker 0, env 7: hello"


def test_an_unlabelled_line_is_kept_only_for_who_lives_there_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(output.time, "monotonic", lambda: now)
    printed = WorkerOutput("worker 0", Turn())
    printed.enter(1)
    printed.feed(b"alone\n")
    printed.enter(2)
    printed.feed(b"of either\n")
    printed.leave(2)
    printed.feed(b"may still be of who has left\n")
    now += output.MINGLING_SECONDS + 0.1
    printed.feed(b"alone again\n")
    assert printed.tails() == {1: "alone\nalone again"}


@pytest.mark.parametrize(("hanging", "tails"), [(2, {2: "stack"}), (NO_GROUP, {})])
def test_what_a_hung_worker_writes_is_the_stack_of_whose_command_hangs(hanging: int, tails: dict[int, str]) -> None:
    turn = Turn()
    printed = WorkerOutput("worker 0", turn)
    printed.enter(1)
    if hanging:
        printed.enter(2)
    turn.hanging = hanging
    printed.feed(b"stack\n")
    assert printed.tails() == tails


def test_an_unlabelled_line_names_whose_turn_it_was_in_the_log(logged: pytest.LogCaptureFixture) -> None:
    turn = Turn()
    turn.env_id = 5
    WorkerOutput("worker 0", turn).feed(b"by C code\n")
    assert logged.messages == ["worker 0, env 5: by C code"]


def test_what_is_kept_is_not_endless_and_forgotten_with_its_group() -> None:
    printed = WorkerOutput("worker 0", Turn())
    printed.enter(1)
    for number in range(2 * TAIL_LINES):
        printed.feed(line(7, 1, f"{number} {'x' * TAIL_CHARACTERS}"))
    (tail,) = printed.tails().values()
    assert tail.count("\n") == TAIL_LINES - 1
    assert all(len(one) <= TAIL_CHARACTERS for one in tail.split("\n"))
    printed.leave(1)
    assert printed.tails() == {}


def test_nothing_that_is_printed_forges_a_line_of_the_log(logged: pytest.LogCaptureFixture) -> None:
    WorkerOutput("worker 0", Turn()).feed(b"\x1b[2J\rroot: all is well \xff\n")
    (message,) = logged.messages
    assert "\x1b" not in message and "\r" not in message


def test_of_what_is_printed_without_end_the_log_has_a_part_and_a_count(
    logged: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(output.time, "monotonic", lambda: now)
    printed = WorkerOutput("worker 0", Turn())
    printed.enter(1)
    printed.enter(2)
    assert printed.feed(b"".join(line(7, 1, f"again {number}") for number in range(5_000))), "a flood"
    assert not printed.feed(line(8, 2, "of another"))
    assert len(logged.messages) == 1_002
    assert logged.messages[-2:] == [
        "worker 0, env 7: prints more than the log takes: what follows is dropped",
        "worker 0, env 8: of another",
    ]
    assert printed.tails()[1].splitlines()[-1] == "again 4999", "its own error tells the last lines"
    now += 5.0
    printed.feed(line(7, 1, "less"))
    assert logged.messages[-2:] == [
        "worker 0, env 7: 4,000 lines (40,000 bytes) were dropped here",
        "worker 0, env 7: less",
    ]
    printed.feed(b"".join(line(7, 1, "x") for number in range(300)))
    printed.leave(1)
    assert logged.messages[-1] == "worker 0, env 7: 51 lines (51 bytes) were dropped"


def test_made_up_labels_are_no_way_around_it(logged: pytest.LogCaptureFixture) -> None:
    printed = WorkerOutput("worker 0", Turn())
    printed.enter(1)
    printed.feed(b"".join(line(number, number, "x") for number in range(30_000)))
    printed.end()
    assert len(logged.messages) < 14_000
    assert "others" in logged.messages[-1]
