"""Trainer process: one direct connection, from the address to the server's Hello, step by step and within one deadline.

    look up -> connect -> TLS, with our protocol and gRPC's to choose from -> Hello there -> Hello back

Only a server that has said Hello counts: under TLS 1.3 it refuses a certificate after our side of the handshake has
ended, and a protocol that nobody agreed to raises nothing. Nothing here waits without looking, every now and then,
whether it is still needed.
"""

from __future__ import annotations

import errno
import functools
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from remote_gym.addresses import unix_path
from remote_gym.client.carriers.carrier import ENDS, CarrierEnded, End
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.direct import DirectCarrier
from remote_gym.client.carriers.liveness import Watch
from remote_gym.client.diagnosis import socket_owner
from remote_gym.client.diagnosis.certificate_names import without_zone
from remote_gym.client.diagnosis.handshake import SETTINGS, is_settings
from remote_gym.credentials import ClientPem, client_context
from remote_gym.errors import ProtocolError
from remote_gym.texts import MAX_NAME_BYTES, printable
from remote_gym.wire.codec import common_protocol
from remote_gym.wire.direct import (
    ALPN,
    HEADER,
    LAST,
    MAGIC,
    MAX_CONTROL_BYTES,
    Hello,
    pack_hello,
    read_ended,
    read_hello,
)

Result = TypeVar("Result")

LOOK_SECONDS = 0.05
"""How often a wait looks whether it is still needed."""

_BUSY_SECONDS = 0.01  # until a unix socket whose queue is full is tried again: nothing tells when it has room
_CONNECTING = frozenset({errno.EINPROGRESS, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS), errno.EINTR})
_ALERT = b"\x15\x03"  # how a server that wants TLS answers anything else


class NotDirect(CarrierEnded):
    """Somebody answers, but not as the direct carrier does.

    Attributes:
        speaks_grpc: Whether it surely is gRPC.
    """

    def __init__(self, detail: str, speaks_grpc: bool) -> None:
        """Say in `detail` what was seen."""
        self.speaks_grpc = speaks_grpc
        super().__init__(detail)


@dataclass
class Patience:
    """How long to go on.

    Attributes:
        deadline: On the monotonic clock.
        is_needed: Whether anybody still wants what is waited for.
    """

    deadline: float
    is_needed: Callable[[], bool] = lambda: True

    @property
    def left_seconds(self) -> float:
        """The time until the deadline, 0 after it."""
        return max(0.0, self.deadline - time.monotonic())

    def check_needed(self) -> None:
        """Raise CarrierEnded if nobody needs it any more."""
        if not self.is_needed():
            raise CarrierEnded("interrupted")

    def wait(self, connection: socket.socket, writable: bool) -> None:
        """Return when `connection` is readable, or `writable`, or over.

        Raises:
            CarrierEnded: Nobody needs it any more.
            TimeoutError: The deadline has passed.
        """
        while True:
            self.check_needed()
            if _ready(connection, writable, min(LOOK_SECONDS, self.left_seconds)):
                return
            if not self.left_seconds:
                raise TimeoutError("no answer in time")

    def pause(self, seconds: float) -> None:
        """Wait for so long, or until the deadline; raises CarrierEnded if nobody needs it any more."""
        end = min(time.monotonic() + seconds, self.deadline)
        self.check_needed()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_SECONDS))
            self.check_needed()

    def share(self, share: float) -> Patience:
        """Return patience for `share` of the time that is left."""
        return Patience(time.monotonic() + self.left_seconds * share, self.is_needed)


def connect(address: Address, patience: Patience, watch: Watch | None = None) -> DirectCarrier:
    """Return a carrier to `address` on which both sides have said Hello; the server is watched as `watch` says.

    Raises:
        NotDirect: Something else answers there.
        CarrierEnded: The server said why it takes nobody, or the connection is not needed any more.
        ConnectError: It is another user's socket.
        ProtocolError: The server speaks no version of the contract that we do, or says what is no Hello.
        OSError: It could not be reached, or TLS failed; `ssl.SSLError`, `socket.gaierror` and `TimeoutError` are such.
    """
    connection = _connected(address, patience)
    try:
        if address.pem is not None:
            connection = _encrypted(connection, address.host, address.pem, patience)
        _greet(connection, address.token, patience)
        return DirectCarrier(connection, watch)
    except BaseException:
        connection.close()
        raise


# --- address, tcp


def _connected(address: Address, patience: Patience) -> socket.socket:
    """Return a connection to the first endpoint that takes one."""
    endpoints = list(_endpoints(address))
    error: OSError = OSError(f"{address} has no endpoint")
    for index, (family, endpoint) in enumerate(endpoints):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            _connect(connection, endpoint, patience.share(1 / (len(endpoints) - index)))
            if family == getattr(socket, "AF_UNIX", None):
                socket_owner.check_file(endpoint)
                socket_owner.check_peer(connection, endpoint)
            else:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
        except OSError as failed:
            connection.close()
            error = failed
        except BaseException:
            connection.close()
            raise
    raise error


def _endpoints(address: Address) -> Iterator[tuple[Any, Any]]:
    path = unix_path(address.host)
    if path is not None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError("this system's Python knows no unix sockets")
        yield socket.AF_UNIX, path
        return
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (UnicodeError, OverflowError) as error:
        raise socket.gaierror(str(error)) from error
    yield from dict.fromkeys((family, endpoint) for family, _, _, _, endpoint in found)


def _connect(connection: socket.socket, endpoint: Any, patience: Patience) -> None:
    while True:
        code = connection.connect_ex(endpoint)
        if code != errno.EAGAIN or not isinstance(endpoint, str):
            break
        if not patience.left_seconds:
            raise TimeoutError("its queue of connections stays full")
        patience.pause(_BUSY_SECONDS)
    if code in _CONNECTING:
        patience.wait(connection, writable=True)
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


# --- tls


@functools.lru_cache(maxsize=32)
def _context(pem: ClientPem) -> ssl.SSLContext:
    return client_context(pem, (ALPN, "h2"))


def _encrypted(connection: socket.socket, host: str, pem: ClientPem, patience: Patience) -> ssl.SSLSocket:
    """Return `connection` with TLS, on which our protocol was agreed.

    Raises:
        NotDirect: Another one was, or none.
    """
    try:
        name = (pem.server_name or without_zone(host)).rstrip(".")
        tls = _context(pem).wrap_socket(connection, server_hostname=name, do_handshake_on_connect=False)
    except (ValueError, UnicodeError) as error:
        if isinstance(error, ssl.SSLError):
            raise
        raise OSError(f"no certificate can be for {host!r}: {error}") from error
    try:
        _when_ready(tls.do_handshake, tls, patience)
        agreed = tls.selected_alpn_protocol()
        if agreed != ALPN:
            raise NotDirect(
                "it agrees to gRPC's protocol only" if agreed else "it agrees to no protocol", agreed == "h2"
            )
    except BaseException:
        tls.close()
        raise
    return tls


# --- greetings


def _greet(connection: socket.socket, token: str, patience: Patience) -> None:
    """Say Hello and hear the server's; see `connect` for what is raised."""
    encrypted = isinstance(connection, ssl.SSLSocket)
    greeting = pack_hello(Hello(token=token))
    _write(connection, greeting if encrypted else MAGIC + greeting, patience)
    header = _read(connection, HEADER.size, patience)
    (length,) = HEADER.unpack(header)
    is_last, length = length >= LAST, length & (LAST - 1)
    if not 0 < length <= MAX_CONTROL_BYTES:
        raise _foreign(header, connection, patience)
    said = _read(connection, length, patience)
    if is_last:
        ended = read_ended(said)
        raise CarrierEnded(printable(ended.detail, MAX_CONTROL_BYTES), ENDS.get(ended.code, End.OTHER))
    hello = read_hello(said)
    try:
        common_protocol((hello.protocol_min, hello.protocol_max), "server")
    except ProtocolError as error:
        raise ProtocolError(f"{error} (remote_gym {printable(hello.version, MAX_NAME_BYTES)})") from None


def _foreign(header: bytes, connection: socket.socket, patience: Patience) -> CarrierEnded:
    """Return what to raise about an answer that is no Hello."""
    try:
        answer = header + _read(connection, len(SETTINGS) - len(header), patience)
    except OSError:
        answer = header
    if is_settings(answer):
        return NotDirect("it answers as gRPC does", True)
    if answer.startswith(_ALERT):
        return CarrierEnded("it wants TLS")
    return NotDirect(f"it answers {answer!r}", False)


def _when_ready(
    do: Callable[[], Result], connection: socket.socket, patience: Patience, writable: bool = False
) -> Result:
    """Return what `do` does with `connection`, tried again whenever that is ready for it.

    What it must be ready for TLS says itself; without it, to be read, or to be `writable`.
    """
    while True:
        try:
            return do()
        except ssl.SSLWantReadError:
            patience.wait(connection, writable=False)
        except ssl.SSLWantWriteError:
            patience.wait(connection, writable=True)
        except BlockingIOError:
            patience.wait(connection, writable)


def _write(connection: socket.socket, data: bytes, patience: Patience) -> None:
    while data:
        data = data[_when_ready(lambda: connection.send(data), connection, patience, writable=True) :]  # noqa: B023


def _read(connection: socket.socket, size: int, patience: Patience) -> bytes:
    """Return `size` bytes and read no more than these.

    Raises:
        ConnectionError: The connection ended before.
    """
    data = b""
    while len(data) < size:
        more = _when_ready(lambda: connection.recv(size - len(data)), connection, patience)  # noqa: B023
        if not more:
            raise ConnectionResetError("the server closed the connection without a word")
        data += more
    return data


def _ready(connection: socket.socket, writable: bool, seconds: float) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(connection, select.POLLOUT if writable else select.POLLIN)
        return bool(poll.poll(seconds * 1_000))
    wanted = [connection]
    # A connection that failed is exceptional on Windows, and not writable.
    return any(select.select([] if writable else wanted, wanted if writable else [], wanted, seconds))
