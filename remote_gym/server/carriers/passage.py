"""Server process: a connection passed through, byte by byte, to gRPC behind the door.

gRPC listens on a unix-domain socket that only this user reaches. What a client and gRPC say to each other, TLS
included, is copied both ways as it comes, on the loop and without a task: `select` -> `recv_into` -> `send`, in the
usual case nothing is kept. Who does not read holds back the other side, but for one buffer.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import select
import socket
import sys

from remote_gym.server.carriers.admission import Visitor
from remote_gym.server.private_folder import PrivateFolder

BUFFER_BYTES = 1 << 18
"""What one wakeup copies at most, and what is kept at most of a direction whose reader is slow."""

LAST_BYTES_SECONDS = 10.0
"""How long a client that does not read may take for the last bytes, once gRPC has gone."""

GOODBYE_SECONDS = 0.1
"""How long clients may take to close their sides at a server's end."""

WATCH_SECONDS = 5.0
"""How often all connections are asked whether gRPC is still there."""

DESCRIPTORS = 2
"""What passing through takes besides the connection: both ends of the one to gRPC."""

_IS_LINUX = sys.platform == "linux"


class Passages:
    """All connections passed through, and the folder where gRPC listens for them; `close` removes it.

    Attributes:
        peers: The true peer by the name under which gRPC knows it.
        visitors: Who that is, likewise.
        running: The connections.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the folder, with mode 0700.

        Raises:
            OSError: It cannot be made anywhere; says what to do.
        """
        self.peers: dict[str, str] = {}
        self.visitors: dict[str, Visitor] = {}
        self.running: set[Passage] = set()
        self.loop = loop
        self.buffer = memoryview(bytearray(BUFFER_BYTES))
        self._folder = PrivateFolder()
        self._numbers = itertools.count()
        self._watch: asyncio.TimerHandle | None = None

    def path(self, name: str) -> str:
        """Return the path of the socket called `name`."""
        return os.path.join(self._folder.path, name)

    def begin(self, connection: socket.socket, visitor: Visitor, path: str) -> Passage:
        """Pass `connection` through to the socket at `path`.

        Raises:
            OSError: gRPC cannot be reached, or there are no descriptors left; the connection is still the caller's.
        """
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            inner.setblocking(False)
            with contextlib.suppress(OSError):
                inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * BUFFER_BYTES)
            name = self._name(inner)
            inner.connect(path)
        except OSError:
            inner.close()
            raise
        return Passage(self, connection, inner, visitor, name)

    def _name(self, inner: socket.socket) -> str:
        """Give our end of a connection a name, and return it as gRPC will tell it."""
        if _IS_LINUX:
            inner.bind("")  # the kernel chooses one
            return f"unix-abstract:{inner.getsockname()[1:].decode('ascii', 'replace')}"
        path = self.path(str(next(self._numbers)))
        inner.bind(path)
        os.unlink(path)  # the name stays
        return f"unix:{path}"

    def peer(self, name: str) -> str:
        """Return the true peer of the one that gRPC knows as `name`."""
        return self.peers.get(name, name)

    def look_after(self) -> None:
        """Begin to look, now and then, whether gRPC has left a client that does not read: no event tells."""
        if self._watch is None and self.running:
            self._watch = self.loop.call_later(WATCH_SECONDS, self._look)

    def _look(self) -> None:
        self._watch = None
        for passage in self.running:
            passage.look_after_grpc()
        self.look_after()

    async def ended(self, timeout_seconds: float) -> None:
        """Once gRPC has gone, return when its last bytes are on their way, or the time is up; then all have ended."""
        deadline = self.loop.time() + timeout_seconds
        while not all(passage.down.ended for passage in self.running) and self.loop.time() < deadline:
            await asyncio.sleep(0.002)
        # A connection that is closed before its client has closed its own side may lose what it has not read.
        deadline = self.loop.time() + GOODBYE_SECONDS
        while self.running and self.loop.time() < deadline:
            await asyncio.sleep(0.002)
        self.end_all()

    def end_all(self) -> None:
        """End all."""
        for passage in list(self.running):
            passage.end()

    def close(self) -> None:
        """End all and remove the folder; may be called twice."""
        self.end_all()
        if self._watch is not None:
            self._watch.cancel()
        self._folder.close()


class Passage:
    """One connection. Half-closed when one side is; ended by `end`, by both sides, or by an error on either."""

    def __init__(
        self, passages: Passages, connection: socket.socket, inner: socket.socket, visitor: Visitor, name: str
    ) -> None:
        """Begin to copy."""
        self._passages = passages
        self._sockets = (connection, inner)
        self._visitor = visitor
        self._name = name
        self._last_bytes: asyncio.TimerHandle | None = None
        self.answered = False
        self.up = _Way(self, connection, inner, passages)
        self.down = _Way(self, inner, connection, passages)
        visitor.close = self.end
        passages.running.add(self)
        passages.peers[name] = visitor.peer
        passages.visitors[name] = visitor
        passages.look_after()
        self.up.start()
        self.down.start()

    def moved(self, way: _Way) -> None:
        """Be told that bytes come; the client is somebody once it has answered an answer."""
        if way is self.down:
            self.answered = True
        elif self.answered:
            self._visitor.spoke()
            self.up.heard = True
            self.down.heard = True

    def finished(self) -> None:
        """Be told that one direction is at its end, all bytes of it passed on."""
        if self.up.ended and self.down.ended:
            self.end()
        else:
            self.look_after_grpc()

    def look_after_grpc(self) -> None:
        """Let the client have what gRPC said last, but not for ever, if gRPC has closed its side."""
        if self._last_bytes is None and _has_gone(self._sockets[1]):
            self._last_bytes = self._passages.loop.call_later(LAST_BYTES_SECONDS, self.end)

    def end(self) -> None:
        """Close both sides, now; may be called twice."""
        if self not in self._passages.running:
            return
        self._passages.running.discard(self)
        self._passages.peers.pop(self._name, None)
        self._passages.visitors.pop(self._name, None)
        if self._last_bytes is not None:
            self._last_bytes.cancel()
        self.up.stop()
        self.down.stop()
        for side in self._sockets:
            with contextlib.suppress(OSError):  # closing alone does nothing while a forked process holds a copy
                side.shutdown(socket.SHUT_RDWR)
            side.close()
        self._visitor.leave()


class _Way:
    """One direction. Either the source is watched, or the rest of what came from it waits for the target."""

    __slots__ = ("_buffer", "_from", "_loop", "_passage", "_rest", "_source", "_target", "_to", "ended", "heard")

    def __init__(self, passage: Passage, source: socket.socket, target: socket.socket, passages: Passages) -> None:
        self._passage = passage
        self._source = source
        self._target = target
        self._from, self._to = source.fileno(), target.fileno()  # for the loop, which prints what it is given
        self._loop = passages.loop
        self._buffer = passages.buffer
        self._rest = memoryview(b"")
        self.ended = False
        self.heard = False

    def start(self) -> None:
        """Watch the source."""
        self._loop.add_reader(self._from, self._readable)

    def stop(self) -> None:
        """Watch nothing; what is kept is dropped."""
        if not self.ended:
            if self._rest:
                self._loop.remove_writer(self._to)
            else:
                self._loop.remove_reader(self._from)
        self.ended = True

    def _readable(self) -> None:
        try:
            count = self._source.recv_into(self._buffer)
            if not count:
                self._end()
                return
            if not self.heard:
                self._passage.moved(self)
            sent = self._send(self._buffer[:count])
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._passage.end()
            return
        if sent < count:
            self._rest = memoryview(bytes(self._buffer[sent:count]))
            self._loop.remove_reader(self._from)
            self._loop.add_writer(self._to, self._writable)

    def _send(self, data: memoryview) -> int:
        try:
            return self._target.send(data)
        except (BlockingIOError, InterruptedError):
            return 0

    def _writable(self) -> None:
        try:
            self._rest = self._rest[self._send(self._rest) :]
        except OSError:
            self._passage.end()
            return
        if not self._rest:
            self._loop.remove_writer(self._to)
            self._loop.add_reader(self._from, self._readable)

    def _end(self) -> None:
        """Pass the end on: all that came before has been."""
        self._loop.remove_reader(self._from)
        self.ended = True
        with contextlib.suppress(OSError):
            self._target.shutdown(socket.SHUT_WR)
        self._passage.finished()


def _has_gone(side: socket.socket) -> bool:
    """Whether the other end of a unix-domain socket is closed, not only for writing."""
    poll = select.poll()
    poll.register(side, 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))
