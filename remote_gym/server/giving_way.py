"""Server process, no I/O: whose sessions end where a server is full. Decides; `shares` asks, and performs.

Who has left gives way to who is there, between different principals alone: the session whose client has been away
longest, of the principal that holds most, if that is more than the asking one would hold then. So nobody who takes
everything and leaves keeps others out, nobody who holds much pushes out who holds little, and a server's only principal
keeps every session for its lease.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from remote_gym.server.principals import Principal

Quantity = Literal["sessions", "envs"]
"""What a server may be full of."""

Amounts = Mapping[Quantity, int]

RETURN_SECONDS = 0.5
"""How long a session without a client gives way to nobody: who has lost its connection comes back at once, and needs
some round trips for it."""

EQUALS_SECONDS = 30.0
"""How long it does not give way to a principal that would then hold as much as its own: most outages are over."""


class Holder(Protocol):
    """A session, as far as it matters here.

    Attributes:
        principal: Whose it is.
        num_envs: Its environments.
        left_at: When its client has left, in seconds; None: it is there.
        lease_seconds: How long it is kept then.
    """

    principal: Principal
    num_envs: int
    left_at: float | None
    lease_seconds: float

    def give_way(self, detail: str) -> None:
        """End, and tell the client why when it comes back."""


class NoRoomError(Exception):
    """There is no room for what is asked, whoever gives way.

    Attributes:
        quantity: Of what.
    """

    def __init__(self, quantity: Quantity) -> None:
        """State of what there is too little."""
        self.quantity: Quantity = quantity
        super().__init__(quantity)


class Crowd:
    """The sessions of others whose clients have left, where there is no room for somebody who asks."""

    def __init__(self, asking: str, sessions: Iterable[Holder], held: Mapping[str, Amounts], now: float) -> None:
        """Let `sessions` give way to the principal `asking`.

        Args:
            asking: Its name.
            sessions: All there are.
            held: What each principal holds, by name.
            now: On the clock of `Holder.left_at`.
        """
        self.leaving: list[Holder] = []
        self._held = held
        self._now = now
        self._freed: dict[str, dict[Quantity, int]] = {}
        self._queues: dict[str, deque[tuple[float, Holder]]] = {}  # by principal, those away longest first
        away = [(session.left_at, session) for session in sessions if session.left_at is not None]
        for left_at, session in sorted(away, key=lambda one: one[0]):
            if session.principal.name != asking:
                self._queues.setdefault(session.principal.name, deque()).append((left_at, session))

    def freed(self, quantity: Quantity) -> int:
        """Return how much room those make that leave."""
        return sum(each[quantity] for each in self._freed.values())

    def thin_out(self, quantity: Quantity, asking: int) -> None:
        """Let one more leave, for a principal that would hold `asking` of `quantity`.

        Raises:
            NoRoomError: There is nobody who gives way to it.
        """
        name = self._whose_turn(quantity, asking)
        if name is None:
            raise NoRoomError(quantity)
        _, session = self._queues[name].popleft()
        self.leaving.append(session)
        freed = self._freed.setdefault(name, {"sessions": 0, "envs": 0})
        freed["sessions"] += 1
        freed["envs"] += session.num_envs

    def _whose_turn(self, quantity: Quantity, asking: int) -> str | None:
        most, found = 0, None
        for name, queue in self._queues.items():
            if not queue:
                continue
            held, away = self._held[name][quantity], self._now - queue[0][0]
            if held < asking or away < (RETURN_SECONDS if held > asking else EQUALS_SECONDS):
                continue
            left = held - self._freed[name][quantity] if name in self._freed else held
            if left > most:
                most, found = left, name
        return found


def who_gives_way(
    asking: str, num_envs: int, sessions: Iterable[Holder], held: Mapping[str, Amounts], most: Amounts, now: float
) -> list[Holder]:
    """Return which sessions must end for another one.

    Args:
        asking: The name of the principal whose it will be.
        num_envs: Its environments.
        sessions: All there are, of everybody.
        held: What each principal holds, by name, sessions that are being opened included.
        most: What all of them may hold together.
        now: On the clock of `Holder.left_at`.

    Raises:
        NoRoomError: There would be no room even so.
    """
    crowd: Crowd | None = None
    quantities: tuple[tuple[Quantity, int], ...] = (("sessions", 1), ("envs", num_envs))
    for quantity, asked in quantities:
        missing = asked + sum(each[quantity] for each in held.values()) - most[quantity]
        if crowd is None and missing > 0:
            crowd = Crowd(asking, sessions, held, now)
        while crowd is not None and crowd.freed(quantity) < missing:
            crowd.thin_out(quantity, held[asking][quantity] + asked)
    return [] if crowd is None else crowd.leaving
