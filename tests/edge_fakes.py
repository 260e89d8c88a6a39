"""What stands behind the edge of a server, without workers: one session that remembers what it is told."""

from __future__ import annotations

from typing import Any

from remote_gym.messages import Attach, Closed, Lost, Open
from remote_gym.server.events import Events
from remote_gym.server.holdings import Holdings
from remote_gym.server.limits import Limits
from remote_gym.server.shares import Shares
from remote_gym.server.statistics import Counters
from remote_gym.wire.codec import pack_server


class FakeSession:
    """Remembers what comes; request 66 is a bug."""

    id = b"session"
    opened = Lost("stands for Opened")

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.detached: list[Any] = []

    def receive(self, message: Any, outlet: Any) -> None:
        if message.number == 66:
            raise RuntimeError("a bug of ours")
        self.received.append(message)
        outlet.send(pack_server(Closed()))

    def detach(self, outlet: Any) -> None:
        self.detached.append(outlet)

    def stored_bytes(self) -> int:
        return 0


class FakeSessions:
    """One session for all, or what is raised instead."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.holdings = Holdings(1_000)
        self.shares = Shares(Limits(), 3, 10, self.holdings)
        self.session = FakeSession()
        self.instead: Any = None
        self.epoch = b"e" * 16
        self.events = Events()
        self.tracing = None

    async def open(self, _message: Open, _outlet: Any, *_who: Any) -> FakeSession:
        if self.instead is not None:
            raise self.instead
        return self.session

    def announce(self, _session: FakeSession) -> None:
        """Nobody goes away."""

    def attach(self, _message: Attach, _outlet: Any, *_who: Any) -> Any:
        return self.session if self.instead is None else self.instead
