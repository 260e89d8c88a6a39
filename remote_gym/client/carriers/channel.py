"""Trainer process: gRPC channels, shared and counted, and the first connection with its diagnosis.

A channel is one TLS connection. Clients of one process that dial the same address with the same credentials share it,
up to `MAX_USERS` of them; it is closed with its last user. A fork closes all channels first, in the parent too: gRPC's
threads would be lost in the child, with the locks they hold.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from remote_gym.addresses import grpc_target, is_loopback, join_address, unix_path
from remote_gym.client.diagnosis import findings, socket_owner
from remote_gym.client.diagnosis.findings import Finding
from remote_gym.client.diagnosis.steps import diagnose
from remote_gym.credentials import ClientPem, channel_credentials
from remote_gym.errors import ConnectError, MisuseError
from remote_gym.wire.codec import DESCRIBE_METHOD, MAX_MESSAGE_BYTES

FIRST_LOOK_SECONDS = 1.0
"""How long to wait before asking why: a connection that works is usually up within a few round trips."""

MAX_DIAGNOSIS_SECONDS = 3.0

_PAUSE_SECONDS = 0.2
"""Between two questions to a proxy whose server is not up: it answers at once."""

CLOSE_TIMEOUT_SECONDS = 2.0
"""How long `close` waits for gRPC's threads; they end within milliseconds of the connection."""

MAX_USERS = 100
"""Of one channel, each with one stream at a time: as many as every peer should take (RFC 9113, 6.5.2); nginx takes 128.
One more waited for the end of another, without a word."""

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # a retry would run a step twice; sessions know better
    ("grpc.use_local_subchannel_pool", 1),  # closing this channel closes its connection
    # Flow control is left to gRPC, which widens a stream's window to the message that is awaited: measured with 20 and
    # 100 ms of delay, 1.8 MB take one round trip and the time of their bytes; look-ahead and frame size change nothing.
    # A dead peer is noticed within 50 s. All three are needed: gRPC relies on the ping timeout alone.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that is back is found within a third of a second, and told to the session within one: while the channel
    # waits here, every new call fails at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 300),
    # Despite its name, how long one attempt to connect may take, handshake and all. Not less than a few round trips of
    # a far and busy server; and not much more, as the system repeats a lost SYN ever more rarely (after 1, 3, 7 s).
    ("grpc.min_reconnect_backoff_ms", 5_000),
]


@dataclass(frozen=True)
class Address:
    """Where a server is and how to prove who we are.

    Attributes:
        host: A name, an IP, or ``unix:/path``.
        port: Of the host.
        pem: For TLS; None: plaintext.
        paths: The files that `pem` is from, absolute, which may be renewed; bytes in their stead, and what was read if
            it is empty, stay as they are.
        token: Tells the server who we are; empty without one.

    Raises:
        MisuseError: TLS on a unix socket.
    """

    host: str
    port: int
    pem: ClientPem | None
    paths: tuple[str | bytes, ...] = field(default=(), compare=False, repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Check that the three fit."""
        if self.pem is not None and unix_path(self.host) is not None:
            raise MisuseError(f"{self.host} is a socket of this machine and speaks no TLS: leave the credentials out")

    def __str__(self) -> str:
        """Return ``host:port``, or ``unix:/path``."""
        return join_address(self.host, self.port)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes along with every gRPC call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()


class Call(Protocol):
    """A carrier over a channel, as far as the channel's end concerns it."""

    @property
    def is_alive(self) -> bool:
        """Whether a thread of it still runs."""

    def close(self) -> None:
        """End it now."""

    def join(self, deadline: float) -> None:
        """Return when its threads have ended, or at `deadline` on the monotonic clock."""


class SharedChannel:
    """A channel and the number of its users. Use `acquire` and `release`."""

    def __init__(self, address: Address) -> None:
        """Make the channel; it dials in the background."""
        # A proxy from the environment can never lead to this machine itself.
        options: list[tuple[str, int | str]] = [*_OPTIONS]
        if is_loopback(address.host):
            options.append(("grpc.enable_http_proxy", 0))
        target = grpc_target(address.host, address.port)
        if address.pem is None:
            self.channel = grpc.insecure_channel(target, options)
        else:
            if address.pem.server_name is not None:
                options.append(("grpc.ssl_target_name_override", address.pem.server_name))
            self.channel = grpc.secure_channel(target, channel_credentials(address.pem), options)
        self.address = address
        self.users = 0
        self.was_ready = False
        self.closed = False
        self._calls: set[Call] = set()

    def add(self, call: Call) -> None:
        """Take note of a call that has begun: it ends with the channel."""
        self._calls = {known for known in self._calls if known.is_alive} | {call}

    def close(self) -> None:
        """End all calls and the connection. Returns when gRPC's threads for them have ended: a fork is safe then."""
        self.closed = True
        calls = list(self._calls)
        for call in calls:
            call.close()  # gRPC's thread waits for the next request, and for nothing else
        self.channel.close()
        deadline = time.monotonic() + CLOSE_TIMEOUT_SECONDS
        for call in calls:
            call.join(deadline)

    def check_owner(self) -> None:
        """Refuse another user's socket; gRPC dials by itself, again and again.

        Raises:
            ConnectError: It is one.
        """
        if (path := unix_path(self.address.host)) is not None:
            socket_owner.check(path)

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Return when the server has answered once.

        Raises:
            ConnectError: It did not in time, or never can; lists the likely causes.
        """
        self.check_owner()
        if self.was_ready:
            return
        deadline = time.monotonic() + timeout_seconds
        summary, causes = "no answer", tuple[str, ...]()
        look = FIRST_LOOK_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            try:
                if self._answers(min(look, left)):
                    self.was_ready = True
                    return
            except Finding as finding:
                summary, causes, permanent = str(finding), finding.causes, finding.permanent
                if not permanent:
                    time.sleep(min(_PAUSE_SECONDS, max(0.0, deadline - time.monotonic())))
            else:
                look *= 2  # it may just be far away
                address = self.address
                limit = max(0.2, min(MAX_DIAGNOSIS_SECONDS, deadline - time.monotonic()))
                found = diagnose(address.host, address.port, address.pem, limit)
                summary, causes, permanent = found.summary, found.causes, found.permanent
            if permanent:
                break
        raise ConnectError(str(self.address), summary, causes)

    def _answers(self, timeout_seconds: float) -> bool:
        """Return whether the server is there.

        Raises:
            Finding: Who is there is a proxy.
        """
        # A call with a deadline, not `grpc.channel_ready_future`: that one's thread delays closing by up to 200 ms.
        try:
            ask: Any = self.channel.unary_unary(DESCRIBE_METHOD)
            ask(b"", timeout=timeout_seconds, wait_for_ready=True, metadata=self.address.metadata)
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call):
                return False
            if (proxy := findings.of_proxy(str(self.address), error.details())) is not None:
                raise proxy from error
            # Whoever answers, even with an error, is there; opening the session will tell what is wrong.
            return error.code() not in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
        return True


_lock = threading.RLock()
"""Guards `_channels` and every `users`; held during a fork, so that nobody makes a channel then."""
_channels: dict[Address, list[SharedChannel]] = {}

_anchor: grpc.Channel | None = None
"""A channel that never dials. While there is one, gRPC stays initialised: a fork while it shuts itself down after its
last channel waits for ever (seen with 1.85.1, within a hundred forks)."""


def acquire(address: Address) -> SharedChannel:
    """Return a channel to `address`, made if none has room; give it back with `release`."""
    global _anchor
    with _lock:
        if _anchor is None:
            _anchor = grpc.insecure_channel("localhost:1")
        there_are = _channels.setdefault(address, [])
        shared = next((shared for shared in there_are if shared.users < MAX_USERS), None)
        if shared is None:
            shared = SharedChannel(address)
            there_are.append(shared)
        shared.users += 1
        return shared


def release(shared: SharedChannel) -> None:
    """Give a channel back; the last user closes it, and returns when its threads have ended."""
    with _lock:
        shared.users -= 1
        if shared.users or shared.closed:
            return
        there_are = _channels[shared.address]
        there_are.remove(shared)
        if not there_are:
            del _channels[shared.address]
    shared.close()


def _before_fork() -> None:
    """GRPC does not survive a fork: close everything. Sessions go on; each attaches anew on its next use."""
    _lock.acquire()
    for there_are in _channels.values():
        for shared in there_are:
            shared.close()
    _channels.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release)
