"""How much the log takes: bursts whole, of what goes on and on a part, and how much was left out is counted."""

from __future__ import annotations

from remote_gym.pool import output_rate
from remote_gym.pool.output_rate import BYTES_PER_LINE, ENVIRONMENT, WORKER_SHARE, Allowance, Allowances, Rate


def printed(allowances: Allowances, env_id: int, lines: int, now: float, size: int = 10) -> int:
    """Print lines; return how many the log takes."""
    allowance = allowances.of((1, f"env {env_id}"), now)
    taken = 0
    for _ in range(lines):
        if allowances.take(allowance, size, now):
            taken += 1
            allowance.forget()
        else:
            allowance.drop(size)
    return taken


def test_a_burst_is_taken_whole_and_what_follows_in_part() -> None:
    allowances = Allowances(0.0)
    assert printed(allowances, 1, 5_000, 0.0) == ENVIRONMENT.at_once
    assert printed(allowances, 1, 5_000, 0.9) == 0, "not one at a time"
    assert printed(allowances, 1, 5_000, 1.0) == ENVIRONMENT.per_second
    assert printed(allowances, 1, 5_000, 1_000.0) == ENVIRONMENT.at_once


def test_others_are_not_concerned_until_it_is_much_for_one_worker() -> None:
    allowances = Allowances(0.0)
    assert printed(allowances, 1, 5_000, 0.0) == ENVIRONMENT.at_once
    assert printed(allowances, 2, 10, 0.0) == 10
    taken = sum(printed(allowances, env_id, 5_000, 0.0) for env_id in range(3, 30))
    assert taken == (WORKER_SHARE - 1) * ENVIRONMENT.at_once - 10


def test_long_lines_are_dear() -> None:
    allowances = Allowances(0.0)
    assert printed(allowances, 1, 5_000, 0.0, size=10 * BYTES_PER_LINE) == ENVIRONMENT.at_once / 10


def test_what_is_dropped_is_counted_and_told_once() -> None:
    allowance = Allowance(Rate(1, 1), 0.0)
    assert allowance.forget() == ""
    assert allowance.regain(0.0)
    allowance.take(1)
    assert not allowance.regain(0.0)
    assert [allowance.drop(600) for _ in range(2)] == [True, False]
    assert allowance.forget() == "2 lines (1,200 bytes) were dropped"
    assert allowance.forget() == ""


def test_made_up_labels_share_what_one_has() -> None:
    allowances = Allowances(0.0)
    for env_id in range(output_rate.MAX_KNOWN):
        allowances.of((1, f"env {env_id}"), 0.0)
    assert allowances.of((1, "env x"), 0.0) is allowances.of((1, "env y"), 0.0)
    allowances.of((1, "env x"), 0.0).drop(5)
    assert allowances.end() == [((0, "others"), "1 lines (5 bytes) were dropped")]


def test_who_leaves_is_forgotten() -> None:
    allowances = Allowances(0.0)
    printed(allowances, 1, 1_010, 0.0)
    allowances.of((2, "env 2"), 0.0)
    assert allowances.leave(1) == [((1, "env 1"), "10 lines (100 bytes) were dropped")]
    assert allowances.leave(1) == allowances.end() == []
