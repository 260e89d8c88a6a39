"""Trainer process: one session, as requests out and answers in. Reconnects; loses nothing and repeats nothing."""

from __future__ import annotations

import logging
import os
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import grpc
import gymnasium

import remote_gym
from remote_gym.batches import (
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
from remote_gym.client import channel as channels
from remote_gym.client.call import SessionCall
from remote_gym.client.channel import Address
from remote_gym.client.failures import refusal
from remote_gym.errors import ConnectError, ProtocolError, RefusedError, RemoteGymError, SessionLost
from remote_gym.wire.messages import (
    PROTOCOL_MAX,
    PROTOCOL_MIN,
    pack_client,
)

logger = logging.getLogger("remote_gym.client")

CLOSE_TIMEOUT_SECONDS = 5.0
"""How long `close` waits for the server's word; the environments are closed by the lease otherwise."""

BACK_OFF_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Waits before the attempts to attach again, the last one repeated; each is jittered by half."""

Answer = Transition | Returned | Refused


@dataclass
class _Sent:
    """A request that is not wholly answered: its bytes, to be sent again if the server never got them."""

    data: bytes
    indices: Sequence[int] | None
    missing: set[int] | None  # None until a first part has been answered


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
        self._number = 0
        self._outstanding: dict[int, _Sent] = {}
        self._lost: RemoteGymError | None = None
        self._closed = False
        self._num_envs = message.num_envs
        self._shared = channels.acquire(address)
        self._stream: SessionCall | None = None
        try:
            self._shared.wait_until_ready(connect_timeout)
            self.opened = self._open(message)
        except BaseException:
            self._drop_stream()
            channels.release(self._shared)
            raise

    def _open(self, message: Open) -> Opened:
        message = replace(
            message,
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            nonce=secrets.token_bytes(16),
            client_version=remote_gym.__version__,
        )
        self._stream = SessionCall(self._shared)
        self._stream.send(pack_client(message))
        try:
            answer = self._stream.receive()
        except (grpc.RpcError, EOFError) as error:
            raise self._not_opened(error) from error
        if isinstance(answer, Refused):
            raise refusal(answer)
        if not isinstance(answer, Opened):
            raise ProtocolError(f"the server answered Open with {type(answer).__name__}")
        return answer

    def _not_opened(self, error: Exception) -> RemoteGymError:
        code = error.code() if isinstance(error, grpc.Call) else None
        detail = error.details() if isinstance(error, grpc.Call) else str(error)
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return ProtocolError(f"{self.address} is a gRPC server, but not one of remote_gym: {detail}")
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return ProtocolError(f"{self.address} did not understand us: {detail}")
        return ConnectError(str(self.address), f"the connection broke while the session was opened: {detail}")

    # Requests and answers

    def next_number(self) -> int:
        """Return the number for the request that is made next. Call only when nothing can fail any more."""
        self._number += 1
        return self._number

    def send(self, request: Request) -> int:
        """Send `request` and return its number; the answer comes through `receive`.

        Raises:
            gymnasium.error.ClosedEnvironmentError: The session was closed.
            RemoteGymError: The session is lost, or this process has forked.
        """
        self._check()
        data = pack_client(request)
        self._outstanding[request.number] = _Sent(data, request.indices, None)
        if self._stream is not None:
            self._stream.send(data)
        return request.number

    def receive(self, timeout_seconds: float | None = None) -> Answer:
        """Return the next answer, of whichever request.

        Raises:
            TimeoutError: None came in time; nothing is lost, the next call gets it.
            gymnasium.error.ClosedEnvironmentError: The session was closed, before or in another thread meanwhile.
            SessionLost: The server no longer holds the session, or was unreachable for too long.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        while True:
            self._check()  # again and again: another thread may close
            if self._stream is None:
                self._reattach()
            stream = self._stream
            if stream is None:
                continue
            try:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                answer = stream.receive(left)
            except (grpc.RpcError, EOFError) as error:
                self._stream_broke(error)
                continue
            except KeyboardInterrupt:
                # gRPC may have swallowed an answer: let the next call attach and get it again.
                self._drop_stream()
                raise
            if isinstance(answer, Lost):
                raise self._lose(SessionLost(answer.reason, answer.detail))
            if isinstance(answer, (Transition, Returned, Refused)) and self._expected(answer):
                return answer

    def _expected(self, answer: Answer) -> bool:
        """Take note of what `answer` answers; False if that was known already."""
        sent = self._outstanding.get(answer.number)
        if sent is None:
            return False
        if isinstance(answer, Refused) or (answer.indices is None and sent.missing is None):
            del self._outstanding[answer.number]
            return True
        every = range(self._num_envs)
        if sent.missing is None:
            sent.missing = set(every if sent.indices is None else sent.indices)
        covered = set(every if answer.indices is None else answer.indices)
        if not covered <= sent.missing:
            return False
        sent.missing -= covered
        if not sent.missing:
            del self._outstanding[answer.number]
        return True

    def _check(self) -> None:
        if self._closed:
            raise gymnasium.error.ClosedEnvironmentError("the session was closed, maybe by another thread")
        if self._lost is not None:
            raise self._lost
        if self._process != os.getpid():
            raise RemoteGymError(
                "this client was opened before a fork and belongs to the parent process; make a new one in the child"
            )

    # Broken streams

    def _stream_broke(self, error: Exception) -> None:
        code = error.code() if isinstance(error, grpc.Call) else None
        detail = error.details() if isinstance(error, grpc.Call) else str(error)
        self._drop_stream()
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            raise self._lose(ProtocolError(f"{self.address} did not understand us: {detail}")) from error
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            raise self._lose(
                RefusedError(f"{self.address} refused a message: {detail}", "max_message_bytes")
            ) from error
        level = logging.DEBUG if self._shared.closed else logging.WARNING  # closed: by a fork of this process
        logger.log(level, "the stream to %s broke (%s); attaching again", self.address, detail)

    def _drop_stream(self) -> None:
        if self._stream is not None:
            self._stream.end()
            self._stream = None

    def _lose(self, error: RemoteGymError) -> RemoteGymError:
        self._lost = error
        self._drop_stream()
        return error

    def _reattach(self) -> None:
        """Attach a new stream and ask for what is missing.

        Raises:
            SessionLost: The server says so, or was unreachable for `reconnect_timeout` seconds.
        """
        deadline = time.monotonic() + self._reconnect_timeout
        attempt, last = 0, ""
        while True:
            wait = BACK_OFF_SECONDS[min(attempt, len(BACK_OFF_SECONDS) - 1)] * random.uniform(0.5, 1.5)
            if time.monotonic() + wait > deadline and attempt:
                detail = f"{self.address} could not be reached again for {self._reconnect_timeout:g} s: {last}"
                raise self._lose(SessionLost("UNREACHABLE", detail))
            time.sleep(wait)
            attempt += 1
            self._check()
            try:
                stream = self._new_stream()
            except ValueError as error:  # the channel was closed between the two lines: a fork in another thread
                last = str(error)
                continue
            try:
                self._attach(stream, max(0.1, deadline - time.monotonic()))
                logger.info("attached to %s again after %d attempts", self.address, attempt)
                return
            except (grpc.RpcError, EOFError, TimeoutError) as error:
                last = str(error.details() if isinstance(error, grpc.Call) else error)
                stream.end()
            except BaseException:
                stream.end()
                raise

    def _new_stream(self) -> SessionCall:
        if self._shared.closed:  # by a fork
            channels.release(self._shared)
            self._shared = channels.acquire(self.address)
        return SessionCall(self._shared)

    def _attach(self, stream: SessionCall, timeout_seconds: float) -> None:
        opened = self.opened
        missing = [
            (number, sent.indices if sent.missing is None else sorted(sent.missing))
            for number, sent in self._outstanding.items()
        ]
        message = Attach(opened.session_id, opened.token, opened.server_epoch, opened.protocol, missing)
        stream.send(pack_client(message))
        answer = stream.receive(timeout_seconds)
        if isinstance(answer, Lost):
            raise self._lose(SessionLost(answer.reason, answer.detail))
        if not isinstance(answer, Attached):
            raise self._lose(ProtocolError(f"the server answered Attach with {type(answer).__name__}"))
        for number, sent in self._outstanding.items():
            if number > answer.highest:
                stream.send(sent.data)
        self._stream = stream

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
        stream.send(pack_client(Close()))
        stream.half_close()
        try:
            while not isinstance(stream.receive(max(0.0, deadline - time.monotonic())), (Closed, Lost)):
                pass
        except (grpc.RpcError, EOFError, TimeoutError, RemoteGymError):
            pass  # the lease will end it
