"""Trainer process: wait for one socket, or for another thread's word."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Protocol

from remote_gym.texts import shortened

Events = list[tuple[int, int]]
"""Descriptors, and what there is to see of each, in the bits of `select.poll`."""


class Readiness(Protocol):
    """How the operating system is asked. One thread waits; `wake` may come from any other.

    Attributes:
        usual: What `poll` returns if the socket is readable, or over, and nobody has called.
        lent: What another thread needs to wait in its stead; None where the system cannot lend a socket.
    """

    usual: Events
    lent: Lent | None

    def poll(self, timeout_seconds: float) -> Events:
        """Wait, at most for so long, and return what there is to see."""

    def watch(self, writable: bool) -> None:
        """From now on see also, or no longer, when the socket takes bytes."""

    def is_readable(self, events: Events) -> bool:
        """Return whether the socket is readable, or over; take note of whoever has called."""

    def wake(self) -> None:
        """Let the wait that goes on, or else the next one, end now. Not while it is being closed."""

    def close(self) -> None:
        """Give the descriptors back, but for the socket's; nobody may wait then."""


class Lent:
    """A socket taken out of the wait of the thread that has it, which goes on waiting, and is not woken by that.

    That thread, and who borrows, still hear of the connection's end and of `wake`. The system's own functions, since a
    step calls each once.

    Attributes:
        take: Borrow it.
        poll: Wait for it, or a word, at most for so many milliseconds; return what there is to see.
        give_back: Let the thread wait for it again, to read it; wakes that at once if there is something to read.
    """

    def __init__(self, epoll: select.epoll, socket: int, bell: int) -> None:
        """Prepare to lend `socket`, which `epoll` waits for."""
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        poll.register(bell, select.POLLIN)
        self.take: Callable[[], object] = partial(epoll.modify, socket, 0)
        self.poll: Callable[[float], Events] = poll.poll
        self.give_back: Callable[[], object] = partial(epoll.modify, socket, select.EPOLLIN)


class _Polled:
    """Linux: an epoll, which another thread may change while one waits, and an eventfd: two descriptors."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection.fileno()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._socket, select.EPOLLIN)
        self._epoll.register(self._bell, select.EPOLLIN)
        self.usual: Events = [(self._socket, select.EPOLLIN)]
        self.lent: Lent | None = Lent(self._epoll, self._socket, self._bell)

    def poll(self, timeout_seconds: float) -> Events:
        return self._epoll.poll(max(0.0, timeout_seconds), 2)

    def watch(self, writable: bool) -> None:
        self._epoll.modify(self._socket, select.EPOLLIN | (select.EPOLLOUT if writable else 0))

    def is_readable(self, events: Events) -> bool:
        seen = dict(events)
        if self._bell in seen:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        return seen.get(self._socket, 0) & ~select.EPOLLOUT != 0

    def wake(self) -> None:
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        if self._bell >= 0:
            bell, self._bell = self._bell, -1
            self._epoll.close()
            os.close(bell)


class _Selected:
    """Any other system: `select.select` and a pair of sockets."""

    _READABLE, _WRITABLE = 1, 4

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._heard, self._bell = socket.socketpair()
        self._heard.setblocking(False)
        self._bell.setblocking(False)
        self._written: list[socket.socket] = []
        self.usual: Events = [(connection.fileno(), self._READABLE)]
        self.lent: Lent | None = None

    def poll(self, timeout_seconds: float) -> Events:
        read, written, _ = select.select([self._socket, self._heard], self._written, [], max(0.0, timeout_seconds))
        return [(one.fileno(), self._READABLE) for one in read] + [(one.fileno(), self._WRITABLE) for one in written]

    def watch(self, writable: bool) -> None:
        self._written = [self._socket] if writable else []

    def is_readable(self, events: Events) -> bool:
        if (self._heard.fileno(), self._READABLE) in events:
            with contextlib.suppress(BlockingIOError):
                self._heard.recv(4_096)
        return (self._socket.fileno(), self._READABLE) in events

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of wakes that nobody has heard yet: one more says nothing
            self._bell.send(b"!")

    def close(self) -> None:
        self._heard.close()
        self._bell.close()


def readiness(connection: socket.socket) -> Readiness:
    """Return what waits for `connection`, a non-blocking socket."""
    if hasattr(os, "eventfd") and hasattr(select, "epoll"):
        return _Polled(connection)
    return _Selected(connection)


def said(error: Exception) -> str:
    """Return what an error of a socket or of TLS says, for people."""
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS: {error.reason.replace('_', ' ').lower()}"
    return getattr(error, "strerror", None) or shortened(str(error)) or type(error).__name__
