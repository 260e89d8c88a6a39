"""Trainer process: the inboxes of several sessions, waited for with one bell.

Who has rung is looked at, and nobody else: so what an answer costs does not depend on how many servers there are. That
somebody has rung is a hint, as every ring is; whatever gets lost of it, all are looked at, and their threads seen to,
once in `PASS_SECONDS` of waiting.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from remote_gym.client.session.bell import Bell
from remote_gym.client.session.outstanding import Arrival
from remote_gym.client.session.session import Session, wait_for
from remote_gym.errors import SessionLost, TimedOut

PASS_SECONDS = 0.05
"""Of waiting, between two looks at all sessions. Each is a few microseconds for every server; patience with one that is
away begins so much later."""


class Holder(Protocol):
    """Whoever has a session, always the same or one after the other; hashed by identity.

    Attributes:
        session: It.
    """

    session: Session


Held = TypeVar("Held", bound=Holder)


class Ringer(Bell):
    """The bell of one session among several: says whose it is, then rings the one that all share.

    Knows the session by a number only: a session that nobody holds any more is to be found by the garbage collector.

    Attributes:
        is_noted: Whether the number is among those that have rung. Who looks sets it to False first: a ring in between
            is noted anew.
    """

    def __init__(self, bell: Bell, rung: deque[int], number: int) -> None:
        """Add `number` to `rung` before `bell` is rung."""
        self._bell, self._rung, self._number = bell, rung, number
        self.is_noted = False

    def ring(self) -> None:
        """Wake who waits for any of them, or whoever does next."""
        if not self.is_noted:
            self.is_noted = True
            self._rung.append(self._number)
        self._bell.ring()

    def wait(self, timeout_seconds: float | None) -> None:
        """Return when any of them was rung, or after `timeout_seconds`."""
        self._bell.wait(timeout_seconds)


class Inboxes(Generic[Held]):
    """Of all who hold a session. One thread receives.

    Guarantees: an answer stays until it was taken; whoever was received from last is looked at last, so nobody is
    forgotten where others are always ready.

    Attributes:
        bell: Rung when there may be something to receive, or to `check`.
    """

    def __init__(self, failed: Callable[[Held, SessionLost], Exception]) -> None:
        """Begin without any; `failed` makes what is raised of a session that is lost."""
        self.bell = Bell()
        self._failed = failed
        self._rung: deque[int] = deque()  # by number; each maybe more than once
        self._numbers = itertools.count()
        self._holders: Sequence[Held] = ()
        self._by_number: dict[int, tuple[Held, Ringer]] = {}
        self._received: tuple[int, Arrival] | None = None  # last, and by which number
        self._waited_seconds = 0.0  # since all were looked at

    def receive(
        self, holders: Sequence[Held], timeout_seconds: float | None, check: Callable[[], None]
    ) -> tuple[Held, Arrival]:
        """Return the next answer of any of `holders`; say `took` to its session once it has been dealt with.

        Args:
            holders: Who has a session; another sequence whenever they are others.
            timeout_seconds: How long to wait at most; None: for ever.
            check: Called before every look; what it raises ends the waiting.

        Raises:
            TimedOut: None came in time; nothing is lost.
            ProtocolError, gymnasium.error.ClosedEnvironmentError: As `Session.peek`.
            Exception: What `failed` has made, or `check` has raised.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._listen(holders)
        self._let_others_come_first()

        def look() -> tuple[Held, Arrival] | None:
            check()
            return self._look()

        found = look()
        if found is None:
            waiting = [holder.session for holder in holders[:1]]  # for all: it is taken note that somebody waits
            for session in waiting:
                session.expect()
            try:
                found = self._wait_shortly(look, deadline)
            finally:
                for session in waiting:
                    session.expect_nothing()
        if found is None and (deadline is None or time.monotonic() < deadline):
            sessions = [holder.session for holder in holders]
            self._rung.extend(self._by_number)
            spent, self._waited_seconds = self._waited_seconds, 0.0
            for session in sessions:
                session.waited(spent)
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with contextlib.suppress(TimedOut):
                found = wait_for(look, sessions, self.bell, left)
        if found is None:
            raise TimedOut(f"nothing came within {timeout_seconds:g} s; nothing is lost, it is still pending")
        return found

    def _wait_shortly(
        self, look: Callable[[], tuple[Held, Arrival] | None], deadline: float | None
    ) -> tuple[Held, Arrival] | None:
        """Return what is found before all are to be looked at, or None: then, or at the deadline."""
        began, before = time.monotonic(), self._waited_seconds
        end = began + PASS_SECONDS - before
        if deadline is not None:
            end = min(end, deadline)
        now, found = began, None
        while found is None and now < end:
            self.bell.wait(end - now)
            found = look()
            now = time.monotonic()
            self._waited_seconds = before + now - began
        return found

    def _listen(self, holders: Sequence[Held]) -> None:
        """Hear of `holders` from now on, and of nobody else."""
        if holders is self._holders and len(holders) == len(self._by_number):
            return
        numbers = {holder: number for number, (holder, _) in self._by_number.items()}
        by_number = {}
        for holder in holders:
            if (number := numbers.get(holder)) is None:
                number = next(self._numbers)
                by_number[number] = holder, Ringer(self.bell, self._rung, number)
            else:
                by_number[number] = self._by_number[number]
            holder.session.bell = by_number[number][1]
        self._by_number = by_number
        self._rung.extend(by_number)  # the bells are in their places: what came before is seen now
        self._holders = holders  # last: after an interrupt all this comes once more

    def _let_others_come_first(self) -> None:
        """Put whoever was received from last behind the others that have rung."""
        rung, received = self._rung, self._received
        if received is None or not rung or rung[0] != received[0]:
            return
        known = self._by_number.get(received[0])
        # Else an interrupt has come before the answer was taken.
        if known is None or known[0].session.next_unread is not received[1]:
            rung.rotate(-1)

    def _look(self) -> tuple[Held, Arrival] | None:
        """Return the answer of whoever has rung first and has one."""
        rung = self._rung
        while rung:
            number = rung[0]
            if (known := self._by_number.get(number)) is not None:  # else it has left
                holder, ringer = known
                ringer.is_noted = False
                try:
                    arrival = holder.session.peek()
                except SessionLost as error:
                    raise self._failed(holder, error) from error
                if arrival is not None:
                    self._received = number, arrival
                    return holder, arrival
            rung.popleft()  # by this thread alone; what was noted meanwhile stands at the end
        return None
