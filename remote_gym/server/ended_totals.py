"""Server process, no I/O: what sessions that have ended had counted, by principal: totals never fall."""

from __future__ import annotations

from collections import OrderedDict

from remote_gym.figures import Totals

MAX_PRINCIPALS = 4_096
"""Of whom it is remembered apart: those that came last."""


def added(one: Totals, other: Totals) -> Totals:
    """Return the sum of both."""
    return Totals._make(mine + theirs for mine, theirs in zip(one, other, strict=True))


class EndedTotals:
    """Of one server."""

    def __init__(self) -> None:
        """Nobody has come."""
        self._all = Totals()
        self._by_principal: OrderedDict[str, Totals] = OrderedDict()

    def add(self, principal: str, totals: Totals) -> None:
        """Add what a session of `principal` had counted when it ended."""
        self._all = added(self._all, totals)
        self._by_principal[principal] = added(self._by_principal.pop(principal, Totals()), totals)
        while len(self._by_principal) > MAX_PRINCIPALS:
            self._by_principal.popitem(last=False)

    def of(self, principal: str | None) -> Totals:
        """Return those of `principal`; None: of everybody."""
        return self._all if principal is None else self._by_principal.get(principal, Totals())
