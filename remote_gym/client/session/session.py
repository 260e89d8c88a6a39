"""Trainer process: one session, as requests out and answers in. Reconnects; loses nothing and repeats nothing.

What the caller holds. The thread behind it is `Reader`, the rules are `SessionProtocol`; both live until the session
has ended, which this object's own end sees to.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gymnasium

from remote_gym import failpoints
from remote_gym.client.carriers.carrier import Dialer
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.dialing import dialer_for
from remote_gym.client.session.bell import Bell
from remote_gym.client.session.outstanding import Answer, Arrival, Outstanding
from remote_gym.client.session.protocol import Phase, SessionProtocol
from remote_gym.client.session.reader import Reader
from remote_gym.client.tracing import Trace
from remote_gym.errors import RemoteGymError, TimedOut
from remote_gym.messages import Indices, Open, Opened, Request
from remote_gym.wire.codec import pack_client

Found = TypeVar("Found")


class Session:
    """A session on a server.

    An answer is read in three steps: `peek` or `wait`, do with it what is to be done, `took`. An interrupt anywhere in
    between leaves it in the inbox, to be read again; what is asked for is on its way, or will be.

    Closing contract: `close` returns within some 5 s (at once where the server is there), may be called twice, and
    always releases. It takes the session along at the server: also right after an interrupt; also while the session is
    being opened, as Close follows Open on the same carrier; also after the carrier has ended, if the server can be
    reached within a second; and if `close` is interrupted itself, the thread goes on, and the end of the interpreter
    waits for it; so it does if a signal's handler closes in the middle of a send or a wait, and then `close` returns at
    once. Who does not close has it closed by the garbage collector, or at the end of the interpreter. The server's
    lease ends what is left: after a kill, an unreachable server, an environment that takes longer than 5 s to build, or
    an end right after a fork.
    """

    def __init__(
        self,
        address: Address,
        message: Open,
        connect_timeout: float,
        reconnect_timeout: float,
        dialer: Dialer | None = None,
        *,
        prompt: bool = False,
        wait: bool = True,
        trace: Trace | None = None,
    ) -> None:
        """Connect and open; with `wait` False, `wait_until_open` waits for that. `prompt` as with `SessionProtocol`.

        What is asked for belongs to the call that `trace` records.

        Raises:
            ConnectError: The server could not be reached.
            RefusedError, EnvironmentRaised, EnvironmentLost, MisuseError: The server could not open it.
        """
        self.address = address
        self._process = os.getpid()
        self._trace = trace
        self._protocol = SessionProtocol(message, address, connect_timeout, reconnect_timeout, prompt)
        self._protocol.trace = trace
        self._outstanding = self._protocol.outstanding
        self._reader = Reader(self._protocol, dialer or dialer_for(address), address, connect_timeout)
        weakref.finalize(self, self._reader.close)
        try:
            self._reader.start()
        except BaseException:
            self.close()
            raise
        if wait:
            self.wait_until_open()

    def wait_until_open(self) -> None:
        """Return once it is open; raises as the constructor, and `ClosedEnvironmentError` if it is closed meanwhile."""
        try:
            self.opened: Opened = wait_for(self._open, [self], self.bell, None)
        except BaseException:
            self.close()
            raise

    def _open(self) -> Opened | None:
        self.check()
        return self._protocol.opened

    @property
    def bell(self) -> Bell:
        """Rung when there may be something to `peek` at. Settable: several sessions may share one."""
        return self._reader.bell

    @bell.setter
    def bell(self, bell: Bell) -> None:
        self._reader.bell = bell

    @property
    def attached(self) -> bool:
        """Whether the server can be reached, as far as is known, and has the session."""
        protocol = self._protocol
        return protocol.lost is None and protocol.phase is Phase.ATTACHED

    @property
    def draining(self) -> bool:
        """Whether the server has said that it is going away."""
        return self._protocol.draining

    def on_draining(self, tell: Callable[[], None]) -> None:
        """Let `tell` be called, in the session's own thread, when the server says that; at once if it has."""
        self._protocol.on_draining = tell
        if self.draining:
            tell()

    @property
    def outstanding(self) -> Outstanding:
        """Requests and answers, to be looked at."""
        return self._outstanding

    @property
    def highest(self) -> int:
        """The number of the last request that was sent, or is on its way."""
        return self._outstanding.highest

    def send(self, request: Request, about: Any = None) -> None:
        """Give `request` its number and send it; answers come through `wait`, and with them `about`.

        Raises:
            gymnasium.error.ClosedEnvironmentError: The session was closed.
            RemoteGymError: The session is lost, or this process has forked.
        """
        self.check()
        request.number = self._outstanding.highest + 1
        if self._trace is not None:
            request.traceparent = self._trace.traceparent
        data = pack_client(request)
        failpoints.hit("client.request.send")
        self._outstanding.add(request.number, request.indices, data, about)
        self._reader.flush()
        if self._trace is not None:
            self._trace.sent()
        failpoints.hit("client.request.sent")

    def peek(self) -> Arrival | None:
        """Return the oldest answer that is here and was not taken; None if there is none.

        Raises:
            gymnasium.error.ClosedEnvironmentError: The session was closed, before or in another thread meanwhile.
            SessionLost: The server no longer holds the session, or was unreachable for too long.
            ProtocolError: The server sent what the contract does not allow; the session is of no use any more.
            RemoteGymError: This process has forked.
        """
        protocol, inbox = self._protocol, self._outstanding.inbox
        lost = protocol.lost  # looked at before the inbox: what came before the loss is read first
        if protocol.closing or self._process != os.getpid():
            self.check()
        if inbox and not protocol.distrusted:
            failpoints.hit("client.answer.received")
            return inbox[0]
        if lost is not None:
            raise lost
        return None

    def wait(self, timeout_seconds: float | None = None) -> Arrival:
        """Return the oldest answer that was not taken, of whichever request, once there is one.

        Raises:
            TimeoutError: None came in time; nothing is lost, the next call gets it.
            RemoteGymError, gymnasium.error.ClosedEnvironmentError: As `peek`.
        """
        return wait_for(self.peek, (self,), self.bell, timeout_seconds)

    def took(self, answer: Answer) -> None:
        """Take note that `answer`, the oldest, was dealt with; until then `wait` returns it again."""
        outstanding = self._outstanding
        if outstanding.inbox and outstanding.inbox[0].answer is answer:  # another one does no harm
            outstanding.popped += outstanding.inbox.popleft().size
        if self._reader.wants_room:
            self._reader.call()

    def unread(self) -> list[Arrival]:
        """Return all answers that are here and were not taken, also of a session that is lost."""
        return list(self._outstanding.inbox)

    @property
    def next_unread(self) -> Arrival | None:
        """What `took` would forget; None: there is nothing."""
        inbox = self._outstanding.inbox
        return inbox[0] if inbox else None

    def unanswered(self) -> list[tuple[Any, Indices]]:
        """Return of each request whose answer is not here: what was noted with it, and for whom it is missing."""
        return self._outstanding.unanswered()

    @property
    def waiting(self) -> bool:
        """Whether answers are here that were not taken, or are to come."""
        return bool(self._outstanding)

    def check(self) -> None:
        """Raise what every use of this session would raise now, if anything.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed.
            RemoteGymError: It is lost, or this process has forked.
        """
        if self._protocol.closing:
            raise gymnasium.error.ClosedEnvironmentError("the session was closed, maybe by another thread")
        if self._protocol.lost is not None:
            raise self._protocol.lost
        if self._process != os.getpid():
            raise RemoteGymError(
                "this client was opened before a fork and belongs to the parent process; make a new one in the child"
            )

    def misread(self, error: Exception) -> Exception:
        """End the session, whose server does not keep to the contract; return the exception to raise."""
        failure = self._protocol.misread(error)
        if self._protocol.over:
            self._protocol.distrusted = True
            self._reader.abort()
        return failure

    def expect(self) -> float | None:
        """Take note that somebody waits; return for how many seconds at a time, None: no limit. See `wait_for`."""
        protocol = self._protocol
        protocol.awaited = True
        if self._trace is not None:
            self._trace.waits()
        if protocol.phase is Phase.ATTACHED and self._outstanding.carried == self._outstanding.highest:  # as usual
            return None
        self._reader.flush()  # makes up for what an interrupt, or a fork, has left undone
        return protocol.wait_limit

    def stand_in(self, seconds: float | None) -> None:
        """Read the answer in the calling thread, if that is possible; see `Reader` and `wait_for`.

        Raises:
            RemoteGymError: This thread does so already: a signal's handler has come by, and waits for the same.
        """
        self._reader.stand_in(seconds)

    def expect_nothing(self) -> None:
        """Take note that nobody waits any more; see `wait_for`."""
        self._protocol.awaited = False
        if self._trace is not None:
            self._trace.waited()

    def waited(self, seconds: float) -> None:
        """Take note of how long somebody has waited for this session; see `wait_for`."""
        self._reader.waited(seconds)
        if self._protocol.lost is not None:
            self.bell.ring()  # whoever looks at those that have rung alone is to see it

    def begin_close(self) -> None:
        """Begin what `close` does: of several sessions, begin all before closing one."""
        self._reader.begin_close()

    def close(self) -> None:
        """End the session: its environments are closed. Work in flight is abandoned."""
        self._reader.close()

    def __repr__(self) -> str:
        """Return what an operator wants to know."""
        protocol = self._protocol
        state = "closed" if protocol.closing else "lost" if protocol.lost is not None else protocol.phase.name.lower()
        return (
            f"<Session {self.address} [{state}, request {self.highest}, {len(self._outstanding.inbox)} answers unread]>"
        )


def wait_for(
    look: Callable[[], Found | None], sessions: Sequence[Session], bell: Bell, timeout_seconds: float | None
) -> Found:
    """Return what `look` finds in the end: at once, or after a bell that `sessions` share has been rung.

    The one place where a caller waits for a server. Only here the patience of sessions without a carrier runs.

    Raises:
        TimedOut: It found nothing in time.
    """
    if (found := look()) is not None:
        return found
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    may_stand_in = len(sessions) == 1  # once: what does not come then is unusual, or long in coming
    try:
        while True:
            began = time.monotonic()
            if deadline is not None and began >= deadline:
                raise TimedOut(f"nothing came within {timeout_seconds:g} s; nothing is lost, it is still pending")
            limit = None if deadline is None else deadline - began
            for session in sessions:
                if (own := session.expect()) is not None:
                    limit = own if limit is None else min(own, limit)
            if may_stand_in:
                may_stand_in = False
                sessions[0].stand_in(limit)
            else:
                bell.wait(limit)
            if (found := look()) is not None:
                return found
            spent = time.monotonic() - began
            for session in sessions:
                session.waited(spent)
    finally:
        for session in sessions:
            session.expect_nothing()
