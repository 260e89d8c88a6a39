"""The shares of a server without the server: sessions that are nothing but somebody's, and a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from remote_gym.server.giving_way import RETURN_SECONDS
from remote_gym.server.holdings import Holdings
from remote_gym.server.limits import Limits
from remote_gym.server.principals import Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.server.shares import Hold, Shares


class Session:
    """One that is open: leaves when it is told to, and gives way."""

    lease_seconds = 300.0

    def __init__(self, principal: Principal, num_envs: int, hold: Hold, on_end: Callable[[Session], None]) -> None:
        self.principal, self.num_envs, self.hold = principal, num_envs, hold
        self.left_at: float | None = None
        self.told = ""
        self._on_end = on_end

    def give_way(self, detail: str) -> None:
        self.told = detail
        self.end()

    def end(self) -> None:
        self._on_end(self)
        self.hold.release()


class Server:
    """The shares of one server, its sessions and its clock."""

    def __init__(
        self, limits: Any = None, max_sessions: int = 100, max_envs: int = 1_000, max_bytes: int = 1_000
    ) -> None:
        self.now = 1_000.0
        self.holdings = Holdings(max_bytes)
        self.shares = Shares(Limits(limits), max_sessions, max_envs, self.holdings, lambda: self.now)
        self.sessions: list[Session] = []

    def open(self, name: str, num_envs: int = 1, kwargs_bytes: int = 0) -> Session:
        principal = Principal(name)
        leaving = self.shares.who_gives_way(principal, num_envs, self.sessions)
        hold = self.shares.take(principal, num_envs, kwargs_bytes, leaving)
        session = Session(principal, num_envs, hold, self.sessions.remove)
        self.sessions.append(session)
        return session

    def leave(self, *sessions: Session, ago: float = RETURN_SECONDS) -> None:
        for session in sessions:
            session.left_at = self.now - ago

    def refuses(self, name: str, num_envs: int = 1, kwargs_bytes: int = 0) -> tuple[str, str]:
        held = self.shares.statistics()
        with pytest.raises(RefusalError) as caught:
            self.open(name, num_envs, kwargs_bytes)
        assert self.shares.statistics() == held
        return caught.value.limit, str(caught.value)
