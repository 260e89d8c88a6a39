"""Trainer process: the servers behind one vector environment. Shares environments out, receives from whoever answers.

Environments are shared out in contiguous blocks, in the order of the servers and in proportion to their workers; where
they are later is `Layout`'s to say. Each session has its own inbox, filled by its own thread; who receives waits for
any of them (`inboxes`). So no server waits for another, and nothing is held here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gymnasium import Space

from remote_gym.client.blocks import Blocks, with_pace
from remote_gym.client.hosted import Hosted
from remote_gym.client.inboxes import Inboxes
from remote_gym.client.pace import judged
from remote_gym.client.placement import at_speed, in_proportion
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.shards import Layout, Moved, Shard
from remote_gym.client.tallies import Gone, took_by_server
from remote_gym.errors import ConnectError, EnvironmentLost, MisuseError, SessionLost, also
from remote_gym.messages import Indices
from remote_gym.observation_modes import SAME, compare
from remote_gym.texts import shortened

MAX_DIALS_AT_ONCE = 16


class Fleet:
    """All servers of one vector environment.

    Attributes:
        hosted: What each of them hosts.
        layout: Which rows are at which session; empty before `dial`. Assigned whole, so that other threads may look.
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
        self.layout = Layout(num_envs)
        self._inboxes = Inboxes[Shard](ShardFailed)

    @property
    def shards(self) -> list[Shard]:
        """The sessions, in the order of their first environments; empty before `dial`."""
        return self.layout.shards

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
            self.layout = Layout.of([Shard(self.hosted[0], 0, self.num_envs)], self.num_envs)
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
        self.layout = Layout.of(shards, self.num_envs)

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
        layout = self.layout
        if indices is None:
            return [(shard, rows) for shard, rows in layout.rows.items() if rows]
        if layout.only is not None:
            return [(layout.only, range(len(indices)))]
        where, positions = layout.shard_of, dict[Shard, list[int]]()
        for at, index in enumerate(indices):
            if (shard := where.get(index)) is not None:
                positions.setdefault(shard, []).append(at)
        return sorted(positions.items(), key=lambda part: part[0].first)

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
        """Take in environments that were built on another server; the same again does no harm.

        Rows without a server are there at once; the others leave for it when their episodes end.
        """
        if moved.shard is None:
            moved.shard = Shard(moved.hosted, moved.first, moved.hosted.num_envs, moved.reason)
        if moved.shard not in self.layout.rows:
            layout = self.layout.with_shard(moved.shard, self.homeless)
            moved.shard.tally.moved_in = len(layout.at(moved.shard))  # before: an interrupt loses no count
            self.layout = layout
            self.hosted = [*self.hosted, moved.hosted]
        return moved.shard

    def hand_over(self, rows: Iterable[int]) -> None:
        """Let those of `rows` that are leaving be where they go to; others, and the same again, are as they are."""
        layout = self.layout
        if going := [row for row in rows if row in layout.leaving]:
            self.layout = layout.handed_over(going)
            for row in going:
                layout.shard_of[row].tally.moved_out += 1
                layout.leaving[row].tally.moved_in += 1

    def dismiss(self) -> None:
        """End the sessions that nobody is at, or leaves for, once all that they were asked is answered and taken."""
        for shard in self.layout.deserted():
            if not shard.session.waiting:
                self.remove(shard)

    def remove(self, shard: Shard) -> None:
        """Take out a session, which ends, as far as there is one; nobody is at it any more."""
        if shard in self.layout.rows:
            self.gone.add(shard, len(self.layout.at(shard)))
        self.layout = self.layout.without(shard)
        self.hosted = [other for other in self.hosted if other is not shard.hosted]
        shard.session.begin_close()

    def ring(self) -> None:
        """Let whoever receives look again; by any thread."""
        self._inboxes.bell.ring()

    def blocks(self) -> Blocks:
        """Return where which environments are."""
        layout = self.layout
        return with_pace(layout.blocks(dict(self.homeless)), judged(took_by_server(layout.shards)))

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
