"""Server process, no I/O: what each principal has of a server, which is never more than its owner gives it.

Whatever is taken is counted before anything is awaited, and given back exactly once by its `Hold`: when the session
could not be built, when it has ended, however either came about. A client that has left holds its share as long as its
lease runs.

Where the server itself is full, `giving_way` decides whose sessions end.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from remote_gym.server.giving_way import Holder, NoRoomError, Quantity, who_gives_way
from remote_gym.server.holdings import Holdings, PrincipalHoldings
from remote_gym.server.limits import Limits
from remote_gym.server.principals import Principal
from remote_gym.server.refusals import RefusalError
from remote_gym.texts import printable

MINUTE_SECONDS = 60.0

SPARE_CONNECTIONS = 8
"""Connections of a principal beyond two for each session that it may have: who attaches may still have an old one."""

OTHER = "other"
"""Stands in the statistics for all principals that the owner has not named."""


class Hold:
    """Something that was taken, to be given back exactly once."""

    def __init__(self, give_back: Callable[[], object]) -> None:
        """Call `give_back` at the first `release`."""
        self._give_back: Callable[[], object] | None = give_back

    def release(self) -> None:
        """Give it back; doing so again does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


class Account:
    """What one principal has.

    Attributes:
        name: Whose it is.
        who: The same, as it is printed.
        share: What it may have.
        held: How many sessions and environments.
        connections: How many carry its sessions, or are about to.
        holdings: The bytes held for it.
        opens: When it has begun to open a session, as far back as its limit looks; empty without one.
    """

    def __init__(self, name: str, limits: Limits, holdings: Holdings) -> None:
        """Begin with nothing; bytes are held of `holdings`."""
        self.name = name
        self.who = printable(name)
        self.share = limits.of(name)
        self.held: dict[Quantity, int] = {"sessions": 0, "envs": 0}
        self.connections = 0
        self.holdings = PrincipalHoldings(holdings, name, self.share.bytes)
        self.opens: deque[float] = deque()

    def idle(self, now: float) -> bool:
        """Whether there is nothing to remember."""
        self._forget_opens(now)
        return not (self.opens or self.connections or any(self.held.values()) or any(self.holdings.bytes.values()))

    def _forget_opens(self, now: float) -> None:
        while self.opens and self.opens[0] <= now - MINUTE_SECONDS:
            self.opens.popleft()

    def check(self, num_envs: int, sessions: Iterable[Holder], now: float) -> None:
        """Refuse another session of `num_envs` environments that is more than the share; `sessions` are everybody's.

        Raises:
            RefusalError: By the name of the limit.
        """
        share = self.share
        if share.sessions is not None and self.held["sessions"] >= share.sessions:
            asked = f"{self.who} asked for a session and has {self.held['sessions']} of its limit of {share.sessions}"
            raise RefusalError("principal_sessions", asked + self._left(sessions, now))
        if share.envs is not None and self.held["envs"] + num_envs > share.envs:
            asked = (
                f"{self.who} asked for {num_envs} environments and has {self.held['envs']} of its limit of {share.envs}"
            )
            raise RefusalError("principal_envs", asked + self._left(sessions, now))
        self._check_opens(now)

    def _left(self, sessions: Iterable[Holder], now: float) -> str:
        """Return which of its own sessions wait for clients that have left, to be said of what it has."""
        own = (session for session in sessions if session.principal.name == self.name)
        left = [one.left_at + one.lease_seconds - now for one in own if one.left_at is not None]
        if not left:
            return ""
        seconds = max(1, math.ceil(min(left)))
        return f"; of its sessions {len(left)} wait for clients that have left, the first for at most {seconds} s more"

    def _check_opens(self, now: float) -> None:
        limit = self.share.opens_per_minute
        if limit is None:
            return
        self._forget_opens(now)
        if len(self.opens) >= limit:
            wait = self.opens[0] + MINUTE_SECONDS - now if self.opens else math.inf
            when = f"the next one may be in {math.ceil(10 * wait) / 10:g} s" if self.opens else "it may open none"
            raise RefusalError(
                "principal_opens_per_minute",
                f"{self.who} asked for a session and has opened {len(self.opens)} within a minute, of its limit of "
                f"{limit}: {when}",
            )

    def take(self, num_envs: int, kwargs_bytes: int, now: float) -> Hold:
        """Count a session that is being opened."""
        self.held["sessions"] += 1
        self.held["envs"] += num_envs
        self.holdings.take("kwargs", kwargs_bytes)
        if self.share.opens_per_minute is not None:
            self.opens.append(now)

        def give_back() -> None:
            self.held["sessions"] -= 1
            self.held["envs"] -= num_envs
            self.holdings.give("kwargs", kwargs_bytes)

        return Hold(give_back)


class Place(NamedTuple):
    """One connection's.

    Attributes:
        holdings: The bytes held for its principal.
        hold: To be given back when the connection ends.
    """

    holdings: Holdings
    hold: Hold


class Shares:
    """What every principal has of one server. Relies on: the event loop's thread."""

    def __init__(
        self,
        limits: Limits,
        max_sessions: int,
        max_envs: int,
        holdings: Holdings,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing taken.

        Args:
            limits: What each principal may have.
            max_sessions: What all of them may have together.
            max_envs: The same.
            holdings: The bytes held for all of them.
            clock: Seconds, the same that sessions use.
        """
        self._limits = limits
        self._most: dict[Quantity, int] = {"sessions": max_sessions, "envs": max_envs}
        self._holdings = holdings
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def account(self, principal: Principal) -> Account:
        """Return what `principal` has; to be used at once: it is forgotten when there is nothing to remember."""
        account = self._accounts.get(principal.name)
        if account is None:
            now = self._clock()
            for name in [name for name, other in self._accounts.items() if other.idle(now)]:
                del self._accounts[name]
            account = Account(principal.name, self._limits, self._holdings)
            self._accounts[principal.name] = account
        return account

    def held(self, quantity: Quantity) -> int:
        """Return how many sessions or environments all principals have, those being opened included."""
        return sum(account.held[quantity] for account in self._accounts.values())

    def who_gives_way(self, principal: Principal, num_envs: int, sessions: Iterable[Holder]) -> list[Holder]:
        """Return which of `sessions`, those of everybody, must end for a session of `num_envs` of `principal`.

        Raises:
            RefusalError: It would be more than its share, or than the server's; by the name of the limit.
        """
        account, now = self.account(principal), self._clock()
        account.check(num_envs, sessions, now)
        held = {name: account.held for name, account in self._accounts.items()}
        try:
            return who_gives_way(account.name, num_envs, sessions, held, self._most, now)
        except NoRoomError as error:
            raise self._full(error.quantity, num_envs) from None

    def take(self, principal: Principal, num_envs: int, kwargs_bytes: int, leaving: Iterable[Holder]) -> Hold:
        """Take a session of `num_envs` environments for `principal`, or nothing.

        Args:
            principal: Whose it is.
            num_envs: Its environments.
            kwargs_bytes: The size of its packed keyword arguments, held with it.
            leaving: What `who_gives_way` has returned just now; they end.

        Raises:
            RefusalError: Its keyword arguments would be more than may be held.
        """
        account, now = self.account(principal), self._clock()
        full = account.holdings.without_room("kwargs", kwargs_bytes)
        if full is not None:
            raise RefusalError(full.limit, f"{full.said('kwargs', kwargs_bytes)} of its clients' kwargs")
        for session in leaving:
            away = now - (session.left_at or now)
            session.give_way(
                f"the server was full, and its client had been away for {away:.0f} s when another one needed the room"
            )
        return account.take(num_envs, kwargs_bytes, now)

    def _full(self, quantity: Quantity, num_envs: int) -> RefusalError:
        limit = self._most[quantity]
        if quantity == "sessions":
            return RefusalError("max_sessions", f"the server holds its limit of {limit} sessions")
        return RefusalError(
            "max_envs",
            f"{num_envs} environments were asked for, the server has room for {limit - self.held('envs')} of its limit "
            f"of {limit}",
        )

    def enter(self, principal: Principal) -> Place:
        """Take a connection for `principal`.

        Raises:
            RefusalError: It has as many as its sessions could need.
        """
        account = self.account(principal)
        own, most = account.share.sessions, self._most["sessions"]
        limit = 2 * (most if own is None else min(own, most)) + SPARE_CONNECTIONS
        if account.connections >= limit:
            raise RefusalError(
                "principal_connections",
                f"{account.who} asked for a connection and has {account.connections} of its limit of {limit}, which "
                f"follows from its limit of sessions",
            )
        account.connections += 1

        def leave() -> None:
            account.connections -= 1

        return Place(account.holdings, Hold(leave))

    def statistics(self) -> dict[str, dict[str, int]]:
        """Return what each principal that the owner has named has, and all others together as `OTHER`, by quantity."""
        names = (*self._limits.names, OTHER)
        said = {
            f"principal_{quantity}": dict.fromkeys(names, 0)
            for quantity in ("sessions", "envs", "connections", "held_bytes")
        }
        for name, account in self._accounts.items():
            known = name if name in self._limits.names else OTHER
            said["principal_sessions"][known] += account.held["sessions"]
            said["principal_envs"][known] += account.held["envs"]
            said["principal_connections"][known] += account.connections
            said["principal_held_bytes"][known] += sum(account.holdings.bytes.values())
        return said
