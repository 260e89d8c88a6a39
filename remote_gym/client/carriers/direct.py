"""Trainer process: the carrier that is a TLS connection of the session's own (or a plain one, on this machine).

Frames are those of `wire.direct`. Whoever sends writes at once what the socket takes; what is left is written by the
thread that receives, which waits for the socket and for nobody else. An OpenSSL connection must not be used by two
threads at once, so a lock guards it, and nobody waits for the socket while holding that. A second lock says whose turn
to read it is: the receiver's always, but for the very time in which it waits for the socket::

    caller    send: frame -> outbox -> socket, as far as it takes it      lock
    receiver  receive: wait (no lock) -> outbox -> socket; socket -> stash or landing      turn; lock, read by read
    caller    stand_in, while the receiver waits: wait -> socket -> stash or landing -> the caller      the same
    anyone    close: the socket is shut down, so all waits end, and the receiver gives the descriptors back
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
from collections.abc import Callable, Sized
from functools import partial

from remote_gym.client.carriers.carrier import CLOSED, CUT_SHORT, CarrierEnded, Landing, Take
from remote_gym.client.carriers.incoming import Incoming
from remote_gym.client.carriers.liveness import Liveness, Watch
from remote_gym.client.carriers.turn import Turn
from remote_gym.client.carriers.waiting import Lent, readiness, said
from remote_gym.errors import ProtocolError
from remote_gym.wire.direct import HEADER, PING

SLICE_BYTES = 256 * 1024
"""Given to the socket at a time. OpenSSL takes such a piece whole or wants the very same bytes again."""

JOINED_BYTES = 64 * 1024
"""Frames up to this size are copied behind their header, to be one TLS record; larger ones are not copied."""

STAND_IN_SECONDS = 1.0
"""The most that a caller waits in the receiver's stead, who has more to do than to receive."""

_BLOCKED = (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError)
_TORN = -1  # instead of an offset: bytes may have gone, and it was not noted how many


class DirectCarrier:
    """See `Carrier`. Begun with a connection whose greetings have been exchanged.

    Guarantees besides: an interrupt at any point of `send` leaves no half frame behind which another begins, and none
    twice: the carrier ends instead. The peer is taken for dead after `Watch.silence_seconds` in which it has sent
    and taken nothing, although it was asked.
    """

    def __init__(self, connection: socket.socket, watch: Watch | None = None) -> None:
        """Take over `connection`, which is closed with this."""
        connection.setblocking(False)
        self._socket = connection
        self._pending = connection.pending if isinstance(connection, ssl.SSLSocket) else None
        self._readiness = readiness(connection)
        self._usual, self._lent = self._readiness.usual, self._readiness.lent
        self._watching = False  # when it can be written
        self._lock = threading.RLock()
        """Protects the socket's TLS state, the outbox's head, and the descriptors' end. Held for no longer than a slice
        takes to encrypt. Reentrant: a signal's handler, or a fork in it, may close from within `send`."""
        self._turn = Turn()
        self._outbox: deque[bytes] = deque()  # frames, some in two pieces; appended to in one operation each
        self._written = 0  # bytes of the first of them; or `_TORN`
        self._reading_blocks_writing = False  # by OpenSSL's protocol: rarely, if ever
        self._writing_blocks_reading = False
        self._incoming = Incoming()
        self._more = False  # decrypted bytes are left in OpenSSL, of which the socket tells nothing
        self._peer = Liveness(watch)
        self._receiver = 0  # the thread that has received last, and has the turn
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
            if self._peer.is_long_spoken_to:
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
            self._break(CUT_SHORT)
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
            self._peer.spoke = time.monotonic()
        if outbox and not self._closed and self._receiver != threading.get_ident():
            self._readiness.wake()
        return took

    def _ping(self) -> None:
        self._peer.asks()
        self._outbox.append(PING)

    # Receiving

    def receive(self, landing: Landing) -> bytes | memoryview:
        """See `Carrier`. Of a frame that takes several reads only what the first has brought is copied."""
        if self._receiver != threading.get_ident():
            self._turn.take()
            self._receiver = threading.get_ident()
        self._receiving = True
        try:
            while True:
                if (frame := self._incoming.next(landing)) is not None:
                    return frame
                if not self._more:
                    readable = self._wait()
                    if (frame := self._incoming.next(landing)) is not None:  # left by who stood in
                        return frame
                    if not readable:
                        continue
                self._read()
        except BaseException:
            self._receiver = 0
            self._turn.leave()
            raise
        finally:
            self._receiving = False
            if self._closed:
                self._release()

    def stand_in(self, landing: Landing, awaited: Sized, take: Take, seconds: float | None) -> bool:
        """See `Carrier`."""
        lent, turn, took = self._lent, self._turn, False
        if lent is None:
            return False
        try:
            if not turn.try_to_take():
                return False
            if awaited and self._is_quiet:
                self._if_open(lent.take)
                took = self._receive_here(lent, landing, take, seconds)
                self._if_open(lent.give_back)
            turn.release()
            return took
        except BaseException:
            turn.leave(partial(self._if_open, lent.give_back))
            self.call()
            raise

    @property
    def _is_quiet(self) -> bool:
        """Whether there is nothing to do but to read."""
        over = self._closed or self._broken is not None or self._turn.torn
        return not (over or self._outbox or self._watching or self._writing_blocks_reading)

    def _receive_here(self, lent: Lent, landing: Landing, take: Take, seconds: float | None) -> bool:
        """Return whether a frame came and was taken; whatever else there is, the receiver is called for."""
        turn, incoming, took = self._turn, self._incoming, False
        deadline = time.monotonic() + (STAND_IN_SECONDS if seconds is None else min(seconds, STAND_IN_SECONDS))
        try:
            while not self._writing_blocks_reading:
                turn.torn = True
                if (frame := incoming.next(landing)) is not None:
                    if not (took := take(frame)):
                        incoming.put_back(frame)
                    break
                if not self._more:
                    turn.torn = False
                    if (left := deadline - time.monotonic()) < 0 or lent.poll(left * 1_000) != self._usual:
                        return False
                    turn.torn = True
                self._read()
        except (CarrierEnded, ProtocolError):  # the receiver finds the same
            pass
        turn.torn = False
        if not took or self._more or incoming.start < incoming.end:
            self.call()
        return took

    def call(self) -> None:
        """See `Carrier`."""
        self._if_open(self._readiness.wake)

    def _if_open(self, do: Callable[[], object]) -> None:
        """Do something with the descriptors, unless they are given back, or soon will be."""
        with self._lock:
            if not self._closed:
                do()

    def _read(self) -> None:
        """Read what is there: once; into a frame that has begun up to a slice, without asking the system in between."""
        incoming = self._incoming
        frame = incoming.frame
        into = incoming.stash if frame is None and not incoming.end else incoming.room()
        size, filled = len(into), 0
        with self._lock:
            if self._closed or self._broken is not None:
                raise CarrierEnded(self._broken or CLOSED)
            self._more = False
            try:
                while True:
                    count = self._socket.recv_into(into[filled:] if filled else into)
                    if not count:
                        raise self._ended("the connection ended")
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
                raise self._ended(said(error)) from error
        if not filled:
            return
        self._peer.heard = time.monotonic()
        self._reading_blocks_writing = False
        if frame is None:
            incoming.end += filled
        else:
            incoming.filled += filled

    def _ended(self, detail: str, silent_seconds: float = 0.0) -> CarrierEnded:
        """Return what to raise, now and from now on."""
        self._broken = self._broken or detail
        return CarrierEnded(self._broken, silent_seconds=silent_seconds)

    def _wait(self) -> bool:
        """Wait for the socket, and write what is left; return whether there may be something to read."""
        if self._closed or self._broken is not None:
            raise CarrierEnded(self._broken or CLOSED)
        writes = (bool(self._outbox) and not self._reading_blocks_writing) or self._writing_blocks_reading
        if writes is not self._watching:
            self._readiness.watch(writes)
            self._watching = writes
        self._turn.release()
        events = self._readiness.poll(self._peer.seconds_left)
        if not self._turn.take_back(self.call) or self._turn.torn:
            raise self._ended(CUT_SHORT)
        readable = events == self._usual or self._readiness.is_readable(events)
        if self._outbox:
            with self._lock:
                if self._flush() and self._outbox:  # it takes more and more: a peer that is busy taking is no dead one
                    self._peer.heard = time.monotonic()
        if self._writing_blocks_reading:
            self._writing_blocks_reading = False
            return True
        if not readable:
            self._check_alive()
        return readable

    def _check_alive(self) -> None:
        if not self._peer.is_to_be_asked:
            return
        if (silence := self._peer.silence) is not None:
            raise self._ended(silence, time.monotonic() - self._peer.heard)
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
