"""Trainer process: the carrier that is a TLS connection of the session's own (or a plain one, on this machine).

Frames are those of `wire.direct`. Whoever sends writes at once what the socket takes; what is left is written by the
thread that receives, which waits for the socket and for nobody else. An OpenSSL connection must not be used by two
threads at once, so a lock guards it, and nobody waits for the socket while holding that::

    caller    send: frame -> outbox -> socket, as far as it takes it      lock
    reader    receive: wait (no lock) -> outbox -> socket; socket -> stash or landing      lock, read by read
    anyone    close: the socket is shut down, so a receive that waits ends, and gives the descriptors back
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
import weakref
from collections import deque

from remote_gym.client.carriers.carrier import ENDS, CarrierEnded, End, Landing
from remote_gym.client.carriers.waiting import readiness, said
from remote_gym.errors import ProtocolError
from remote_gym.texts import shortened
from remote_gym.wire.direct import (
    HEADER,
    LAST,
    MAX_CONTROL_BYTES,
    PING,
    PING_SECONDS,
    SILENCE_SECONDS,
    check_length,
    read_ended,
)
from remote_gym.wire.limits import MAX_MESSAGE_BYTES

SLICE_BYTES = 256 * 1024
"""Given to the socket at a time. OpenSSL takes such a piece whole or wants the very same bytes again."""

JOINED_BYTES = 64 * 1024
"""Frames up to this size are copied behind their header, to be one TLS record; larger ones are not copied."""

STASH_BYTES = 32 * 1024
"""Read at once while no frame has begun: a TLS record has 16 KiB at most, and in it may be many small frames."""

_BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
_TORN = -1  # instead of an offset: bytes may have gone, and it was not noted how many


class DirectCarrier:
    """See `Carrier`. Begun with a connection whose greetings have been exchanged.

    Guarantees besides: an interrupt at any point of `send` leaves no half frame behind which another begins, and none
    twice: the carrier ends instead. The peer is taken for dead after `SILENCE_SECONDS` in which it has sent and taken
    nothing, although it was asked.
    """

    def __init__(self, connection: socket.socket) -> None:
        """Take over `connection`, which is closed with this."""
        connection.setblocking(False)
        self._socket = connection
        self._pending = connection.pending if isinstance(connection, ssl.SSLSocket) else None
        self._readiness = readiness(connection)
        self._poll, self._usual = self._readiness.poll, self._readiness.usual
        self._watching = False  # when it can be written
        self._lock = threading.RLock()
        """Protects the socket's TLS state, the outbox's head, and the descriptors' end. Held for no longer than a slice
        takes to encrypt. Reentrant: a signal's handler, or a fork in it, may close from within `send`."""
        self._outbox: deque[bytes] = deque()  # frames, some in two pieces; appended to in one operation each
        self._written = 0  # bytes of the first of them; or `_TORN`
        self._reading_blocks_writing = False  # by OpenSSL's protocol: rarely, if ever
        self._writing_blocks_reading = False
        self._stash = bytearray(STASH_BYTES)
        self._stash_view = memoryview(self._stash)
        self._start = self._end = 0  # of what is in the stash
        self._frame: memoryview | None = None  # begun, not whole
        self._filled = 0
        self._more = False  # decrypted bytes are left in OpenSSL, of which the socket tells nothing
        self._heard = self._spoke = time.monotonic()
        self._asked: float | None = None  # when the first ping was sent that is not answered
        self._receiver = 0  # the thread that has received last
        self._receiving = self._closed = False
        self._broken: str | None = None
        _open.add(self)

    # Sending

    def send(self, frame: bytes) -> None:
        """See `Carrier`."""
        header = HEADER.pack(len(frame))
        with self._lock:
            if len(frame) <= JOINED_BYTES:
                self._outbox.append(header + frame)
            else:
                self._outbox.extend((header, frame))
            self._flush()

    def tend(self) -> None:
        """See `Carrier`."""
        with self._lock:
            if time.monotonic() - self._spoke >= PING_SECONDS:
                self._ping()
            self._flush()

    def _flush(self) -> bool:
        """Write what the socket takes, with the lock held, and let the receiver see to the rest; return if it took any.

        Raises nothing: what is wrong, `receive` says.
        """
        outbox, written, took = self._outbox, self._written, False
        if self._closed or self._broken is not None:
            return False
        if written == _TORN:  # an interrupt, just where it must not be
            self._break("sending was interrupted")
            return False
        try:
            while outbox:
                piece = outbox[0]
                some = piece if len(piece) <= SLICE_BYTES else memoryview(piece)[written : written + SLICE_BYTES]
                if written and some is piece:
                    some = memoryview(piece)[written:]
                self._written = _TORN
                try:
                    sent = self._socket.send(some)
                except _BLOCKED as blocked:
                    self._reading_blocks_writing = isinstance(blocked, ssl.SSLWantReadError)
                    self._written = written
                    break
                took = True
                written += sent
                if written == len(piece):
                    outbox.popleft()
                    written = 0
                self._written = written
        except (OSError, ValueError) as error:  # ValueError: of an SSLSocket without a connection
            self._break(said(error))
            return False
        if took:
            self._spoke = time.monotonic()
        if outbox and not self._closed and self._receiver != threading.get_ident():
            self._readiness.wake()
        return took

    def _ping(self) -> None:
        now = time.monotonic()
        self._spoke = now
        if self._asked is None:
            self._asked = now
        self._outbox.append(PING)

    # Receiving

    def receive(self, landing: Landing) -> bytes | memoryview:
        """See `Carrier`. Of a frame that takes several reads only what the first has brought is copied."""
        self._receiver = threading.get_ident()
        self._receiving = True
        try:
            while True:
                if (frame := self._next_frame(landing)) is not None:
                    return frame
                while not (self._more or self._wait()):
                    self._check_alive()
                self._read()
        finally:
            self._receiving = False
            if self._closed:
                self._release()

    def _next_frame(self, landing: Landing) -> bytes | memoryview | None:
        """Return the next frame as far as it was read; None: more is to be read.

        Raises:
            CarrierEnded: It is the last one.
            ProtocolError: It is none.
        """
        frame = self._frame
        while frame is None:
            start = self._start
            if self._end - start < HEADER.size:
                return None
            (length,) = HEADER.unpack_from(self._stash, start)
            if length & LAST:
                self._take_last(length ^ LAST)
                return None
            self._start = start = start + HEADER.size
            if start + length <= self._end:
                if length:
                    self._start = end = start + length
                    return self._stash_view[start:end].tobytes()
                continue  # an answer to a ping
            if length > MAX_MESSAGE_BYTES:
                check_length(length)
            frame = self._frame = landing(length)
            self._filled = 0
        size, filled = len(frame), self._filled
        if (count := min(size - filled, self._end - self._start)) > 0:
            frame[filled : filled + count] = self._stash_view[self._start : self._start + count]
            self._start += count
            filled += count
        if filled < size:
            self._filled = filled
            return None
        self._frame = None
        return frame

    def _take_last(self, length: int) -> None:
        """Raise what the last frame says, if it is whole."""
        if length > MAX_CONTROL_BYTES:
            raise ProtocolError(f"the last frame has {length:,} bytes, the most is {MAX_CONTROL_BYTES:,}")
        begin = self._start + HEADER.size
        if self._end - begin >= length:
            ended = read_ended(bytes(self._stash_view[begin : begin + length]))
            raise CarrierEnded(shortened(ended.detail), ENDS.get(ended.code, End.OTHER))

    def _read(self) -> None:
        """Read what is there: once; into a frame that has begun up to a slice, without asking the system in between."""
        frame = self._frame
        into = self._room() if frame is None else frame[self._filled :]
        size, filled = len(into), 0
        with self._lock:
            if self._closed or self._broken is not None:
                raise CarrierEnded(self._broken or "closed")
            self._more = False
            try:
                while True:
                    count = self._socket.recv_into(into[filled:] if filled else into)
                    if not count:
                        raise CarrierEnded(self._broken or "the connection ended")
                    filled += count
                    if filled == size:
                        self._more = self._pending is not None and self._pending() > 0
                        break
                    if frame is None:
                        break
                    if filled >= SLICE_BYTES:
                        self._more = True
                        break
            except ssl.SSLWantWriteError:
                self._writing_blocks_reading = True
            except _BLOCKED:
                pass
            except (OSError, ValueError) as error:
                raise CarrierEnded(self._broken or said(error)) from error
        if not filled:
            return
        self._heard = time.monotonic()
        self._asked = None
        self._reading_blocks_writing = False
        if frame is None:
            self._end += filled
        else:
            self._filled += filled

    def _room(self) -> memoryview:
        """Return where to read to while no frame has begun; what is in the stash moves to its front."""
        left = self._end - self._start
        if self._start:
            self._stash[:left] = self._stash[self._start : self._end]
            self._start, self._end = 0, left
        return self._stash_view[left:]

    def _wait(self) -> bool:
        """Wait for the socket, and write what is left; return whether there may be something to read."""
        if self._closed or self._broken is not None:
            raise CarrierEnded(self._broken or "closed")
        writes = (bool(self._outbox) and not self._reading_blocks_writing) or self._writing_blocks_reading
        if writes is not self._watching:
            self._readiness.watch(writes)
            self._watching = writes
        events = self._poll(max(0.0, self._due() - time.monotonic()) * 1_000)
        readable = events == self._usual or self._readiness.is_readable(events)
        if self._outbox:
            with self._lock:
                if self._flush() and self._outbox:  # it takes more and more: a peer that is busy taking is no dead one
                    self._heard = time.monotonic()
                    self._asked = None
        if self._writing_blocks_reading:
            self._writing_blocks_reading = False
            return True
        return readable

    def _due(self) -> float:
        """Return when the peer is to be asked, or given up."""
        if self._asked is None:
            return self._heard + PING_SECONDS
        return min(self._spoke + PING_SECONDS, self._given_up)

    @property
    def _given_up(self) -> float:
        # Not before it was asked: this process may have been stopped meanwhile.
        assert self._asked is not None
        return max(self._heard, self._asked - PING_SECONDS) + SILENCE_SECONDS

    def _check_alive(self) -> None:
        now = time.monotonic()
        if now < self._due():
            return
        if self._asked is not None and now >= self._given_up:
            raise CarrierEnded(f"the server has sent nothing for {now - self._heard:.0f} s")
        with self._lock:
            self._ping()
            self._flush()

    # The end

    def close(self) -> None:
        """See `Carrier`; without a goodbye of TLS, which could only wait."""
        self._closed = True
        with self._lock:
            self._shut_down()
            if not self._receiving:  # who does receive gives the descriptors back: nobody may wait for another file's
                self._release()

    def _break(self, detail: str) -> None:
        """Let `receive` raise."""
        self._broken = detail
        self._shut_down()

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # an SSLSocket's own drops the state that others use

    def _release(self) -> None:
        with self._lock:
            self._socket.close()
            self._readiness.close()
        _open.discard(self)

    def abandon(self) -> None:
        """In a child after a fork: close the descriptors that it has inherited; the connection is the parent's."""
        self._closed = True
        self._socket.close()  # says nothing: OpenSSL is not asked for a goodbye
        self._readiness.close()


_open: weakref.WeakSet[DirectCarrier] = weakref.WeakSet()
"""Those of this process whose descriptors may be open."""


def _after_in_child() -> None:
    for carrier in list(_open):
        carrier.abandon()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_in_child)
