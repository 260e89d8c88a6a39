"""Parent side: file descriptors on their way to a worker, in order and without ever blocking the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable

logger = logging.getLogger("remote_gym.pool")

_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class DescriptorSender:
    """Sends descriptors over a socket of their own.

    The socket holds a few hundred of them, and a busy worker takes none out. What does not fit follows in order, and
    the worker waits for it.
    """

    def __init__(self, name: str, sock: socket.socket, kill: Callable[[], None]) -> None:
        """Take over `sock`; `kill` ends the worker `name`, which would wait for ever for what cannot be sent."""
        self._name = name
        self._socket = sock
        self._kill = kill
        self._unsent: deque[int] = deque()
        sock.setblocking(False)
        if hasattr(socket, "SO_PASSCRED"):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def peer(self) -> int | None:
        """Return the process id of the worker, which has just sent a byte; None where the kernel does not tell.

        The kernel's word: in a namespace of its own a worker has another number than here.
        """
        if not hasattr(socket, "SCM_CREDENTIALS"):
            return None
        with contextlib.suppress(OSError):
            _, told, _, _ = self._socket.recvmsg(1, socket.CMSG_SPACE(_CREDENTIALS.size))
            for level, kind, data in told:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    pid, _, _ = _CREDENTIALS.unpack_from(data)
                    return int(pid) or None
        return None

    def send(self, descriptor: int) -> None:
        """Hand over `descriptor`; the caller may close its own at once."""
        try:
            if not self._unsent:
                socket.send_fds(self._socket, [b"\0"], [descriptor])
                return
        except OSError:
            pass  # full, or worse: that is found out again below
        try:
            self._unsent.append(os.dup(descriptor))
        except OSError as error:
            logger.error("%s is killed: a descriptor could not be handed over: %s", self._name, error)
            self._kill()
        self._send_rest()

    def _send_rest(self) -> None:
        loop, unsent = asyncio.get_running_loop(), self._unsent
        try:
            while unsent:
                socket.send_fds(self._socket, [b"\0"], [unsent[0]])
                os.close(unsent.popleft())
        except BlockingIOError:
            loop.add_writer(self._socket, self._send_rest)
            return
        except OSError as error:
            if not isinstance(error, ConnectionError):  # which says that it has just died
                logger.error("%s is killed: a descriptor could not be handed over: %s", self._name, error)
            self._kill()
        loop.remove_writer(self._socket)

    def close(self) -> None:
        """Close the socket and what was not sent."""
        asyncio.get_running_loop().remove_writer(self._socket)
        self._socket.close()
        while self._unsent:
            os.close(self._unsent.popleft())
