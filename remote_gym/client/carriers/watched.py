"""Trainer process: one call of `Watch`: a thread of its own reads it, so that whoever waits never is inside gRPC."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import Any

import grpc

from remote_gym.client.carriers import channel as channels
from remote_gym.client.carriers.channel import Address
from remote_gym.client.carriers.renewal import renewed
from remote_gym.client.failures import MAX_LINE, not_taken, unreadable
from remote_gym.errors import ConnectError, MisuseError, RefusedError, RemoteGymError
from remote_gym.figures import WatchReply, WatchRequest
from remote_gym.texts import printable
from remote_gym.wire.watching import WATCH_METHOD, pack_watch, read_watched

UNREAD = 64
"""Replies that wait for who reads them; then the server waits, and in the end leaves some out."""

LOOK_SECONDS = 0.2
"""How often who waits looks for Ctrl-C: on some systems a wait without end cannot be interrupted."""


class WatchCall:
    """One stream of replies. Closing contract: `close` may be called twice, from any thread, and ends who waits."""

    def __init__(self, address: Address, request: WatchRequest, timeout_seconds: float) -> None:
        """Dial, and ask.

        Raises:
            ConnectError: The server was not reached in time; lists the likely causes.
        """
        self._address = str(address)
        self._replies: queue.Queue[WatchReply | BaseException | None] = queue.Queue(UNREAD)
        self._closed = threading.Event()
        self._close_lock = threading.Lock()
        self._released = False
        self._shared = channels.acquire(renewed(address))
        try:
            self._shared.wait_until_ready(timeout_seconds)
            ask: Any = self._shared.channel.unary_stream(WATCH_METHOD)
            self._call = ask(pack_watch(request), metadata=address.metadata)
            self._thread = threading.Thread(target=self._read, name="remote_gym watching", daemon=True)
            self._thread.start()
            self._shared.add(self)
        except BaseException:
            self._release()
            raise

    def _read(self) -> None:
        """Read until the call ends; runs in the thread."""
        last: BaseException | None = None
        try:
            for data in self._call:
                try:
                    reply = read_watched(data)
                except Exception as error:
                    raise unreadable(self._address, error) from error
                if not self._put(reply):
                    return
        except grpc.RpcError as error:
            last = _ended(self._address, error)
        except RemoteGymError as error:
            last = error
        finally:
            self._call.cancel()
            self._put(last)

    def _put(self, reply: WatchReply | BaseException | None) -> bool:
        while not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._replies.put(reply, timeout=LOOK_SECONDS)
                return True
        return False

    def next(self) -> WatchReply | None:
        """Return the next reply; None once it is closed.

        Raises:
            RefusedError: There are too many watchers, or the server takes nobody by what was shown of who we are.
            ConnectError: The connection, or the server, has ended.
            ProtocolError: The server sent something else.
        """
        while not self._closed.is_set():
            with contextlib.suppress(queue.Empty):
                reply = self._replies.get(timeout=LOOK_SECONDS)
                if isinstance(reply, BaseException):
                    self._replies.put_nowait(reply)  # for whoever asks again: the thread puts nothing after it
                    raise reply
                return reply
        return None

    # As a call of a channel

    @property
    def is_alive(self) -> bool:
        """See `channel.Call`."""
        return self._thread.is_alive()

    def join(self, deadline: float) -> None:
        """See `channel.Call`."""
        self._thread.join(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """End it, and let go of the channel."""
        self._closed.set()
        self._call.cancel()

    def release(self) -> None:
        """Close, and give the channel back."""
        self.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(channels.CLOSE_TIMEOUT_SECONDS)
        self._release()

    def _release(self) -> None:
        with self._close_lock:
            released, self._released = self._released, True
        if not released:
            channels.release(self._shared)


def _ended(address: str, error: grpc.RpcError) -> RemoteGymError:
    """Return what to raise about the end of a call that the server, or the network, has ended."""
    code, detail = error.code(), printable(error.details() or "", MAX_LINE)
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return not_taken(address, detail)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        limit = "principal_watchers" if "everybody" not in detail else "max_watchers"
        return RefusedError(f"{address} refuses: {detail}", limit)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return MisuseError(f"{address} refuses what is asked for: {detail}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return ConnectError(address, "the server cannot be watched", ["it runs an older remote-gym: upgrade it"])
    return ConnectError(address, f"watching has ended: {code.name}", [detail])
