"""Trainer process: the carrier that is one bidirectional gRPC call.

The thread that waits for a session's answers never is inside gRPC, where Ctrl-C would leave locks held for ever: the
session's reader thread begins the call and reads it. That costs nothing, as gRPC is asked for the next message before
it arrives (measured: one environment 1.15 times as fast as read by the waiting thread, 64 and 64 images within 2 %).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sized
from typing import Any

import grpc

from remote_gym.client.carriers import channel as channels
from remote_gym.client.carriers.asking import Asking
from remote_gym.client.carriers.carrier import ENDS, CarrierEnded, End, Landing, Take
from remote_gym.client.carriers.channel import Address, SharedChannel
from remote_gym.client.carriers.liveness import Watch
from remote_gym.client.carriers.renewal import renewed
from remote_gym.errors import ConnectError
from remote_gym.texts import shortened
from remote_gym.wire.codec import SESSION_METHOD

_beginning = threading.Lock()
"""Held while a call begins, which is when gRPC's threads for it start: it protects the telling of which those are."""


class GrpcDialer:
    """Calls over a channel that the sessions with one address share."""

    def __init__(self, address: Address, watch: Watch | None = None) -> None:
        """Prepare; nothing is dialled yet. With `watch` the server is asked whether it is there."""
        self._address = address
        self._watch = watch
        self.shared: SharedChannel | None = None

    def wait_until_ready(self, timeout_seconds: float) -> None:
        """See `Dialer`."""
        self._channel().wait_until_ready(timeout_seconds)

    def begin(self) -> GrpcCarrier:
        """See `Dialer`."""
        shared = self._channel()
        try:
            shared.check_owner()
            carrier = GrpcCarrier(shared.channel, self._address.metadata, self._watch)
        except (ValueError, RuntimeError, OSError) as error:  # closed by a fork just now, or no more threads to be had
            raise CarrierEnded(str(error)) from error
        except ConnectError as error:
            raise CarrierEnded(error.summary, End.OTHER) from error
        shared.add(carrier)
        return carrier

    def interrupt(self) -> None:
        """See `Dialer`; whoever waits here waits for gRPC, which the end of the channel interrupts."""

    def close(self) -> None:
        """See `Dialer`."""
        if self.shared is not None:
            shared, self.shared = self.shared, None
            channels.release(shared)

    def _channel(self) -> SharedChannel:
        address = renewed(self._address)
        if self.shared is not None and (self.shared.closed or address != self._address):  # closed by a fork
            self.close()
        self._address = address
        if self.shared is None:
            self.shared = channels.acquire(self._address)
        return self.shared


class GrpcCarrier:
    """One call; begun with the object, in the thread that makes it."""

    def __init__(
        self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = (), watch: Watch | None = None
    ) -> None:
        """Begin, and send `metadata` along; with `watch`, ask beside it whether the server is there.

        Raises:
            ValueError: The channel is closed.
            RuntimeError: There are no more threads to be had.
        """
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # None: no more
        with _beginning:
            before = set(threading.enumerate())
            begin: Any = channel.stream_stream(SESSION_METHOD)
            self._call: Any = begin(self._outgoing(), metadata=metadata)
            self._threads = [thread for thread in set(threading.enumerate()) - before if _is_grpc(thread)]
        self._asking: Asking | None = None
        if watch is not None:
            self._asking = Asking(channel, metadata, watch, self._call.cancel)
            self._threads.append(self._asking.thread)

    def _outgoing(self) -> Iterator[bytes]:
        """Yield what to send; runs in a thread of gRPC's."""
        yield from iter(self._requests.get, None)

    def send(self, frame: bytes) -> None:
        """See `Carrier`."""
        self._requests.put(frame)

    def receive(self, landing: Landing) -> bytes:
        """See `Carrier`; gRPC has read the frame into bytes of its own, and a copy into a landing would only cost."""
        try:
            return next(self._call)  # type: ignore[no-any-return]
        except StopIteration:
            raise CarrierEnded("the server ended the stream") from None
        except grpc.RpcError as error:
            if self._asking is not None and (silent := self._asking.silent_seconds) is not None:
                said = f"the server has not answered for {silent:.0f} s" if silent >= 0.1 else "the connection ended"
                raise CarrierEnded(said, End.BROKEN, silent) from error
            raise _ended(error) from error

    def stand_in(self, landing: Landing, awaited: Sized, take: Take, seconds: float | None) -> bool:
        """See `Carrier`; no caller ever waits in gRPC."""
        return False

    def call(self) -> None:
        """See `Carrier`; nobody stands in."""

    def tend(self) -> None:
        """See `Carrier`; gRPC's own threads do it."""

    def close(self) -> None:
        """See `Carrier`."""
        self._requests.put(None)
        if self._asking is not None:
            self._asking.stop()
        if threading.current_thread() is not threading.main_thread():
            self._call.cancel()
            return
        try:  # where Ctrl-C strikes: not into gRPC
            thread = threading.Thread(target=self._call.cancel, name="remote_gym end", daemon=True)
            thread.start()
        except RuntimeError:  # the interpreter ends, and starts no threads any more
            self._call.cancel()
        else:
            self._threads.append(thread)

    @property
    def is_alive(self) -> bool:
        """Whether a thread of it still runs."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, deadline: float) -> None:
        """Return when its threads have ended, or at `deadline` on the monotonic clock."""
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))


def _ended(error: grpc.RpcError) -> CarrierEnded:
    if not isinstance(error, grpc.Call):
        return CarrierEnded(shortened(str(error)), End.OTHER)
    return CarrierEnded(shortened(str(error.details())), ENDS.get(error.code().value[0], End.OTHER))


def _is_grpc(thread: threading.Thread) -> bool:
    # The threads of a call are made by gRPC's Cython layer around a function `_run` (`managed_target` once): Python
    # puts the name of a thread's target into its own. Waiting for a stranger costs `CLOSE_TIMEOUT_SECONDS`.
    return thread.name.endswith(("(_run)", "(managed_target)"))
