"""Trainer process, no I/O: which server gets which environments, at the start and when some have lost theirs.

Pure functions: the same question has the same answer. Guarantees: each row of the question is in exactly one run of the
answer, or left over because nobody takes it; whoever has more workers gets more.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from remote_gym.errors import ConnectError


class Place(NamedTuple):
    """A server that may take environments.

    Attributes:
        name: What it is called; each once.
        weight: Its workers.
        held: How many of our environments it has.
        room: How many more it takes; None: any number.
    """

    name: str
    weight: int
    held: int = 0
    room: int | None = None


class Run(NamedTuple):
    """Environments side by side.

    Attributes:
        name: The server's.
        rows: Env indices.
    """

    name: str
    rows: range


def in_proportion(total: int, weights: Sequence[int]) -> list[int]:
    """Return how many of `total` each gets: in proportion to its weight, the largest remainders first.

    Raises:
        ConnectError: Nobody has any weight.
    """
    whole = sum(weights)
    if whole <= 0:
        raise ConnectError("all servers", "none of them has workers")
    shares = [total * weight // whole for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))
    for at in by_remainder[: total - sum(shares)]:
        shares[at] += 1
    return shares


def shares_of(total: int, places: Sequence[Place]) -> dict[str, int]:
    """Return how many of `total` more environments each server gets: whoever has the fewest for its weight the next.

    Those that nobody has room for are missing. Equals are served in the order of `places`.
    """
    shares = {place.name: 0 for place in places}
    waiting = [((place.held + 1) / place.weight, at) for at, place in enumerate(places) if place.weight > 0]
    heapq.heapify(waiting)
    for _ in range(total):
        while waiting:
            _, at = waiting[0]
            place = places[at]
            if place.room is None or shares[place.name] < place.room:
                break
            heapq.heappop(waiting)
        if not waiting:
            break
        shares[place.name] += 1
        heapq.heapreplace(waiting, ((place.held + shares[place.name] + 1) / place.weight, at))
    return shares


def place(rows: Sequence[int], places: Sequence[Place]) -> list[Run]:
    """Return where the environments `rows` go, as runs that are as long as may be; rows that nobody takes are missing.

    Args:
        rows: Env indices, distinct, rising.
        places: Who may take some.
    """
    shares = shares_of(len(rows), places)
    runs: list[Run] = []
    at = 0
    for one in places:
        left = shares[one.name]
        while left:
            count = 1
            while count < left and rows[at + count] == rows[at] + count:
                count += 1
            runs.append(Run(one.name, range(rows[at], rows[at] + count)))
            at += count
            left -= count
    return runs
