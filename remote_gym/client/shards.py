"""Trainer process, no I/O: which rows are at which session.

A session has an environment for each row of a range, from its opening to its end. A row is at one session at most, and
may leave it for another one when its episode ends: ranges of sessions may overlap, then. Who has left a session is
never asked for there again.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from remote_gym.client.blocks import Block
from remote_gym.client.hosted import Hosted
from remote_gym.client.pace import last_steps
from remote_gym.client.session.session import Session
from remote_gym.client.tallies import Tally
from remote_gym.messages import Indices


@dataclass(eq=False)
class Moved:
    """Environments that were built on another server.

    Attributes:
        hosted: They.
        first: Env index of the first.
        reason: Why rows go there that have a server, for their infos.
        shard: What the fleet has made of it.
    """

    hosted: Hosted
    first: int
    reason: str = ""
    shard: Shard | None = None

    @property
    def rows(self) -> range:
        """Whose they are to be."""
        return range(self.first, self.first + self.hosted.num_envs)


@dataclass(eq=False)
class Shard:
    """A session on one server.

    Attributes:
        hosted: Its environments, as its server told of them.
        first: Env index of its first environment.
        count: How many.
        reason: Why rows come to it from other servers.
        session: The session on them.
        took: Seconds of the last steps, until each answer was here.
        tally: What has gone there and back, but for what `session` counts itself.
    """

    hosted: Hosted
    first: int
    count: int
    reason: str = ""
    session: Session = field(init=False)
    took: deque[float] = field(init=False, default_factory=last_steps)
    tally: Tally = field(init=False, default_factory=Tally)

    def __post_init__(self) -> None:
        """Dial, if that was not done yet."""
        self.session = self.hosted.session

    def reopen(self) -> None:
        """Open a new session in place of a lost one; raises like `Hosted.reopen`."""
        bell, counted = self.session.bell, Tally.of(self.session)
        self.hosted.reopen()
        self.tally += counted
        self.session = self.hosted.session
        self.session.bell = bell
        bell.ring()  # what has come before that is looked at

    @property
    def name(self) -> str:
        """What its server is called."""
        return str(self.hosted.address)

    @property
    def stop(self) -> int:
        """The env index after its last."""
        return self.first + self.count

    def local(self, indices: Sequence[int]) -> Indices:
        """Return env indices as its server counts them; None for all of them in order."""
        if indices == range(self.first, self.stop):  # the usual case, of a range: nothing is counted
            return None
        own = [index - self.first for index in indices]
        return None if own == list(range(self.count)) else own


@dataclass(frozen=True, eq=False)
class Layout:
    """Where all rows are. Never changed: a new one takes its place, whole, whoever looks and whatever interrupts.

    Attributes:
        num_envs: How many rows there are.
        rows: By session, in the order of their first environments, the rows that are at it, rising; maybe none.
        leaving: Rows that go to another session when their episodes end: row -> that session, which is open.
        shards: The sessions.
        only: The session that all rows are at, all of its own; None: there is none.
        restless: Whether rows are to leave, or sessions are open for nobody.
    """

    num_envs: int
    rows: dict[Shard, Sequence[int]] = field(default_factory=dict)
    leaving: dict[int, Shard] = field(default_factory=dict)
    shards: list[Shard] = field(init=False)
    only: Shard | None = field(init=False)
    restless: bool = field(init=False)

    def __post_init__(self) -> None:
        """Put the sessions in order, and keep what is looked at with every step."""
        shards = sorted(self.rows, key=lambda shard: shard.first)
        object.__setattr__(self, "rows", {shard: self.rows[shard] for shard in shards})
        object.__setattr__(self, "shards", shards)
        whole = (shard for shard in shards if len(self.rows[shard]) == shard.count == self.num_envs)
        object.__setattr__(self, "only", next(whole, None))
        object.__setattr__(self, "restless", bool(self.leaving or self.deserted()))

    @cached_property
    def shard_of(self) -> dict[int, Shard]:
        """By row, the session that it is at."""
        return {row: shard for shard, rows in self.rows.items() for row in rows}

    @classmethod
    def of(cls, shards: Iterable[Shard], num_envs: int) -> Layout:
        """Return one in which each session has all its rows."""
        return cls(num_envs, {shard: range(shard.first, shard.stop) for shard in shards})

    def with_shard(self, shard: Shard, home: Collection[int]) -> Layout:
        """Return one with one more session: its rows that are at none, or `home`, are at it, others leave for it."""
        own = range(shard.first, shard.stop)
        elsewhere = {row for rows in self.rows.values() for row in rows}.difference(home).intersection(own)
        mine = run_of(row for row in own if row not in elsewhere)
        taken = set(mine)  # also from where an interrupt has left them
        rows = {
            other: these if taken.isdisjoint(these) else run_of(row for row in these if row not in taken)
            for other, these in self.rows.items()
        }
        leaving = {row: to for row, to in self.leaving.items() if row not in taken}
        return Layout(self.num_envs, {**rows, shard: mine}, {**leaving, **dict.fromkeys(elsewhere, shard)})

    def without(self, shard: Shard) -> Layout:
        """Return one without a session; nobody is at it, or leaves for it, any more."""
        rows = {other: self.rows[other] for other in self.rows if other is not shard}
        gone = set(self.rows.get(shard, ()))
        leaving = {row: to for row, to in self.leaving.items() if to is not shard and row not in gone}
        return Layout(self.num_envs, rows, leaving)

    def handed_over(self, these: Iterable[int]) -> Layout:
        """Return one in which `these` of those that are leaving have left."""
        going = {row: self.leaving[row] for row in these}
        rows = {}
        for shard, own in self.rows.items():
            come = [row for row, to in going.items() if to is shard]
            stay = [row for row in own if row not in going]
            rows[shard] = run_of(sorted(stay + come)) if come or len(stay) < len(own) else own
        return Layout(self.num_envs, rows, {row: to for row, to in self.leaving.items() if row not in going})

    def at(self, shard: Shard) -> Sequence[int]:
        """Return the rows that are at a session; none if it is not here any more."""
        return self.rows.get(shard, ())

    def deserted(self) -> list[Shard]:
        """Return the sessions that nobody is at, or leaves for."""
        awaited = set(self.leaving.values())
        return [shard for shard, rows in self.rows.items() if not rows and shard not in awaited]

    def homes(self) -> dict[int, Shard]:
        """Return by row the session that it is at, or leaves for."""
        return {**{row: shard for shard, rows in self.rows.items() for row in rows}, **self.leaving}

    def blocks(self, homeless: Collection[int]) -> tuple[Block, ...]:
        """Return where which rows are, in their order; `homeless` have no server."""
        each: list[tuple[int, Place]] = [
            (row, (shard, "leaving" if row in self.leaving else "there"))
            for shard, rows in self.rows.items()
            for row in rows
            if row not in homeless
        ]
        each += [(row, (None, "moving")) for row in homeless]
        blocks = []
        for (shard, state), rows in _runs(sorted(each, key=lambda one: one[0])):
            blocks.append(Block("" if shard is None else shard.name, rows, state))
        return tuple(blocks)


Place = tuple["Shard | None", str]


def _runs(each: Sequence[tuple[int, Place]]) -> Iterator[tuple[Place, range]]:
    """Yield neighbours in the same place together."""
    numbered = enumerate(each)
    for (_, place), group in itertools.groupby(numbered, key=lambda one: (one[1][0] - one[0], one[1][1])):
        rows = [row for _, (row, _) in group]
        yield place, range(rows[0], rows[-1] + 1)


def run_of(rows: Iterable[int]) -> Sequence[int]:
    """Return rising env indices as a range where they are one."""
    each = list(rows)
    if not each:
        return range(0)
    return range(each[0], each[-1] + 1) if each[-1] - each[0] + 1 == len(each) else each
