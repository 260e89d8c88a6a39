"""Which rows are at which session: a row is at one at most, whatever comes and goes."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import pytest

from remote_gym.client.shards import Layout, Moved, Shard, run_of


def shard(first: int, count: int, name: str = "one") -> Shard:
    hosted: Any = SimpleNamespace(address=name, session=None, num_envs=count)
    return Shard(hosted, first, count)


def at(layout: Layout) -> dict[str, list[int]]:
    return {one.name: list(rows) for one, rows in layout.rows.items()}


def test_all_at_one() -> None:
    layout = Layout.of([whole := shard(0, 4)], 4)
    assert layout.only is whole and not layout.restless and layout.at(whole) == range(4)
    assert Layout(4).only is None and Layout(4).shards == []
    assert Layout.of([shard(0, 2), shard(2, 2)], 4).only is None


def test_rows_leave_one_by_one() -> None:
    old, new = shard(0, 4, "old"), shard(1, 3, "new")
    layout = Layout.of([old], 4).with_shard(new, ())
    assert at(layout) == {"old": [0, 1, 2, 3], "new": []} and layout.leaving == {1: new, 2: new, 3: new}
    assert layout.only is old and layout.restless and not layout.deserted()
    layout = layout.handed_over([2])
    assert at(layout) == {"old": [0, 1, 3], "new": [2]} and layout.leaving.keys() == {1, 3} and layout.only is None
    assert [block[:3] for block in layout.blocks({0})] == [
        ("", range(1), "moving"), ("old", range(1, 2), "leaving"), ("new", range(2, 3), "there"),
        ("old", range(3, 4), "leaving"),
    ]  # fmt: skip
    assert {row: one.name for row, one in layout.homes().items()} == {0: "old", 1: "new", 2: "new", 3: "new"}
    layout = layout.handed_over([1, 3])
    assert at(layout) == {"old": [0], "new": [1, 2, 3]} and not layout.restless
    assert layout.at(new) == range(1, 4), "a range where it is one"


def test_homeless_rows_that_a_lost_session_still_has_are_at_the_new_one_alone() -> None:
    lost, new = shard(0, 4, "lost"), shard(1, 2, "new")
    layout = Layout.of([lost], 4).with_shard(new, {1, 2})
    assert at(layout) == {"lost": [0, 3], "new": [1, 2]} and not layout.leaving


def test_a_session_that_everybody_has_left_is_deserted() -> None:
    old, new = shard(0, 2, "old"), shard(0, 2, "new")
    layout = Layout.of([old], 2).with_shard(new, ()).handed_over([0, 1])
    assert layout.deserted() == [old] and layout.restless and layout.only is new
    assert not layout.without(old).restless and layout.without(old).shards == [new]


def test_a_session_that_is_lost_takes_its_rows_along_and_nobody_leaves_for_it() -> None:
    old, new = shard(0, 4, "old"), shard(2, 2, "new")
    layout = Layout.of([old], 4).with_shard(new, ())
    assert at(layout.without(new)) == {"old": [0, 1, 2, 3]} and not layout.without(new).leaving
    assert at(layout.without(old)) == {"new": []} and not layout.without(old).leaving
    assert layout.without(old).at(old) == ()


def test_rows_without_a_server_are_at_home_at_once() -> None:
    layout = Layout.of([shard(0, 2)], 4).with_shard(new := shard(1, 3, "new"), {2, 3})
    assert layout.at(new) == range(2, 4) and layout.leaving == {1: new}


def test_the_newest_session_is_where_a_row_goes() -> None:
    layout = Layout.of([shard(0, 2)], 2).with_shard(first := shard(0, 2, "first"), ())
    layout = layout.with_shard(second := shard(0, 1, "second"), ())
    assert layout.leaving == {0: second, 1: first}


def test_what_was_built_says_whose_it_is() -> None:
    moved = Moved(SimpleNamespace(num_envs=3), 4)  # type: ignore[arg-type]
    assert moved.rows == range(4, 7)


@pytest.mark.parametrize(
    ("rows", "run"), [([], range(0)), ([3], range(3, 4)), ([1, 2, 3], range(1, 4)), ([1, 3], [1, 3])]
)
def test_runs(rows: list[int], run: Any) -> None:
    assert run_of(iter(rows)) == run


def test_a_row_is_at_one_session_whatever_happens() -> None:
    chance = random.Random(5)
    layout = Layout.of([shard(0, 16)], 16)
    homeless: set[int] = set()
    for _ in range(2_000):
        what = chance.choice(("open", "go", "lose", "sweep"))
        if what == "open":
            first = chance.randrange(16)
            layout = layout.with_shard(shard(first, chance.randint(1, 16 - first)), set(homeless))
        elif what == "go" and layout.leaving:
            layout = layout.handed_over(chance.sample(sorted(layout.leaving), chance.randint(1, len(layout.leaving))))
        elif what == "lose" and len(layout.shards) > 1:
            layout = layout.without(chance.choice(layout.shards))
        elif what == "sweep":
            for one in layout.deserted():
                layout = layout.without(one)
        rows = [row for own in layout.rows.values() for row in own]
        assert len(rows) == len(set(rows))
        homeless = set(range(16)) - set(rows)
        assert layout.leaving.keys().isdisjoint(homeless) and set(layout.leaving.values()) <= set(layout.shards)
        assert all(row in range(one.first, one.stop) for one, own in layout.rows.items() for row in own)
        blocks = layout.blocks(homeless)
        assert [row for block in blocks for row in block.rows] == list(range(16))
