"""Trainer process: gRPC channels, shared and counted, and the first connection with its diagnosis.

A channel is one TLS connection. Clients of one process that dial the same address with the same credentials share it;
it is closed with its last user. Channels are never shared across a fork: the process id is part of the key.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass

import grpc

from remote_gym.addresses import is_loopback, join_address
from remote_gym.client.diagnosis import Diagnosis, diagnose
from remote_gym.credentials import ClientPem, channel_credentials
from remote_gym.errors import ConnectError
from remote_gym.wire.messages import MAX_MESSAGE_BYTES

FIRST_LOOK_SECONDS = 1.0
"""How long to wait before asking why: a connection that works is usually up within a few round trips."""

MAX_DIAGNOSIS_SECONDS = 3.0

_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_retries", 0),  # a retry would run a step twice; sessions know better
    ("grpc.use_local_subchannel_pool", 1),  # closing this channel closes its connection
    # A dead peer is noticed within 50 s. All three are needed: gRPC relies on the ping timeout alone.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
]


@dataclass(frozen=True)
class Address:
    """Where a server is and how to prove who we are."""

    host: str
    port: int
    pem: ClientPem | None

    def __str__(self) -> str:
        """Return ``host:port``."""
        return join_address(self.host, self.port)


class SharedChannel:
    """A channel and the number of its users. Use `acquire` and `release`."""

    def __init__(self, address: Address) -> None:
        """Make the channel; it dials in the background."""
        # A proxy from the environment can never lead to this machine itself.
        options = [*_OPTIONS, *([("grpc.enable_http_proxy", 0)] if is_loopback(address.host) else [])]
        target = str(address)
        if address.pem is None:
            self.channel = grpc.insecure_channel(target, options)
        else:
            self.channel = grpc.secure_channel(target, channel_credentials(address.pem), options)
        self.address = address
        self.users = 0
        self.was_ready = False

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """Return when the connection is up.

        Raises:
            ConnectError: It did not come up in time, or never can; lists the likely causes.
        """
        if self.was_ready:
            return
        deadline = time.monotonic() + timeout_seconds
        found: Diagnosis | None = None
        ready = grpc.channel_ready_future(self.channel)
        try:
            while (left := deadline - time.monotonic()) > 0:
                try:
                    ready.result(timeout=min(FIRST_LOOK_SECONDS, left))
                    self.was_ready = True
                    return
                except grpc.FutureTimeoutError:
                    address = self.address
                    limit = max(0.2, min(MAX_DIAGNOSIS_SECONDS, deadline - time.monotonic()))
                    found = diagnose(address.host, address.port, address.pem, limit)
                    if found.permanent:
                        break
        finally:
            ready.cancel()
        summary = found.summary if found is not None else "no answer"
        raise ConnectError(str(self.address), summary, found.causes if found is not None else ())


_lock = threading.Lock()
_channels: dict[tuple[int, Address], SharedChannel] = {}


def acquire(address: Address) -> SharedChannel:
    """Return the channel to `address`, made if there is none; give it back with `release`."""
    with _lock:
        key = (os.getpid(), address)
        shared = _channels.get(key)
        if shared is None:
            shared = _channels[key] = SharedChannel(address)
        shared.users += 1
        return shared


def release(shared: SharedChannel) -> None:
    """Give a channel back; the last user closes it."""
    with _lock:
        shared.users -= 1
        if shared.users:
            return
        _channels.pop((os.getpid(), shared.address), None)
    shared.channel.close()
