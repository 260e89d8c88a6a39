"""What a worker shows on its board, and what the server reads there."""

from __future__ import annotations

import pytest

from remote_gym.ipc import progress
from remote_gym.ipc.progress import NO_ENV_ID, NO_GROUP, REPORT_OFFSET, SIZE_BYTES, Board


def boards() -> tuple[Board, Board, bytearray]:
    """The worker's and the server's view of one memory."""
    memory = bytearray(SIZE_BYTES)
    return Board(memory), Board(memory), memory


def test_nobody_has_had_its_turn() -> None:
    worker, server, _ = boards()
    server.clear()
    assert server.read() == (0, NO_ENV_ID, "idle")
    assert (server.group, server.step_seconds, worker.current()) == (NO_GROUP, 0.0, None)


def test_the_server_sees_whose_turn_it_is_and_that_it_moves() -> None:
    worker, server, _ = boards()
    worker.turn_of(7)
    worker.begin(progress.STEP, 40)
    assert server.read() == (2, 40, "step")
    assert (server.group, worker.current()) == (7, (7, 40))
    worker.words[progress.ENV_ID] = 41
    assert server.read()[1] == 41
    worker.turn_of(NO_GROUP)
    assert server.read() == (3, 41, "idle")
    assert (server.group, worker.current()) == (NO_GROUP, None)


def test_the_duration_of_a_step_is_told_in_seconds() -> None:
    worker, server, _ = boards()
    worker.words[progress.STEP_NANOSECONDS] = 8_000
    assert server.step_seconds == pytest.approx(8e-6)
    worker.words[progress.STEPS] += 5
    worker.words[progress.STEPS_NANOSECONDS] += 40_000
    assert server.steps == (5, pytest.approx(4e-5))


def test_a_command_that_has_just_begun_is_no_operation_yet() -> None:
    worker, server, _ = boards()
    worker.begin(progress.RESET, 40)
    worker.turn_of(8)
    assert (server.read()[2], server.group, worker.current()) == ("idle", 8, None)


def test_last_words_end_at_the_first_zero() -> None:
    _, server, memory = boards()
    assert server.report() == ""
    memory[REPORT_OFFSET : REPORT_OFFSET + 7] = b"Fatal\xff\n"
    assert server.report() == "Fatal\\xff\n"


def test_a_closed_board_lets_go_of_its_memory() -> None:
    worker, server, memory = boards()
    worker.close()
    server.close()
    memory += b"may be resized"


def test_a_step_counts_where_its_duration_belongs() -> None:
    bounds = progress.STEP_BOUNDS_SECONDS
    assert list(bounds) == sorted(bounds)
    assert len(bounds) == 2 * progress.OCTAVES
    assert progress.HISTOGRAM + len(bounds) <= REPORT_OFFSET // 8
    for nanoseconds in (0, 1, 1_023, 1_024, 1_535, 1_536, 2_047, 2_048, 12_345, 10**6, 10**9, 60 * 10**9, 2**37 - 1):
        place = progress.bucket_of(nanoseconds) - progress.HISTOGRAM
        assert 1e-9 * nanoseconds < bounds[place] * (1 + 1e-9)
        assert place == 0 or bounds[place - 1] <= 1e-9 * nanoseconds * (1 + 1e-9)
    assert progress.bucket_of(2**40) == progress.HISTOGRAM + len(bounds) - 1
    worker, server, _ = boards()
    worker.words[progress.bucket_of(1_600)] += 3
    assert server.step_counts[:3] == [0, 3, 0]


def test_a_round_that_runs_counts_as_far_as_it_has_come() -> None:
    worker, server, _ = boards()
    assert server.busy_seconds(10**9) == 0.0
    worker.words[progress.BUSY_NANOSECONDS] = 2 * 10**9
    worker.words[progress.BUSY_SINCE] = 5 * 10**9
    assert server.busy_seconds(8 * 10**9) == pytest.approx(5.0)
    worker.words[progress.BUSY_SINCE] = 0
    assert server.busy_seconds(9 * 10**9) == pytest.approx(2.0)
