"""No I/O: what the hash tables of one message may cost, on both ends: sets, frozensets and dicts.

Python keeps the hashes of str secret, but anybody can compute those of ints, floats, tuples and frozensets, and choose
elements that all collide: a table of n then takes n * n comparisons, and tables in tables multiply. So the elements are
hashed and counted before they get into a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Any

from remote_gym.gym import GraphInstance
from remote_gym.values.bases import base_of
from remote_gym.values.limits import MAX_COMPARISONS, MAX_HOLLOW_DICTS, MAX_KEYS
from remote_gym.values.refusals import CannotTravel
from remote_gym.values.scalars import STR


class Tables:
    """Admits the elements of hash tables to one message, as long as building and comparing the tables stays cheap."""

    comparisons = MAX_COMPARISONS
    hollow = MAX_HOLLOW_DICTS

    def admit(self, elements: Collection[Any]) -> None:
        """Account for the elements of one table.

        Raises:
            CannotTravel: There are too many, or too many of equal hash.
            TypeError: One is not hashable.
        """
        if STR.issuperset(map(type, elements)):
            return
        if len(elements) > MAX_KEYS:
            raise CannotTravel(
                f"has {len(elements):,} elements or keys that are not all str, the limit is {MAX_KEYS:,}; "
                f"send a list, two lists or arrays"
            )
        counts = Counter(map(hash, elements))
        if len(counts) == len(elements):
            return
        for element in elements:
            same = counts[hash(element)]
            if same > 1:
                self._compare(element, same - 1)

    def admit_hollow(self) -> None:
        """Account for one dict whose only key is the empty str; raises `CannotTravel`."""
        self.hollow -= 1
        if self.hollow < 0:
            raise CannotTravel(
                f"has more than {MAX_HOLLOW_DICTS:,} dicts whose only key is the empty string; give the key a name"
            )

    def _compare(self, element: Any, times: int) -> None:
        """Account for `times` comparisons of an element with another of its hash: each may go through all its parts.

        Of two frozensets, each part of one is looked up in the other, where it may meet all those of its own hash. With
        a of them here and b there, these are a * b comparisons: no more than a * a here and b * b there, for both pay.
        """
        todo = [(element, times)]
        while todo:
            element, times = todo.pop()
            self.comparisons -= times
            if self.comparisons < 0:
                raise CannotTravel(f"takes more than {MAX_COMPARISONS:,} comparisons of equal hashes; send lists")
            own: Any = type(element)
            kind = base_of(own)
            if kind is frozenset:
                times *= max(Counter(map(hash, element)).values(), default=1)
            elif kind not in _SEQUENCES:
                continue
            todo += [(part, times) for part in element]


_SEQUENCES = frozenset({tuple, GraphInstance})
"""Hashable types that are compared part by part."""
