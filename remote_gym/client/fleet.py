"""Trainer process: the servers behind one vector environment. Shares environments out, receives from whoever answers.

Environments are shared out in contiguous blocks, in the order of the servers and in proportion to their workers. Each
session has its own inbox, filled by its own thread; who receives waits for any of them (`inboxes`). So no server waits
for another, and nothing is held here.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from gymnasium import Space

from remote_gym.client.blocks import Block, with_pace
from remote_gym.client.hosted import Hosted
from remote_gym.client.inboxes import Inboxes
from remote_gym.client.pace import judged, last_steps
from remote_gym.client.placement import at_speed, in_proportion
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.session.session import Session
from remote_gym.client.tallies import Gone, Tally, took_by_server
from remote_gym.errors import ConnectError, EnvironmentLost, MisuseError, SessionLost, also
from remote_gym.messages import Indices
from remote_gym.observation_modes import SAME, compare
from remote_gym.texts import shortened

MAX_DIALS_AT_ONCE = 16


@dataclass(eq=False)
class Moved:
    """Environments that were built on another server.

    Attributes:
        hosted: They.
        first: Env index of the first.
        shard: What the fleet has made of it.
    """

    hosted: Hosted
    first: int
    shard: Shard | None = None


@dataclass(eq=False)
class Shard:
    """One server's share.

    Attributes:
        hosted: Its environments, as it told of them.
        first: Env index of its first environment.
        count: How many.
        session: The session on them.
        took: Seconds of the last steps, until each answer was here.
        tally: What has gone there and back, but for what `session` counts itself.
    """

    hosted: Hosted
    first: int
    count: int
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
        """Of the server."""
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


class Fleet:
    """All servers of one vector environment.

    Attributes:
        hosted: What each of them hosts.
        shards: Those that host something, in the order of their environments; empty before `dial`. Assigned whole, so
            that other threads may look.
        homeless: Environments whose server was lost and that have no other one yet: env index -> why.
        gone: What has gone there and back of shards that are no more.
    """

    def __init__(
        self,
        hosted: Sequence[Hosted],
        num_envs: int,
        observation_mode: str = SAME,
        find: Callable[[], Sequence[Hosted]] | None = None,
        leaves_out: bool = False,
    ) -> None:
        """Prepare; `dial` opens the sessions.

        `find` says what there is then, where it is not known before; `leaves_out`: whether to begin without servers
        that cannot be reached, if there are others.
        """
        self.homeless: dict[int, str] = {}
        self.gone = Gone()
        self._leaves_out = leaves_out
        self.hosted = list(hosted)
        self._find = find
        self.num_envs = num_envs
        self._mode = observation_mode
        self.shards: list[Shard] = []
        self._inboxes = Inboxes[Shard](ShardFailed)

    def dial(self) -> None:
        """Share the environments out and open all sessions, if that was not done yet.

        Raises:
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost: A session could not be opened.
            MisuseError: The servers host environments with different spaces; or what gives addresses gave none.
        """
        if self.shards:
            return
        if self._find is not None:
            self.hosted = list(self._find())
        if len(self.hosted) == 1:
            self.shards = [Shard(self.hosted[0], 0, self.num_envs)]
            return
        with ThreadPoolExecutor(MAX_DIALS_AT_ONCE) as dials:
            workers = self._weights(list(dials.map(_weighed, self.hosted)))
            weights = at_speed(workers, [hosted.env_step_seconds for hosted in self.hosted])
            shares, first = [], 0
            for hosted, count in zip(self.hosted, in_proportion(self.num_envs, weights), strict=True):
                if count:
                    hosted.share(count)
                    shares.append((hosted, first, count))
                first += count
            shards = list(dials.map(lambda share: Shard(*share), shares))
        self._compare(shards)
        self.shards = shards

    def _weights(self, told: Sequence[int | ConnectError]) -> list[int]:
        """Return how many workers each has; none for those to be left out."""
        errors = [one for one in told if isinstance(one, ConnectError)]
        if errors and (not self._leaves_out or len(errors) == len(told)):
            raise errors[0]
        return [0 if isinstance(one, ConnectError) else one for one in told]

    def _compare(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            if shard.hosted.told.is_vector and len(shards) > 1:
                raise MisuseError(
                    f"{shard.hosted.address} hosts a vector environment, which cannot be one of several servers"
                )
            self.compare(shard.hosted, shards[0].hosted)

    def compare(self, other: Hosted, first: Hosted) -> None:
        """Check that what `other` hosts may be in one batch with what `first` does.

        Raises:
            MisuseError: Their spaces differ.
        """
        try:
            spaces = other.told.observation_space, first.told.observation_space
            compare(f"what {other.address} hosts", *spaces, self._mode)
        except (RuntimeError, ValueError, TypeError) as error:
            raise also(MisuseError, type(error))(str(error)) from error
        if other.told.action_space != first.told.action_space:
            raise also(MisuseError, RuntimeError)(  # which is what `SyncVectorEnv` raises
                f"the servers differ in their action space: {other.told.action_space} at {other.address} is not "
                f"{first.told.action_space} at {first.address}"
            )

    def observation_spaces(self) -> list[Space[Any]]:
        """Return the observation space of each environment; call after `dial`."""
        each: list[Space[Any]] = []
        for shard in self.shards:
            told = shard.hosted.told
            each += told.each or [told.observation_space] * shard.count
        return each

    def parts(self, indices: Indices) -> list[tuple[Shard, Sequence[int]]]:
        """Return for each server concerned the positions in `indices` (None: all environments) of what it hosts."""
        if indices is None:
            return [(shard, range(shard.first, shard.stop)) for shard in self.shards]
        if len(self.shards) == 1 and self.shards[0].count == self.num_envs:
            return [(self.shards[0], range(len(indices)))]
        shards = self.shards
        firsts, positions = [shard.first for shard in shards], dict[int, list[int]]()
        for at, index in enumerate(indices):
            where = bisect_right(firsts, index) - 1
            if where >= 0 and index < shards[where].stop:
                positions.setdefault(where, []).append(at)
        return [(shards[where], positions[where]) for where in sorted(positions)]

    # Servers that come and go

    def check_housed(self, indices: Indices, name: str) -> None:
        """Refuse to do `name` with environments that have no server.

        Raises:
            EnvironmentLost: One of `indices` (None: all) has none.
        """
        if self.homeless:
            away = sorted(self.homeless if indices is None else self.homeless.keys() & set(indices))
            if away:
                reason = shortened(self.homeless[away[0]])
                raise EnvironmentLost(
                    f"{name}: environments {away[:8]} have lost their server and are being moved to another one: "
                    f"{reason}. Those of others can be reached with indices=", away[0], reason
                )  # fmt: skip

    def adopt(self, moved: Moved) -> Shard:
        """Take in environments that were built on another server; the same again does no harm."""
        if moved.shard is None:
            moved.shard = Shard(moved.hosted, moved.first, moved.hosted.num_envs)
            moved.shard.tally.moved_in = moved.shard.count
        if moved.shard not in self.shards:
            self.shards = sorted([*self.shards, moved.shard], key=lambda shard: shard.first)
            self.hosted = [*self.hosted, moved.hosted]
        return moved.shard

    def remove(self, shard: Shard) -> None:
        """Take out what a lost server has; its session ends, as far as there is one."""
        if shard in self.shards:
            self.gone.add(shard)
        self.shards = [other for other in self.shards if other is not shard]
        self.hosted = [other for other in self.hosted if other is not shard.hosted]
        shard.session.begin_close()

    def ring(self) -> None:
        """Let whoever receives look again; by any thread."""
        self._inboxes.bell.ring()

    def blocks(self) -> tuple[Block, ...]:
        """Return where which environments are."""
        shards = self.shards
        there = [Block(shard.name, range(shard.first, shard.stop), "there") for shard in shards]
        away: list[Block] = []
        for index in sorted(self.homeless):
            if away and away[-1].rows.stop == index:
                away[-1] = Block("", range(away[-1].rows.start, index + 1), "moving")
            else:
                away.append(Block("", range(index, index + 1), "moving"))
        blocks = sorted([*there, *away], key=lambda block: block.rows.start)
        return with_pace(blocks, judged(took_by_server(shards)))

    # Receiving

    def receive(
        self, timeout_seconds: float | None, has_news: Callable[[], bool] = lambda: False
    ) -> tuple[Shard, Arrival]:
        """Return the next answer, of any server; say `took` to its session once it has been dealt with.

        A single server's own session is the one to ask.

        Raises:
            News: `has_news` says so.
            TimeoutError: None came in time; nothing is lost.
            ShardFailed: A server no longer holds its session.
            ProtocolError, gymnasium.error.ClosedEnvironmentError: As `Session.peek`.
        """

        def check() -> None:
            if has_news():
                raise News

        return self._inboxes.receive(self.shards, timeout_seconds, check)

    def close(self) -> None:
        """End all sessions, those of a failed `dial` too; side by side, as each may take its time."""
        for shard in self.shards:
            with contextlib.suppress(Exception):  # it was closed
                shard.session.begin_close()
        for hosted in self.hosted:
            hosted.close()


def _weighed(hosted: Hosted) -> int | ConnectError:
    try:
        return hosted.num_workers()
    except ConnectError as error:
        return error


class News(Exception):
    """There is something to see besides answers."""


def has_sent(part: Sequence[Any]) -> bool:
    """Return whether a request is on its way to its server, or will be, whatever has interrupted its sending.

    Args:
        part: The shard, the request, and whatever belongs to it.
    """
    shard, request = part[:2]
    return bool(0 < request.number <= shard.session.highest)


class ShardFailed(Exception):
    """One server no longer holds its session.

    Attributes:
        shard: Which.
        error: Why.
    """

    def __init__(self, shard: Shard, error: SessionLost) -> None:
        """Carry both."""
        self.shard, self.error = shard, error
        super().__init__(str(error))
