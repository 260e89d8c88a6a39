"""Placement: no row twice, none lost, in proportion; over many joins, losses, drains and rebalances."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Mapping

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
    balance,
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


class Changing:
    """A fleet of which servers join, are lost and drain, and rows move; at every turn what must hold is checked."""

    def __init__(self, num_envs: int, chance: random.Random) -> None:
        self.chance, self.num_envs, self.joined = chance, num_envs, 1
        self.workers: dict[str, int] = {"server-0": 4}  # who is there
        self.at: dict[int, str] = dict.fromkeys(range(num_envs), "server-0")
        self.draining: set[str] = set()
        self.moved = {"place": 0, "balance": 0}

    def takers(self) -> list[Place]:
        held = Counter(self.at.values())
        return [Place(one, self.workers[one], held[one]) for one in self.workers if one not in self.draining]

    def join(self) -> None:
        if len(self.workers) < 8:
            self.workers[f"server-{self.joined}"] = self.chance.randint(1, 8)
            self.joined += 1

    def lose(self) -> None:
        if len(self.workers) > 1:
            lost = self.chance.choice(list(self.workers))
            del self.workers[lost]
            self.draining.discard(lost)
            self.place()

    def drain(self) -> None:
        if len(self.workers) - len(self.draining) > 1:
            self.draining.add(self.chance.choice(list(self.workers)))
            self.place()

    def place(self) -> None:
        """Place what has no server, or one that is going away."""
        takers = self.takers()
        homeless = [
            row for row in range(self.num_envs) if self.at[row] not in self.workers or self.at[row] in self.draining
        ]
        if not takers or not homeless:
            return
        runs = place(homeless, takers)
        assert rows_of(runs) == homeless, "no row twice, none lost"
        self.move(runs, "place")
        if self.chance.random() < 0.01:
            after = Counter(self.at.values())
            for one in takers:
                for other in takers:
                    if after[one.name] > one.held:
                        assert after[one.name] / one.weight <= (after[other.name] + 1) / other.weight + 1e-9

    def balance(self) -> None:
        takers = self.takers()
        if not takers:
            return
        before = Counter(self.at.values())
        runs = balance(self.at, takers)
        rows = rows_of(runs)
        assert len(rows) == len(set(rows)), "no row twice"
        assert all(self.at[row] != run.name for run in runs for row in run.rows)
        self.move(runs, "balance")
        after, whole = Counter(self.at.values()), sum(one.weight for one in takers)
        assert sum(after.values()) == self.num_envs and after.keys() <= {one.name for one in takers}, "none lost"
        for one in takers:
            exact = self.num_envs * one.weight / whole
            assert exact - 1 < after[one.name] < exact + 1, "proportional"
        assert len(rows) == fewest(self.num_envs, takers, before), "the fewest that can be"
        assert not balance(self.at, takers), "who is balanced stays"

    def move(self, runs: list[Run], why: str) -> None:
        for run in runs:
            self.at.update(dict.fromkeys(run.rows, run.name))
            self.moved[why] += len(run.rows)


def fewest(total: int, places: list[Place], held: Mapping[str, int]) -> int:
    """Return how many have to move for each share to be the exact one rounded down or up: by trying which go up."""
    whole = sum(one.weight for one in places)
    down = {one.name: total * one.weight // whole for one in places}
    uneven = [one.name for one in places if total * one.weight % whole]
    many = total - sum(down.values())
    kept = sum(min(held[name], share) for name, share in down.items())
    # Going up keeps one more where there are more than the share rounded down, and none elsewhere.
    return total - kept - min(many, sum(held[name] > down[name] for name in uneven))


def test_a_fleet_that_changes_a_hundred_thousand_times() -> None:
    fleet = Changing(48, random.Random(7))
    changes = (fleet.join, fleet.lose, fleet.drain, fleet.balance)
    for _ in range(100_000):
        fleet.chance.choice(changes)()
    assert set(fleet.at) == set(range(48)) and min(fleet.moved.values()) > 10_000


@settings(max_examples=200)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), PLACES.map(lambda places: places[:4]))
def test_balancing_moves_the_fewest(homes: list[int], places: list[Place]) -> None:
    """Among all ways to lay the rows out that are in proportion, none keeps more of them where they are."""
    at = {row: f"server-{number}" for row, number in enumerate(homes)}
    held = Counter(at.values())
    runs = balance(at, places)
    rows = rows_of(runs)
    assert len(rows) == len(set(rows)) and set(rows) <= set(at)
    names = {one.name for one in places}
    after = Counter({**at, **{row: run.name for run in runs for row in run.rows}}.values())
    for one in places:
        assert one.room is None or after[one.name] <= held[one.name] + one.room
        assert one.weight or after[one.name] <= held[one.name], "who has no workers gets nobody"
    if all(one.room is None for one in places) and any(one.weight for one in places):
        ways = shares_that_are_proportional(len(homes), places)
        assert tuple(after[one.name] for one in places) in ways and after.keys() <= names
        assert len(rows) == min(sum(max(0, s - held[p.name]) for s, p in zip(way, places, strict=True)) for way in ways)


def shares_that_are_proportional(total: int, places: list[Place]) -> set[tuple[int, ...]]:
    whole = sum(one.weight for one in places)
    each = [{total * one.weight // whole, -(-total * one.weight // whole)} for one in places]
    return {way for way in itertools.product(*each) if sum(way) == total}


@pytest.mark.parametrize(
    ("homes", "places", "runs"),
    [
        ("aaaa", [Place("a", 1), Place("b", 1)], [("b", range(2, 4))]),
        ("aaabbb", [Place("a", 1), Place("b", 1), Place("c", 1)], [("c", range(2, 4))]),  # side by side
        ("aab", [Place("a", 1), Place("b", 1)], []),
        ("aaaa", [Place("b", 1), Place("c", 1)], [("b", range(2)), ("c", range(2, 4))]),  # a is named no longer
        ("aabb", [Place("a", 0), Place("b", 1)], [("b", range(2))]),
        ("aaaa", [Place("a", 1), Place("b", 1, room=1)], [("b", range(3, 4))]),
        ("aaaa", [Place("b", 1, room=1)], [("b", range(1))]),
        ("aaaa", [Place("a", 1, room=0), Place("b", 3, room=0)], []),
        ("aaaa", [], []),
        ("", [Place("a", 1)], []),
    ],
)
def test_balance(homes: str, places: list[Place], runs: list[tuple[str, range]]) -> None:
    assert [tuple(run) for run in balance(dict(enumerate(homes)), places)] == runs


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
        ([1, 1, 1], [0.000_010, 0.000_030, 0.000_008], [1.0, 1.0, 1.0]),  # of steps so short it tells nothing
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
