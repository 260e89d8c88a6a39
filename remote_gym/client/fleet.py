"""Trainer process: the servers behind one vector environment. Shares environments out, receives from whoever answers.

Environments are shared out in contiguous blocks, in the order of the servers and in proportion to their workers; with a
single server, the usual case, nothing here costs anything: answers are read by the thread that waits for them. With
several, one thread per server reads its stream, so that none waits for another.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from remote_gym.client.hosted import Hosted
from remote_gym.client.session.outstanding import Answer
from remote_gym.client.session.stream import SessionStream
from remote_gym.errors import ConnectError, MisuseError, ProtocolError, RemoteGymError
from remote_gym.messages import Indices

MAX_DIALS_AT_ONCE = 16

SPARE_ANSWERS = 64
"""How many more answers than two for each environment may wait to be dealt with. An environment has one operation at a
time, so an honest server is far from that; one that answers again and again must not fill our memory."""


@dataclass(eq=False)
class Shard:
    """One server's share.

    Attributes:
        connection: Its session.
        first: Env index of its first environment.
        count: Its environments.
    """

    connection: Hosted
    first: int
    count: int
    inbox: deque[tuple[SessionStream, Any]] = field(default_factory=deque)

    @property
    def stop(self) -> int:
        """The env index after its last."""
        return self.first + self.count

    def local(self, indices: Sequence[int]) -> Indices:
        """Return env indices as its server counts them; None for all of them in order."""
        own = [index - self.first for index in indices]
        return None if own == list(range(self.count)) else own


class Fleet:
    """All servers of one vector environment.

    Attributes:
        shards: Those that host something, in the order of their environments; empty before `dial`.
    """

    def __init__(self, connections: Sequence[Hosted], num_envs: int) -> None:
        """Prepare; `dial` opens the sessions."""
        self.connections = list(connections)
        self.num_envs = num_envs
        self.shards: list[Shard] = []
        self._arrived: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._readers: dict[Shard, SessionStream] = {}

    def dial(self) -> None:
        """Share the environments out and open all sessions, if that was not done yet.

        Raises:
            ConnectError, RefusedError, EnvironmentRaised, EnvironmentLost: A session could not be opened.
            MisuseError: The servers host environments with different spaces.
        """
        if self.shards:
            return
        if len(self.connections) == 1:
            _ = self.connections[0].stream
            self.shards = [Shard(self.connections[0], 0, self.num_envs)]
            return
        with ThreadPoolExecutor(MAX_DIALS_AT_ONCE) as dials:
            weights = list(dials.map(lambda connection: connection.num_workers(), self.connections))
            shards, first = [], 0
            for connection, count in zip(self.connections, in_proportion(self.num_envs, weights), strict=True):
                if count:
                    connection.share(count)
                    shards.append(Shard(connection, first, count))
                first += count
            for _ in dials.map(lambda shard: shard.connection.stream, shards):
                pass
        self._compare(shards)
        self.shards = shards

    @staticmethod
    def _compare(shards: Sequence[Shard]) -> None:
        first = shards[0].connection
        for shard in shards:
            other = shard.connection
            if other.told.is_vector and len(shards) > 1:
                raise MisuseError(f"{other.address} hosts a vector environment, which cannot be one of several servers")
            for name in ("observation_space", "action_space"):
                theirs, expected = getattr(other.told, name), getattr(first.told, name)
                if theirs != expected:
                    raise MisuseError(
                        f"the servers differ in their {name.replace('_', ' ')}: {theirs} at {other.address} is not "
                        f"{expected} at {first.address}"
                    )

    def parts(self, indices: Indices) -> list[tuple[Shard, Sequence[int]]]:
        """Return for each server concerned the positions in `indices` (None: all environments) of what it hosts."""
        if indices is None:
            return [(shard, range(shard.first, shard.stop)) for shard in self.shards]
        if len(self.shards) == 1:
            return [(self.shards[0], range(len(indices)))]
        parts: list[tuple[Shard, Sequence[int]]] = []
        for shard in self.shards:
            positions = [at for at, index in enumerate(indices) if shard.first <= index < shard.stop]
            if positions:
                parts.append((shard, positions))
        return parts

    # Receiving

    def receive(self, timeout_seconds: float | None, only: Shard | None = None) -> tuple[Shard, Answer]:
        """Return the next answer, of any server or of `only` one; say `took` once it has been dealt with.

        Raises:
            TimeoutError: None came in time; nothing is lost.
            ShardFailed: A session is gone or was closed.
        """
        if len(self.shards) > 1:
            return self._take(timeout_seconds, only)
        (shard,) = self.shards
        try:
            return shard, shard.connection.stream.receive(timeout_seconds)
        except RemoteGymError as error:
            raise ShardFailed(shard, error) from error

    def _take(self, timeout_seconds: float | None, only: Shard | None) -> tuple[Shard, Answer]:
        for each in self.shards:
            self._read(each)
        while True:
            for shard in [only] if only else self.shards:
                while shard.inbox:
                    stream, item = shard.inbox[0]
                    if stream is shard.connection.stream and not isinstance(item, BaseException):
                        return shard, item
                    shard.inbox.popleft()
                    if stream is shard.connection.stream:  # else it is of a session that was given up
                        self._readers.pop(shard, None)
                        if isinstance(item, RemoteGymError):
                            raise ShardFailed(shard, item) from item
                        raise item
            try:
                self._arrived.get(timeout=timeout_seconds)  # at least one for each item that was not seen yet
            except queue.Empty:
                raise TimeoutError from None

    def took(self, shard: Shard) -> None:
        """Take note that what `receive` returned last, of `shard`, was dealt with; until then it returns it again."""
        if len(self.shards) > 1:
            shard.inbox.popleft()

    def _read(self, shard: Shard) -> None:
        """See to it that a thread reads the stream of `shard`."""
        stream = shard.connection.stream
        try:
            stream.check()
        except RemoteGymError as error:
            raise ShardFailed(shard, error) from error
        if self._readers.get(shard) is not stream:
            self._readers[shard] = stream
            thread = threading.Thread(target=_read, args=(stream, shard, self._arrived), name="remote_gym stream")
            thread.daemon = True
            thread.start()

    def only(self, shard: Shard) -> Callable[[float | None], Answer]:
        """Return the function that receives from one server, for calls."""

        def receive(timeout_seconds: float | None) -> Answer:
            answer = self.receive(timeout_seconds, shard)[1]
            self.took(shard)
            return answer

        return receive

    def close(self) -> None:
        """End all sessions, those of a failed `dial` too."""
        for connection in self.connections:
            connection.close()


class ShardFailed(Exception):
    """A session of one server cannot go on.

    Attributes:
        shard: Which.
        error: Why.
    """

    def __init__(self, shard: Shard, error: RemoteGymError) -> None:
        """Carry both."""
        self.shard, self.error = shard, error
        super().__init__(str(error))


def _read(stream: SessionStream, shard: Shard, arrived: queue.SimpleQueue[None]) -> None:
    """Read one stream until it fails or is closed."""
    item: Any = None
    while not isinstance(item, BaseException):
        try:
            item = stream.receive()
            if len(shard.inbox) > 2 * shard.count + SPARE_ANSWERS:
                item = stream.misread(ProtocolError("more answers than were asked for"))
        except BaseException as error:
            item = error
        shard.inbox.append((stream, item))
        arrived.put(None)


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
