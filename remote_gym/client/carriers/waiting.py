"""Trainer process: wait for one socket, or for another thread's word."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from typing import Protocol


class Readiness(Protocol):
    """How the operating system is asked. One thread waits; `wake` may come from any other."""

    def wait(self, writable: bool, timeout_seconds: float) -> bool:
        """Return True once the socket is readable, or over; False on anything else that ends the wait.

        Args:
            writable: Whether to wake up also when the socket takes bytes.
            timeout_seconds: How long to wait at most.
        """

    def wake(self) -> None:
        """Let the wait that goes on, or else the next one, end now. Not while it is being closed."""

    def close(self) -> None:
        """Give the descriptors back, but for the socket's; nobody may wait then."""


class _Polled:
    """Linux: `select.poll` and an eventfd, one descriptor."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection.fileno()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)
        self._writable = False

    def wait(self, writable: bool, timeout_seconds: float) -> bool:
        if writable is not self._writable:
            self._poll.modify(self._socket, select.POLLIN | (select.POLLOUT if writable else 0))
            self._writable = writable
        readable = False
        for descriptor, event in self._poll.poll(max(0.0, timeout_seconds) * 1_000):
            if descriptor == self._bell:
                with contextlib.suppress(BlockingIOError):
                    os.eventfd_read(self._bell)
            else:
                readable = event & ~select.POLLOUT != 0
        return readable

    def wake(self) -> None:
        os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        if self._bell >= 0:
            bell, self._bell = self._bell, -1
            os.close(bell)


class _Selected:
    """Any other system: `select.select` and a pair of sockets."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._heard, self._bell = socket.socketpair()
        self._heard.setblocking(False)
        self._bell.setblocking(False)

    def wait(self, writable: bool, timeout_seconds: float) -> bool:
        written = [self._socket] if writable else []
        readable, _, _ = select.select([self._socket, self._heard], written, [], max(0.0, timeout_seconds))
        if self._heard in readable:
            with contextlib.suppress(BlockingIOError):
                self._heard.recv(4_096)
        return self._socket in readable

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full of wakes that nobody has heard yet: one more says nothing
            self._bell.send(b"!")

    def close(self) -> None:
        self._heard.close()
        self._bell.close()


def readiness(connection: socket.socket) -> Readiness:
    """Return what waits for `connection`, a non-blocking socket."""
    if hasattr(os, "eventfd") and hasattr(select, "poll"):
        return _Polled(connection)
    return _Selected(connection)
