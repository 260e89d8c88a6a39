"""Trainer process, no I/O: which server gets which environments: at the start, when some have lost theirs, in between.

Pure functions: the same question has the same answer. Guarantees: each row of the question is in exactly one run of the
answer, or left over because nobody takes it, or it may stay; whoever has more workers, or quicker ones, gets more.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from remote_gym.errors import ConnectError

MAX_SPEED = 2.0
"""How many times a worker counts at most for being quick, and how many times less at most for being slow."""

NOISE = 1.25
"""Steps that take up to so many times as long as usual, or as much less, count as usual."""

NOISE_SECONDS = 1e-4
"""So do those whose time differs by less: of a step of microseconds it is caches that are measured, not machines."""

USUAL = 64
"""What a worker of usual speed weighs: weights are whole numbers, so that shares are exact."""


class Place(NamedTuple):
    """A server that may take environments.

    Attributes:
        name: What it is called; each once.
        weight: Its workers, or what `at_speed` makes of them.
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


def at_speed(workers: Sequence[int], step_seconds: Sequence[float]) -> list[int]:
    """Return the weights of servers with so many workers, of which one step of an environment takes so long.

    A worker counts as many times as it is quicker than what is usual, which is the median of all servers' figures, but
    for differences within `NOISE`, and within `MAX_SPEED` either way: a figure is a measurement, and a server that was
    slow once is not to go empty.

    Args:
        workers: Of each server.
        step_seconds: Of each; 0: not known, which counts as usual.
    """
    known = [seconds for count, seconds in zip(workers, step_seconds, strict=True) if count and seconds > 0]
    usual = median(known) if known else 0.0
    return [count * _speed(seconds, usual) for count, seconds in zip(workers, step_seconds, strict=True)]


def _speed(seconds: float, usual: float) -> int:
    """Return how quick a worker is, in parts of `USUAL`."""
    if seconds <= 0 or usual <= 0 or 1 / NOISE <= seconds / usual <= NOISE or abs(seconds - usual) < NOISE_SECONDS:
        return USUAL
    return round(USUAL * min(MAX_SPEED, max(1 / MAX_SPEED, usual / seconds)))


def places_at_speed(places: Sequence[Place], step_seconds: Mapping[str, float]) -> list[Place]:
    """Return `places`, whose weights are their workers, with those that `at_speed` gives them.

    Args:
        places: Who may take environments.
        step_seconds: By name; those that are missing are not known.
    """
    weights = at_speed([one.weight for one in places], [step_seconds.get(one.name, 0.0) for one in places])
    return [one._replace(weight=weight) for one, weight in zip(places, weights, strict=True)]


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
    return _runs(rows, places, shares_of(len(rows), places))


def _runs(rows: Sequence[int], places: Sequence[Place], shares: Mapping[str, int]) -> list[Run]:
    """Return `rows`, as many as there are `shares`, as runs that are as long as may be, in the order of `places`."""
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


def proportional(total: int, places: Sequence[Place]) -> dict[str, int]:
    """Return how many of `total` environments each server has when the shares are in proportion.

    A share is the exact one rounded down or up. Up, if that is to be decided, for who has more than the share rounded
    down already, as then fewer have to move; else the largest remainders first. Who has no room for its share has as
    many as it has room for, and the others share the rest. If there is no room for all, the shares are fewer.
    """
    limits = {one.name: total if one.room is None else one.held + one.room for one in places}
    shares = dict.fromkeys(limits, 0)
    open_to = [one for one in places if one.weight > 0]
    while open_to:
        whole = sum(one.weight for one in open_to)
        full = [one for one in open_to if total * one.weight > limits[one.name] * whole]
        if not full:
            break
        shares.update((one.name, limits[one.name]) for one in full)
        total -= sum(limits[one.name] for one in full)
        open_to = [one for one in open_to if one not in full]
    if not open_to:
        return shares
    exact = {one.name: divmod(total * one.weight, whole) for one in open_to}
    shares.update((name, share) for name, (share, _) in exact.items())
    upwards = sorted(
        (one for one in open_to if exact[one.name][1]),
        key=lambda one: (one.held <= exact[one.name][0], -exact[one.name][1]),
    )
    for one in upwards[: total - sum(share for share, _ in exact.values())]:
        shares[one.name] += 1
    return shares


def balance(homes: Mapping[int, str], places: Sequence[Place]) -> list[Run]:
    """Return which environments are to move, and where to, for the shares to be in proportion: as few as can be.

    Args:
        homes: By env index the server that it is at. Those that are at none of `places`, or at one without workers,
            are to move if there is room.
        places: Who may have some; `held` is counted here.
    """
    held = Counter(homes.values())
    places = [one._replace(held=held[one.name]) for one in places]
    shares = proportional(len(homes), places)
    lacking = {one.name: max(0, shares[one.name] - one.held) for one in places}
    leaving: list[int] = []
    for at, name in enumerate(dict.fromkeys(homes[row] for row in sorted(homes))):
        own = [row for row in sorted(homes) if homes[row] == name]
        many = max(0, len(own) - shares.get(name, 0))
        # From the end and from the beginning, in turns: what two neighbours give lies side by side.
        leaving += own[:many] if at % 2 else own[len(own) - many :]
    leaving = sorted(leaving)[: sum(lacking.values())]
    return _runs(leaving, places, lacking)
