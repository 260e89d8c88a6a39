"""Trainer process: one session, as requests out and answers in. Reconnects; loses nothing and repeats nothing."""

from __future__ import annotations

import logging
import math
import os
import random
import secrets
import threading
import time
from dataclasses import replace

import grpc
import gymnasium

from remote_gym import failpoints
from remote_gym.client.carriers import channel as channels
from remote_gym.client.carriers.call import SessionCall
from remote_gym.client.carriers.channel import Address
from remote_gym.client.failures import refusal, session_lost, unreadable
from remote_gym.client.opened import check_lease, check_opened
from remote_gym.client.session.outstanding import Answer, Outstanding
from remote_gym.errors import ConnectError, ProtocolError, RefusedError, RemoteGymError, SessionLost
from remote_gym.messages import (
    Attach,
    Attached,
    Close,
    Closed,
    Lost,
    Open,
    Opened,
    Refused,
    Request,
    Returned,
    Transition,
)
from remote_gym.texts import printable, shortened
from remote_gym.version import __version__
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN, pack_client

logger = logging.getLogger("remote_gym.client")

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long `close` waits for the server's word; the environments are closed by the lease otherwise."""

BACK_OFF_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4)
"""Waits before the attempts to attach again, the last one repeated; each is jittered by half."""


MAX_UNHEARD = 3
"""How often a session may be taken back from whoever has fenced it: two clients must not fight over it for ever."""


STANDS_SECONDS = 1.0
"""A stream that breaks sooner, without having brought an answer, counts as an attempt to attach that failed."""


class _UnansweredError(Exception):
    """Attach was not answered in time."""


def _back_off(attempt: int) -> float:
    """Return the seconds to wait before an attempt, counted from 0."""
    return BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)] * random.uniform(0.5, 1.5)


def _details(error: Exception) -> str:
    """Return what a stream that ended so says of it."""
    return shortened(str(error.details() if isinstance(error, grpc.Call) else error))


def _is_transient(error: Exception) -> bool:
    """Whether a stream that ended so may succeed when tried again: it was the connection, or the server's end."""
    codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
    return error.code() in codes if isinstance(error, grpc.Call) else isinstance(error, EOFError)


class SessionStream:
    """A session on a server.

    Closing contract: `close` returns within `CLOSE_TIMEOUT_SECONDS`, may be called twice, and always releases.

    Attributes:
        opened: What the server told when the session was opened.
    """

    def __init__(self, address: Address, message: Open, connect_timeout: float, reconnect_timeout: float) -> None:
        """Connect and open.

        Raises:
            ConnectError: The server could not be reached.
            RefusedError, EnvironmentRaised, EnvironmentLost, MisuseError: The server could not open it.
        """
        self.address = address
        self._process = os.getpid()
        self._reconnect_timeout = reconnect_timeout
        self._patience = reconnect_timeout  # what is left of it while the server cannot be reached
        self._outstanding = Outstanding(message.num_envs)
        self._sending = threading.Lock()  # one thread may send while another receives, and so attaches anew
        self._lost: RemoteGymError | None = None
        self._closed = False
        self._shared = channels.acquire(address)
        self._stream: SessionCall | None = None
        self._attaching: SessionCall | None = None  # Attach was sent, the answer is still to come
        self._attached_at = -math.inf  # on the monotonic clock
        self._fruitless = 0  # streams in a row that broke at once
        self._unheard = 0  # attempts to open or attach without an answer, of which the server may hear late
        try:
            self._shared.wait_until_ready(connect_timeout)
            self.opened = self._open(message, connect_timeout)
        except BaseException:
            self._drop_stream()
            channels.release(self._shared)
            raise

    def _open(self, message: Open, timeout_seconds: float) -> Opened:
        """Open; when the stream breaks meanwhile, ask again with the same nonce, which opens nothing twice."""
        message = replace(
            message,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            nonce=secrets.token_bytes(16),
            client_version=__version__,
        )
        data = pack_client(message)
        attempt, deadline = 0, 0.0
        while True:
            began = time.monotonic()
            try:
                return self._ask_to_open(data, message)
            except (grpc.RpcError, EOFError) as error:
                now = time.monotonic()
                if not attempt or now - began > timeout_seconds:  # the stream stood for long: this is another outage
                    attempt, deadline = 0, now + timeout_seconds
                wait = _back_off(attempt)
                if now + wait > deadline or not _is_transient(error):
                    raise self._not_opened(error) from error
            self._give_up_attempt()
            time.sleep(wait)
            attempt += 1

    def _ask_to_open(self, data: bytes, message: Open) -> Opened:
        self._stream = self._new_stream()
        failpoints.hit("client.open.send")
        self._stream.send(data)
        failpoints.hit("client.open.sent")
        try:
            answer = self._stream.receive()
            if isinstance(answer, Opened):
                check_opened(answer, message)
            elif not isinstance(answer, Refused):
                raise ProtocolError(f"{type(answer).__name__} in answer to Open")
        except ProtocolError as error:
            raise unreadable(self.address, error) from error
        if isinstance(answer, Refused):
            raise refusal(answer)
        failpoints.hit("client.open.received")
        return answer

    def _not_opened(self, error: Exception) -> RemoteGymError:
        code = error.code() if isinstance(error, grpc.Call) else None
        detail = _details(error)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return ProtocolError(f"{self.address} is a gRPC server, but not one of remote_gym: {detail}")
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return ProtocolError(f"{self.address} did not understand us: {detail}")
        return ConnectError(str(self.address), f"the connection broke while the session was opened: {detail}")

    # Requests and answers

    def next_number(self) -> int:
        """Return the number for the request that is made next; `send` uses it up, and nothing before that does."""
        return self._outstanding.highest + 1

    def send(self, request: Request) -> int:
        """Send `request` and return its number; the answer comes through `receive`.

        Raises:
            gymnasium.error.ClosedEnvironmentError: The session was closed.
            RemoteGymError: The session is lost, or this process has forked.
        """
        self.check()
        data = pack_client(request)
        failpoints.hit("client.request.send")
        try:
            with self._sending:
                self._outstanding.add(request.number, request.indices, data)
                if self._stream is not None:
                    self._stream.send(data)
        except KeyboardInterrupt:
            self._drop_stream()  # maybe it was not sent: attaching finds out
            raise
        failpoints.hit("client.request.sent")
        return request.number

    def receive(self, timeout_seconds: float | None = None) -> Answer:
        """Return the next answer, of whichever request; say `took` once it has been dealt with.

        Raises:
            TimeoutError: None came in time; nothing is lost, the next call gets it.
            gymnasium.error.ClosedEnvironmentError: The session was closed, before or in another thread meanwhile.
            SessionLost: The server no longer holds the session, or was unreachable for too long.
            ProtocolError: The server sent what the contract does not allow; the session is of no use any more.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            self.check()  # again and again: another thread may close
            if self._stream is None:
                self._reattach(deadline)
            stream = self._stream
            if stream is None:
                continue
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                answer = stream.receive(left)
                failpoints.hit("client.answer.received")
                if isinstance(answer, (Transition, Returned, Refused)) and self._outstanding.expects(answer):
                    self._fruitless = 0
                    return answer
            except ProtocolError as error:
                raise self.misread(error) from error
            except (grpc.RpcError, EOFError) as error:
                self._stream_broke(error)
                continue
            except KeyboardInterrupt:
                # gRPC, or we, may have swallowed an answer: let the next call attach and get it again.
                self._drop_stream()
                raise
            if isinstance(answer, Lost):
                if answer.reason == "FENCED" and self._unheard:
                    # Maybe by an attempt of our own that has arrived late. If it was someone else, they are told now.
                    self._unheard -= 1
                    self._count_fruitless()
                    self._drop_stream()
                    continue
                raise self._lose(session_lost(answer.reason, answer.detail))
            if isinstance(answer, (Opened, Attached, Closed)) and not self._closed:
                raise self.misread(ProtocolError(f"{type(answer).__name__} in the middle of a session"))

    def took(self, answer: Answer) -> None:
        """Take note that `answer` was dealt with; until then it comes again after `interrupted`."""
        self._outstanding.take(answer)

    def interrupted(self) -> None:
        """Let the server send again whatever was not taken: nobody knows how far the last answer got."""
        self._drop_stream()

    @property
    def waiting(self) -> bool:
        """Whether answers are to come."""
        return bool(self._outstanding)

    def check(self) -> None:
        """Raise what every use of this session would raise now, if anything.

        Raises:
            gymnasium.error.ClosedEnvironmentError: It was closed.
            RemoteGymError: It is lost, or this process has forked.
        """
        if self._closed:
            raise gymnasium.error.ClosedEnvironmentError("the session was closed, maybe by another thread")
        if self._lost is not None:
            raise self._lost
        if self._process != os.getpid():
            raise RemoteGymError(
                "this client was opened before a fork and belongs to the parent process; make a new one in the child"
            )

    # Broken streams

    def _count_fruitless(self) -> None:
        """Take note that the stream is over: one that breaks again and again must not be attached without a pause."""
        stood = time.monotonic() - self._attached_at > STANDS_SECONDS
        self._fruitless = 0 if stood else self._fruitless + 1

    def _stream_broke(self, error: Exception) -> None:
        code = error.code() if isinstance(error, grpc.Call) else None
        detail = _details(error)
        failpoints.hit("client.stream.broken")
        self._count_fruitless()
        self._drop_stream()
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise self._lose(ProtocolError(f"{self.address} did not understand us: {detail}")) from error
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise self._lose(
                RefusedError(f"{self.address} refused a message: {detail}", "max_message_bytes")
            ) from error
        expected = self._shared.closed or self._lost is not None  # closed: by a fork of this process
        level = logging.DEBUG if expected else logging.WARNING
        logger.log(level, "the stream to %s broke (%s); attaching again", self.address, printable(detail))

    def misread(self, error: Exception) -> Exception:
        """End the session, whose server does not keep to the contract; return the exception to raise.

        The one point through which everything goes that reading an answer provokes: from here on, whatever uses the
        session raises the same, and nothing waits for what will not come.
        """
        failure = unreadable(self.address, error)
        return self._lose(failure) if isinstance(failure, RemoteGymError) else failure

    def _drop_stream(self) -> None:
        for stream in (self._stream, self._attaching):
            if stream is not None:
                stream.end()
        self._stream = self._attaching = None

    def _give_up_attempt(self) -> None:
        self._drop_stream()
        self._unheard = min(self._unheard + 1, MAX_UNHEARD)

    def _lose(self, error: RemoteGymError) -> RemoteGymError:
        self._lost = error
        self._drop_stream()
        return error

    def _reattach(self, deadline: float | None) -> None:
        """Attach a new stream and ask for what is missing.

        Args:
            deadline: Of the caller, on the monotonic clock; None: none.

        Raises:
            TimeoutError: The caller's deadline has come first; the next call goes on where this one was.
            SessionLost: The server says so, or was unreachable for `reconnect_timeout` seconds.
        """
        began = time.monotonic()
        try:
            self._attach_until(began + self._patience, math.inf if deadline is None else deadline)
        except TimeoutError:
            self._patience -= time.monotonic() - began
            raise
        # A server that takes us back only to break the stream again wears our patience out, too.
        spent = time.monotonic() - began
        self._patience = self._patience - spent if self._fruitless > 1 else self._reconnect_timeout
        self._attached_at = time.monotonic()

    def _attach_until(self, limit: float, deadline: float) -> None:
        attempt, last = max(0, self._fruitless - 1), "no answer"
        while self._stream is None:
            if self._attaching is None:
                wait = _back_off(attempt)
                now = time.monotonic()
                if now + wait > limit and attempt:
                    detail = f"{self.address} could not be reached again for {self._reconnect_timeout:g} s: {last}"
                    raise self._lose(SessionLost("UNREACHABLE", detail))
                if now + wait > deadline:
                    time.sleep(max(0.0, deadline - now))
                    raise TimeoutError
                time.sleep(wait)
                attempt += 1
                self.check()
            try:
                self._attach(max(limit, time.monotonic() + 0.1), deadline)
            except (grpc.RpcError, EOFError, ValueError, _UnansweredError) as error:
                # ValueError: the channel was closed just now, by a fork in another thread
                last = _details(error)
                self._give_up_attempt()
            except ProtocolError as error:
                raise self.misread(error) from error
        logger.info("attached to %s again after %d attempts", self.address, attempt)

    def _new_stream(self) -> SessionCall:
        if self._shared.closed:  # by a fork
            channels.release(self._shared)
            self._shared = channels.acquire(self.address)
        return SessionCall(self._shared)

    def _attach(self, limit: float, deadline: float) -> None:
        """Send Attach, unless that was done, and wait for the answer."""
        opened = self.opened
        if self._attaching is None:
            stream = self._attaching = self._new_stream()
            failpoints.hit("client.attach.send")
            missing = self._outstanding.missing()
            message = Attach(opened.session_id, opened.token, opened.server_epoch, opened.protocol, missing)
            stream.send(pack_client(message))
            failpoints.hit("client.attach.sent")
        try:
            answer = self._attaching.receive(max(0.0, min(limit, deadline) - time.monotonic()))
        except TimeoutError:
            if deadline <= limit:
                raise
            raise _UnansweredError("no answer") from None
        except KeyboardInterrupt:
            self._drop_stream()  # gRPC may have swallowed the answer
            raise
        if isinstance(answer, Lost):
            raise self._lose(session_lost(answer.reason, answer.detail))
        if not isinstance(answer, Attached):
            raise ProtocolError(f"{type(answer).__name__} in answer to Attach")
        check_lease(answer.lease_seconds)
        if answer.highest > self._outstanding.highest:
            raise ProtocolError(
                f"the server has got request {answer.highest}, the last was {self._outstanding.highest}"
            )
        failpoints.hit("client.attach.received")
        with self._sending:
            for data in self._outstanding.above(answer.highest):
                self._attaching.send(data)
            self._stream, self._attaching = self._attaching, None

    # End

    def close(self) -> None:
        """End the session: its environments are closed. Work in flight is abandoned."""
        if self._closed:
            return
        self._closed = True
        if self._process != os.getpid():
            return  # the parent's to close
        try:
            if self._stream is not None and self._lost is None:
                self._say_goodbye(self._stream)
        finally:
            self._drop_stream()
            channels.release(self._shared)

    @staticmethod
    def _say_goodbye(stream: SessionCall) -> None:
        deadline = time.monotonic() + CLOSE_TIMEOUT_SECONDS
        failpoints.hit("client.close.send")
        stream.send(pack_client(Close()))
        stream.half_close()
        failpoints.hit("client.close.sent")
        try:
            # Both bounds: answers that are here already come in no time, however many there are.
            while (left := deadline - time.monotonic()) > 0 and not isinstance(stream.receive(left), (Closed, Lost)):
                pass
        except (grpc.RpcError, EOFError, TimeoutError, RemoteGymError):
            pass  # the lease will end it
