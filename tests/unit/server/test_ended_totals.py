"""What ended sessions had counted: by principal, and for a bounded number of them."""

from __future__ import annotations

from remote_gym.figures import Totals
from remote_gym.server import ended_totals
from remote_gym.server.ended_totals import EndedTotals, added

ONE = Totals(1, 2, 3, 4, 5.0, 6, 7.0)


def test_sums() -> None:
    assert added(ONE, ONE) == Totals(2, 4, 6, 8, 10.0, 12, 14.0)
    totals = EndedTotals()
    for name in ("ada", "bob", "ada"):
        totals.add(name, ONE)
    assert (totals.of("ada").requests, totals.of("bob").requests, totals.of("eve").requests) == (2, 1, 0)
    assert totals.of(None).requests == 3


def test_of_many_the_last_are_remembered(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(ended_totals, "MAX_PRINCIPALS", 2)
    totals = EndedTotals()
    for name in ("ada", "bob", "ada", "eve"):
        totals.add(name, ONE)
    assert (totals.of("ada").requests, totals.of("bob").requests, totals.of("eve").requests) == (2, 0, 1)
    assert totals.of(None).requests == 4
