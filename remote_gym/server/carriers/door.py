"""Server process: the one door for both carriers. Accepts, looks at the first bytes without taking them, and decides.

A connection that begins as the direct carrier's does is handed over, all others are passed through to gRPC. Whoever has
not said within `DECISION_SECONDS` what it wants is dropped. Nobody waits for anybody: everything is a callback on the
loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from remote_gym.server.carriers.admission import Admission, Visitor, peer_name
from remote_gym.server.carriers.client_hello import MAX_HELLO_BYTES, Judge
from remote_gym.server.carriers.identity import user_of
from remote_gym.server.carriers.passage import DESCRIPTORS, Passages

logger = logging.getLogger("remote_gym.server")

DECISION_SECONDS = 10.0
"""How long the first bytes may take: who connects and says nothing holds a descriptor no longer."""

ACCEPTS_PER_WAKEUP = 2
"""A flood of connections delays whatever else the loop does by no more than it takes to accept so many."""

ACCEPTS_AT_ONCE, ACCEPTS_PER_SECOND = 128, 500
"""How many are accepted as they come; of more the rest waits in the system's queue. Each takes the loop some 0.2 ms."""

PAUSE_SECONDS = 0.1
"""How long nobody is accepted when there are no descriptors left."""

FIRST_LOOK_SECONDS, LONGER, LAST_LOOK_SECONDS = 0.004, 4.0, 1.0
"""First wait for the rest of a beginning, how much longer each is than the last, and the longest. The bytes that are
there make their socket readable already, so no event tells of more."""

COMPLAINT_SECONDS = 60.0
"""How long the log says nothing more of connections that cannot be let in."""

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

HandOver = Callable[[socket.socket, Visitor], None]
"""Takes over a connection, non-blocking, of which nothing has been read. It sets the visitor's `close`, and calls its
`spoke` once the client has said Hello and its `leave` when the connection is closed."""


@dataclass(frozen=True)
class Entrance:
    """One listening socket.

    Attributes:
        listening: Non-blocking, and listening.
        judge: Tells by the first bytes whether a connection is direct.
        behind: The path of the socket on which gRPC waits for all others.
    """

    listening: socket.socket
    judge: Judge
    behind: str


class Door:
    """All entrances of one server. Closed in two steps: `shut`, nobody new comes in; `close`, who is undecided goes."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, admission: Admission, passages: Passages, direct: HandOver | None
    ) -> None:
        """Hand direct connections to `direct`; None: to gRPC, as all others."""
        self.loop = loop
        self.admission = admission
        self.undecided: dict[_Arrival, None] = {}  # the oldest first
        self._expiry: asyncio.TimerHandle | None = None
        self._passages = passages
        self._direct = direct
        self._entrances: list[Entrance] = []
        self._paused: asyncio.TimerHandle | None = None
        self._complained = -COMPLAINT_SECONDS
        self._allowance = float(ACCEPTS_AT_ONCE)
        self._allowed_at = loop.time()

    def open(self, entrance: Entrance) -> None:
        """Let in whoever comes there."""
        self._entrances.append(entrance)
        self.loop.add_reader(entrance.listening.fileno(), self._accept, entrance)

    def shut(self) -> None:
        """Let nobody in any more, and close the listening sockets; may be called twice."""
        if self._paused is not None:
            self._paused.cancel()
        for entrance in self._entrances:
            self.loop.remove_reader(entrance.listening.fileno())
            with contextlib.suppress(OSError):
                entrance.listening.shutdown(socket.SHUT_RDWR)  # a forked process may hold a copy
            entrance.listening.close()
        self._entrances.clear()

    def close(self) -> None:
        """Shut, and drop who has not said yet what it wants."""
        self.shut()
        if self._expiry is not None:
            self._expiry.cancel()
        for arrival in list(self.undecided):
            arrival.close()

    def _accept(self, entrance: Entrance) -> None:
        for _ in range(ACCEPTS_PER_WAKEUP):
            if not self._may_accept():
                self._pause(ACCEPTS_PER_WAKEUP / ACCEPTS_PER_SECOND)
                return
            try:
                connection, address = entrance.listening.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    return  # nobody there; or one who has gone again
                if not self.admission.make_room():
                    self._complain(f"nobody can connect for now: {error.strerror}")
                    self._pause(PAUSE_SECONDS)
                    return
                continue
            self._allowance -= 1.0
            self._let_in(entrance, connection, address)

    def _let_in(self, entrance: Entrance, connection: socket.socket, address: object) -> None:
        connection.setblocking(False)
        visitor = Visitor(self.admission, peer_name(address), connection.close)
        visitor.uid = user_of(connection)
        if not self.admission.admit(visitor):
            self._complain(f"there are as many connections as the process has descriptors for; refused {visitor.peer}")
            connection.close()
            return
        if connection.family != socket.AF_UNIX:
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # reset already, on some systems
                visitor.leave()
                connection.close()
                return
        self.undecided[_Arrival(self, connection, visitor, entrance)] = None
        if self._expiry is None:
            self._expiry = self.loop.call_later(DECISION_SECONDS, self._expire)

    def _expire(self) -> None:
        """Drop those whose time is up, and come back when the next one's is."""
        self._expiry = None
        while self.undecided:
            oldest = next(iter(self.undecided))
            if oldest.deadline > self.loop.time():
                self._expiry = self.loop.call_at(oldest.deadline, self._expire)
                return
            oldest.close()

    def _may_accept(self) -> bool:
        now = self.loop.time()
        more = (now - self._allowed_at) * ACCEPTS_PER_SECOND
        self._allowance, self._allowed_at = min(self._allowance + more, float(ACCEPTS_AT_ONCE)), now
        return self._allowance >= 1.0

    def _pause(self, seconds: float) -> None:
        for entrance in self._entrances:
            self.loop.remove_reader(entrance.listening.fileno())
        self._paused = self.loop.call_later(seconds, self._resume)

    def _resume(self) -> None:
        for entrance in self._entrances:
            self.loop.add_reader(entrance.listening.fileno(), self._accept, entrance)

    def _complain(self, text: str) -> None:
        if self.loop.time() - self._complained >= COMPLAINT_SECONDS:
            self._complained = self.loop.time()
            logger.warning("%s", text)

    def decided(self, connection: socket.socket, visitor: Visitor, entrance: Entrance, is_direct: bool) -> None:
        """Hand over a connection that has said what it wants."""
        try:
            if is_direct and self._direct is not None:
                self._direct(connection, visitor)
            else:
                self._pass_through(connection, visitor, entrance.behind)
        except Exception as error:
            if not isinstance(error, OSError):
                logger.exception("a connection could not be taken over")
            visitor.leave()
            connection.close()

    def _pass_through(self, connection: socket.socket, visitor: Visitor, path: str) -> None:
        if not visitor.widen(DESCRIPTORS):
            self._complain(f"there are as many connections as the process has descriptors for; refused {visitor.peer}")
            raise OSError(errno.EMFILE, "no descriptors left")
        try:
            self._passages.begin(connection, visitor, path)
        except OSError as error:
            if error.errno not in _EXHAUSTED or not self.admission.make_room(but=visitor):
                raise
            self._passages.begin(connection, visitor, path)


class _Arrival:
    """A connection of which nobody knows yet what it wants.

    Attributes:
        deadline: When it is dropped, by the loop's clock.
    """

    def __init__(self, door: Door, connection: socket.socket, visitor: Visitor, entrance: Entrance) -> None:
        self.deadline = door.loop.time() + DECISION_SECONDS
        self._door = door
        self._connection = connection
        self._descriptor = connection.fileno()  # for the loop: it prints what it is given, which a socket makes dear
        self._seen = 0
        self._visitor = visitor
        self._entrance = entrance
        self._wait_seconds = FIRST_LOOK_SECONDS
        self._look_again: asyncio.TimerHandle | None = None
        visitor.close = self.close
        door.loop.add_reader(self._descriptor, self._look)

    def _look(self) -> None:
        try:
            data = self._connection.recv(MAX_HELLO_BYTES, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif len(data) == self._seen or (verdict := self._entrance.judge(data)) is None:
            self._seen = len(data)
            self._wait()
        else:
            self._forget()
            self._door.decided(self._connection, self._visitor, self._entrance, verdict)

    def _wait(self) -> None:
        if self._look_again is None:
            self._door.loop.remove_reader(self._descriptor)
        self._look_again = self._door.loop.call_later(self._wait_seconds, self._look)
        self._wait_seconds = min(LONGER * self._wait_seconds, LAST_LOOK_SECONDS)

    def _forget(self) -> None:
        if self._look_again is None:
            self._door.loop.remove_reader(self._descriptor)
        else:
            self._look_again.cancel()
        del self._door.undecided[self]

    def close(self) -> None:
        """Drop it; may be called twice."""
        if self in self._door.undecided:
            self._forget()
            self._visitor.leave()
            self._connection.close()
