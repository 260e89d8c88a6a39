"""Trainer process: the one thread of a session. It owns the carrier: begins it, reads it, replaces it, ends it.

`SessionProtocol` says what is to be done; this does it. The thread lives from the opening of the session to its end,
but for forks: it ends before one, and begins again when the session is next used. Who touches the carrier when::

    the thread    always: begins it, receives, tends, ends it; what is received goes through `Delivery`
    a caller      sends (`flush`), with `_sending` held, as does the thread
    a caller      receives (`stand_in`) while it waits for one answer and the thread waits for the carrier
    anyone        ends it (`abort`): the thread finds out
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time

from remote_gym import failpoints
from remote_gym.client.carriers.carrier import Carrier, CarrierEnded, Dialer
from remote_gym.client.failures import used_within
from remote_gym.client.session.bell import Bell
from remote_gym.client.session.delivery import Delivery, landing
from remote_gym.client.session.living import RELEASE_TIMEOUT_SECONDS, lock, readers, serving
from remote_gym.client.session.protocol import Phase, SessionProtocol
from remote_gym.errors import RemoteGymError
from remote_gym.messages import Attached, Close, Opened, ServerMessage
from remote_gym.texts import printable
from remote_gym.wire.codec import FRAGMENT_BYTES, pack_client, split

logger = logging.getLogger("remote_gym.client")

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long `close` waits for the server's word; the environments are closed by the lease otherwise."""

MAX_UNREAD_BYTES = 256 * 2**20
"""Answers that nobody has read yet; beyond it nothing more is taken from the carrier, whose flow control stops the
server. Several of the largest messages: answers to what was asked never come near it, and a flood must not fill our
memory."""

TEND_SECONDS = 1.0
"""How often a carrier is tended from which nothing is taken."""

_CLOSE = pack_client(Close())


class Reader:
    """The performing half of a session.

    Attributes:
        protocol: The deciding half.
        wants_room: Whether the thread waits for the inbox to have room; `call` lets it look.
        bell: Rung when an answer is in the inbox, or whoever waits has something else to look at. May be replaced by
            one that several sessions share; after that, look at the inbox before waiting.
    """

    def __init__(self, protocol: SessionProtocol, dialer: Dialer, peer: object, connect_timeout: float) -> None:
        """Prepare; `start` starts the thread."""
        self.protocol = protocol
        self.bell = Bell()
        self.wants_room = False
        self._dialer = dialer
        self._peer = peer
        self._connect_timeout = connect_timeout
        self._process = os.getpid()
        self._thread: threading.Thread | None = None  # the newest: an interrupt may have kept one from starting
        self._running = False  # set by the thread itself
        self._carrier: Carrier | None = None
        self._delivery = Delivery(protocol)  # of what it brings
        self._sending = threading.RLock()
        """Protects the carrier's order of frames: held by whoever gives it some, and while it, or closing, begins.
        Reentrant: a signal's handler may close from within `flush`, which then goes on, and says so."""
        self._flushing = self._standing_in = 0  # which thread does
        self._in_doubt = False  # an interrupt came while a frame was given to the carrier: maybe it has it, maybe not
        self._wake = Bell()  # for the thread, while it waits for anything but the carrier
        self._pausing = False  # it is to end, for a fork
        self._deadline = 0.0  # of closing, on the monotonic clock
        readers.add(self)

    def start(self) -> None:
        """See to it that the thread runs, if it is of any use."""
        if self._running or self._process != os.getpid():
            return
        with lock:
            if self._running or self not in readers or (self._thread is not None and self._thread.is_alive()):
                return
            self._pausing = False
            self.protocol.awoke(time.monotonic())
            self._thread = thread = threading.Thread(target=self._run, name="remote_gym session", daemon=True)
        # Not under the lock: before `start` returns, the garbage collector may close another session in the new thread.
        try:
            thread.start()
        except RuntimeError as error:  # there are no more to be had, or the interpreter ends
            self.protocol.lose(RemoteGymError(f"a session needs a thread of its own: {error}"))
            self._finish()

    # What the caller asks for

    def flush(self) -> None:
        """Give the carrier the requests that it is to carry and does not have; without one, let the thread see to it.

        An interrupt leaves everything as it is, but for a doubt about the last frame, and then attaching finds out what
        the server has got.
        """
        if self._flushing == threading.get_ident():
            return
        with self._sending:
            self._flushing = threading.get_ident()
            try:
                if (carrier := self._carrier) is not None:
                    self._give(carrier)
            finally:
                self._flushing = 0
        if carrier is None:
            self.call()

    def _give(self, carrier: Carrier) -> None:
        protocol, outstanding = self.protocol, self.protocol.outstanding
        if self._in_doubt and not protocol.ending:
            carrier.close()
            return
        self._in_doubt = True
        if not protocol.ending and protocol.phase is Phase.ATTACHED:
            while outstanding.carried < outstanding.highest:
                if (sent := outstanding.sent.get(outstanding.carried + 1)) is not None:
                    if len(sent.data) <= FRAGMENT_BYTES:  # the usual case
                        carrier.send(sent.data)
                    else:
                        for piece in split(sent.data, pack_client):
                            carrier.send(piece)
                outstanding.carried += 1
        if protocol.ending and protocol.is_to_say_close:
            carrier.send(_CLOSE)
            protocol.close_sent = True
        self._in_doubt = False

    def call(self) -> None:
        """Let the thread look what is to be done."""
        self.start()
        self._wake.ring()

    def stand_in(self, seconds: float | None) -> None:
        """Read the carrier in the thread's stead, while that waits for it: nobody has to be woken by somebody else.

        For who waits for the answer to a single request, instead of waiting for the bell. Returns once it is in the
        inbox, or after `seconds`, or as soon as there is anything else to see or to do: that is left to the thread.
        """
        if self._standing_in == threading.get_ident():
            raise used_within()  # a signal's handler
        carrier, sent = self._carrier, self.protocol.outstanding.sent
        if carrier is not None and len(sent) == 1:
            self._standing_in = threading.get_ident()
            try:
                carrier.stand_in(landing, sent, self._delivery.take_usual, seconds)
            finally:
                self._standing_in = 0

    def waited(self, seconds: float) -> None:
        """Take note of how long somebody has waited; the session may be lost by that."""
        self.protocol.waited(seconds, time.monotonic())
        if self.protocol.over:
            self.abort()
        else:
            self.start()  # a fork may have ended the thread meanwhile

    def abort(self) -> None:
        """End the carrier, or the dialing of one, at once; the thread goes on as the protocol says."""
        self._dialer.interrupt()
        if (carrier := self._carrier) is not None:
            carrier.close()
        self._wake.ring()
        self.bell.ring()

    # End

    def begin_close(self) -> None:
        """Let the session end; the thread does the rest, also if nobody waits for it."""
        protocol = self.protocol
        if protocol.closing or self._process != os.getpid():
            return
        speaks = not protocol.over and protocol.phase is not Phase.NEW
        if speaks:
            failpoints.hit("client.close.send")
        self._deadline = time.monotonic() + CLOSE_TIMEOUT_SECONDS
        with self._sending:  # so that it comes before a new carrier is used, or after
            protocol.close(time.monotonic())
        if protocol.over:  # the server has never heard of it
            self._dialer.interrupt()
        self.flush()
        self._wake.ring()
        self.bell.ring()
        if (carrier := self._carrier) is not None:
            carrier.call()
        if speaks:
            failpoints.hit("client.close.sent")

    def close(self) -> None:
        """Let the session end and wait for that, at most until its deadline."""
        self.begin_close()
        self.flush()  # an interrupt may have come before it was done
        thread = self._thread
        if thread is None or self._process != os.getpid() or thread is threading.current_thread() or serving():
            return  # the parent's to close; or the garbage collector has come by in that very thread, or a server's
        if threading.get_ident() in (self._flushing, self._standing_in) or not thread.is_alive():
            return  # a signal's handler, in the middle of what the thread needs to go on; or it has ended
        if self.protocol.orphaned or (self.protocol.phase is Phase.NEW and self.protocol.lost is None):
            return  # it waits for its server; or for a first answer: there is nothing to end, and it will notice
        thread.join(max(0.0, self._deadline - time.monotonic()))
        if thread.is_alive():
            self.protocol.lose(RemoteGymError("the server did not confirm the end of the session"))
            self.abort()
            thread.join(RELEASE_TIMEOUT_SECONDS)

    def pause(self) -> None:
        """Let the thread end, before a fork; does not wait."""
        self._pausing = True
        self.abort()

    def join(self, timeout_seconds: float) -> None:
        """Wait until a paused thread has ended."""
        if (thread := self._thread) is not None and thread.is_alive() and thread is not threading.current_thread():
            thread.join(timeout_seconds)

    # The thread

    def _run(self) -> None:
        with lock:
            if self._thread is not threading.current_thread():
                return  # another one was started: after an interrupt, or by two callers at once
            self._running = True
        try:
            while self._wait_until_needed():
                self._carry()
        except Exception as error:
            self._fail(error)
        finally:
            self._running = False
            if self.protocol.over:
                self._finish()
            self.bell.ring()

    def _finish(self) -> None:
        with contextlib.suppress(Exception):
            self._dialer.close()
        readers.discard(self)

    def _wait_until_needed(self) -> bool:
        """Return True when a carrier is to begin, False when the thread is to end."""
        protocol = self.protocol
        while not protocol.over and not self._pausing:
            wait = protocol.not_before - time.monotonic() if protocol.needs_carrier else None
            if wait is not None and wait <= 0:
                return True
            self._wake.wait(wait)
        return False

    def _carry(self) -> None:
        """Begin a carrier and read it to its end."""
        protocol = self.protocol
        try:
            if protocol.phase is Phase.NEW:
                self._dialer.wait_until_ready(self._connect_timeout)
                if protocol.closing:
                    return
            carrier = self._begin()
        except CarrierEnded as ended:
            protocol.ended(ended, time.monotonic())
            self.bell.ring()  # it may be lost by that, and this thread goes on
            return
        try:
            self._read(carrier)
        except CarrierEnded as ended:
            self._ended(ended)
        except Exception as error:
            self._fail(error)
        finally:
            self._carrier = None
            carrier.close()
            self.bell.ring()

    def _begin(self) -> Carrier:
        protocol = self.protocol
        carrier = self._dialer.begin()
        opens = protocol.opened is None
        failpoints.hit("client.open.send") if opens else failpoints.hit("client.attach.send")
        with self._sending:
            if protocol.over:  # closed before the server has heard of it
                carrier.close()
                raise CarrierEnded("closed")
            self._in_doubt = False
            carrier.send(protocol.began(time.monotonic()))
            self._delivery = Delivery(protocol)  # first: who stands in takes them in the other order
            self._carrier = carrier
        if protocol.over or self._pausing:  # `abort` may not have seen it
            carrier.close()
        failpoints.hit("client.open.sent") if opens else failpoints.hit("client.attach.sent")
        self.flush()
        return carrier

    def _read(self, carrier: Carrier) -> None:
        protocol, outstanding, delivery = self.protocol, self.protocol.outstanding, self._delivery
        while not protocol.over:
            for one in delivery.messages(carrier.receive(landing)):
                if (took := delivery.take(one)) is not None:
                    if took:
                        self.bell.ring()
                    continue
                protocol.arrived(one, time.monotonic())
                if protocol.over:
                    return
                self._carried(one)
            if outstanding.received - outstanding.popped > MAX_UNREAD_BYTES:
                self._wait_for_room(carrier)

    def _carried(self, message: ServerMessage) -> None:
        if isinstance(message, Opened):
            failpoints.hit("client.open.received")
        elif isinstance(message, Attached):
            failpoints.hit("client.attach.received")
            logger.info("attached to %s again", self._peer)
        self.flush()
        self.bell.ring()

    def _wait_for_room(self, carrier: Carrier) -> None:
        protocol, unread = self.protocol, self.protocol.outstanding
        self.wants_room = True
        while unread.unread_bytes > MAX_UNREAD_BYTES and not (protocol.over or protocol.closing or self._pausing):
            self._wake.wait(TEND_SECONDS)
            carrier.tend()
        self.wants_room = False

    def _ended(self, ended: CarrierEnded) -> None:
        protocol = self.protocol
        if protocol.phase is Phase.ATTACHED:
            failpoints.hit("client.stream.broken")
            expected = self._pausing or protocol.over or protocol.closing
            level = logging.DEBUG if expected else logging.INFO if ended.is_ours else logging.WARNING
            logger.log(level, "the connection to %s broke (%s); attaching again", self._peer, printable(str(ended)))
        protocol.ended(ended, time.monotonic())

    def _fail(self, error: Exception) -> None:
        """End the session by what reading it has raised."""
        if self._pausing:
            return  # by the end of the channel; the next thread finds out
        if self.protocol.opened is None and isinstance(error, RemoteGymError) and self.protocol.phase is Phase.NEW:
            self.protocol.lose(error)  # it could not be reached
        else:
            self.protocol.lose(self.protocol.misread(error))
