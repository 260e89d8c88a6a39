"""Placement: no row twice, none lost, in proportion; over many joins, losses and drains."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remote_gym import ConnectError
from remote_gym.client.placement import (
    MAX_SPEED,
    USUAL,
    Place,
    Run,
    at_speed,
    in_proportion,
    place,
    places_at_speed,
    shares_of,
)


def rows_of(runs: list[Run]) -> list[int]:
    return [row for run in runs for row in run.rows]


PLACES = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 50), st.one_of(st.none(), st.integers(0, 40))), max_size=8
).map(lambda each: [Place(f"server-{at}", *one) for at, one in enumerate(each)])


@settings(max_examples=300)
@given(st.sets(st.integers(0, 300), max_size=60).map(sorted), PLACES)
def test_every_row_once_and_nobody_more_than_he_takes(rows: list[int], places: list[Place]) -> None:
    runs = place(rows, places)
    placed = rows_of(runs)
    assert placed == rows[: len(placed)] and all(len(run.rows) for run in runs)
    shares = shares_of(len(rows), places)
    for one in places:
        share = sum(len(run.rows) for run in runs if run.name == one.name)
        assert share == shares[one.name] and (one.room is None or share <= one.room) and (one.weight or not share)
    if len(placed) < len(rows):  # only where nobody has room
        assert all(not one.weight or shares[one.name] == one.room for one in places)
    assert runs == place(rows, places), "the same question has the same answer"


@settings(max_examples=300)
@given(st.integers(0, 200), PLACES)
def test_whoever_gets_one_was_the_emptiest(total: int, places: list[Place]) -> None:
    shares = shares_of(total, places)
    for one in places:
        for other in places:
            free = other.weight and (other.room is None or shares[other.name] < other.room)
            if shares[one.name] and free:  # the last that `one` got was not worse placed there than at `other`
                ours = (one.held + shares[one.name]) / one.weight
                assert ours <= (other.held + shares[other.name] + 1) / other.weight + 1e-9


@pytest.mark.parametrize(
    ("rows", "places", "runs"),
    [
        (range(4, 8), [Place("a", 1, 4), Place("b", 1, 0)], [("b", range(4, 8))]),
        (range(4, 8), [Place("a", 1, 2), Place("b", 1, 2)], [("a", range(4, 6)), ("b", range(6, 8))]),
        ([0, 1, 5, 6], [Place("a", 1), Place("b", 1)], [("a", range(2)), ("b", range(5, 7))]),
        ([0, 1, 5], [Place("a", 2)], [("a", range(2)), ("a", range(5, 6))]),
        (range(6), [Place("a", 1), Place("b", 2)], [("a", range(2)), ("b", range(2, 6))]),
        (range(6), [Place("a", 1, 0, 1), Place("b", 1, 9, 2)], [("a", range(1)), ("b", range(1, 3))]),
        (range(3), [Place("a", 0)], []),
        (range(3), [], []),
        ([], [Place("a", 1)], []),
    ],
)
def test_runs(rows: list[int], places: list[Place], runs: list[tuple[str, range]]) -> None:
    assert [tuple(run) for run in place(list(rows), places)] == runs


def test_a_fleet_that_changes_a_hundred_thousand_times() -> None:
    chance = random.Random(7)
    num_envs = 48
    workers: dict[str, int] = {"server-0": 4}  # who is there
    at: dict[int, str] = dict.fromkeys(range(num_envs), "server-0")
    draining: set[str] = set()
    joined = 1
    for _ in range(100_000):
        what = chance.choice(("join", "lose", "drain"))
        if what == "join" and len(workers) < 8:
            workers[f"server-{joined}"] = chance.randint(1, 8)
            joined += 1
        elif what == "lose" and len(workers) > 1:
            lost = chance.choice(list(workers))
            del workers[lost]
            draining.discard(lost)
        elif what == "drain" and len(workers) - len(draining) > 1:
            draining.add(chance.choice(list(workers)))
        homeless = [row for row in range(num_envs) if at.get(row) not in workers or at[row] in draining]
        if not homeless:
            continue
        takers = [one for one in workers if one not in draining]
        before = {one: sum(at[row] == one for row in range(num_envs)) for one in takers}
        if not takers:
            continue
        runs = place(homeless, [Place(one, workers[one], before[one]) for one in takers])
        assert rows_of(runs) == homeless, "no row twice, none lost"
        for run in runs:
            at.update(dict.fromkeys(run.rows, run.name))
        if chance.random() < 0.01:
            after = {one: sum(at[row] == one for row in range(num_envs)) for one in takers}
            for one in takers:
                for other in takers:
                    if after[one] > before[one]:
                        assert after[one] / workers[one] <= (after[other] + 1) / workers[other] + 1e-9
    assert set(at) == set(range(num_envs))


def test_in_proportion_needs_workers() -> None:
    assert in_proportion(7, [1, 2, 1]) == [2, 3, 2] and in_proportion(0, [1]) == [0]
    with pytest.raises(ConnectError, match="none of them has workers"):
        in_proportion(3, [0, 0])


# Speed

FASTEST = int(MAX_SPEED * MAX_SPEED)
"""How many times as much as another one a worker may count."""


@pytest.mark.parametrize(
    ("workers", "seconds", "weights"),
    [
        ([1, 1, 1], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]),
        ([2, 1, 0], [0.010, 0.012, 0.001], [2.0, 1.0, 0.0]),  # noise
        ([1, 1, 1], [0.010, 0.010, 0.020], [1.0, 1.0, 0.5]),
        ([1, 1, 1], [0.010, 0.010, 9.0], [1.0, 1.0, 0.5]),  # slow once, it is not to go empty
        ([4, 1, 1], [0.010, 0.010, 0.0001], [4.0, 1.0, 2.0]),
        ([1, 1, 1], [0.010, 0.020, 0.0], [1.5, 0.75, 1.0]),  # of which nothing is known, it is as usual
        ([1, 1], [0.010, 0.020], [1.5, 0.75]),
        ([3], [0.5], [3.0]),
        ([], [], []),
    ],
)
def test_what_a_worker_counts(workers: list[int], seconds: list[float], weights: list[float]) -> None:
    assert [weight / USUAL for weight in at_speed(workers, seconds)] == pytest.approx(weights, abs=0.01)


SERVERS = st.lists(
    st.tuples(st.integers(0, 8), st.one_of(st.just(0.0), st.floats(1e-6, 100.0)), st.integers(0, 20)), max_size=8
)


@settings(max_examples=300)
@given(st.integers(0, 200), SERVERS)
def test_quick_servers_get_more_and_slow_ones_are_not_starved(
    total: int, servers: list[tuple[int, float, int]]
) -> None:
    names = [f"server-{at}" for at in range(len(servers))]
    places = places_at_speed(
        [Place(name, workers, held) for name, (workers, _, held) in zip(names, servers, strict=True)],
        {name: seconds for name, (_, seconds, _) in zip(names, servers, strict=True) if seconds},
    )
    assert [one.name for one in places] == names, "nobody is left out, and nobody comes twice"
    for place_at, (workers, _, held) in zip(places, servers, strict=True):
        assert (place_at.weight > 0) is (workers > 0) and place_at.held == held
        assert workers * USUAL / MAX_SPEED <= place_at.weight <= workers * USUAL * MAX_SPEED
    rows = list(range(total))
    assert rows_of(place(rows, places)) == (rows if any(workers for workers, _, _ in servers) else [])
    for one, (workers, seconds, _) in zip(places, servers, strict=True):
        for other, (others, slower, _) in zip(places, servers, strict=True):
            if workers and others and 0 < seconds <= slower:  # quicker, it counts at least as much, within bounds
                assert others * FASTEST * one.weight >= workers * other.weight >= 0
                assert one.weight * others >= other.weight * workers


@given(st.integers(1, 300), st.lists(st.tuples(st.integers(1, 8), st.floats(1e-4, 1.0)), min_size=1, max_size=8))
def test_shares_of_a_fleet_are_in_proportion_to_its_speed(total: int, servers: list[tuple[int, float]]) -> None:
    weights = at_speed([workers for workers, _ in servers], [seconds for _, seconds in servers])
    shares = in_proportion(total, weights)
    assert sum(shares) == total
    for weight, share in zip(weights, shares, strict=True):
        assert abs(share - total * weight / sum(weights)) < 1
