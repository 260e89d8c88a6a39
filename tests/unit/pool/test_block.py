"""A block of consecutive environments."""

from __future__ import annotations

from fake_workers import block


def test_a_block_ends_where_the_next_begins() -> None:
    one = block(3, 4)
    assert (one.first, one.stop) == (3, 7)
    assert not one.given_up and not one.deaths and one.spare is None


def test_each_block_has_deaths_of_its_own() -> None:
    one, other = block(0, 1), block(1, 1)
    one.deaths.append(1.0)
    assert not other.deaths
