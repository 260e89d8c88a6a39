"""Trainer process: one gRPC call that carries a session, as whole messages out and in.

The thread that waits for a message never is inside gRPC, where Ctrl-C would leave locks held for ever: a thread of its
own begins the call and reads it. That costs nothing, as gRPC is asked for the next message before it arrives (measured:
one environment 1.15 times as fast as read by the waiting thread, 64 and 64 images within 2 %).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque

from remote_gym.client.carriers.channel import SharedChannel
from remote_gym.errors import ProtocolError
from remote_gym.messages import Bundle, ServerMessage
from remote_gym.wire.codec import SESSION_METHOD, Joiner, pack_client, read_server, split

MAX_BUNDLED = 65_536
"""Messages in one bundle: four for each environment of the largest session. An empty one takes 2 bytes there."""

MAX_PIECES = 2**18
"""Fragments of one message: 1 GiB in pieces of 4 KiB. They may be empty, and would be collected for ever."""


class SessionCall:
    """One gRPC call; begins at once."""

    def __init__(self, shared: SharedChannel) -> None:
        self._stream = shared.open_stream(SESSION_METHOD)
        self._joiner = Joiner(read_server)
        self._bundled: deque[bytes] = deque()
        self._pieces = 0  # fragments in a row
        self._reading = threading.Lock()  # for when one thread waits and another closes

    def send(self, data: bytes) -> None:
        """Queue a serialised ClientMessage, in fragments if it is large."""
        for message in split(data, pack_client):
            self._stream.requests.put(message)

    def receive(self, timeout_seconds: float | None = None) -> ServerMessage:
        """Return the next message.

        Raises:
            TimeoutError: None came in time; the next call gets it.
            grpc.RpcError, EOFError: The stream has ended.
            ValueError: It could not begin, as the channel was closed.
            ProtocolError: What came is no message; the stream is of no use any more.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        if not self._reading.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds):
            raise TimeoutError
        try:
            message = self._take(timeout_seconds)
            while message is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0 and not self._bundled:  # a flood must not outlast its reader
                    raise TimeoutError
                message = self._take(left)
            return message
        finally:
            self._reading.release()

    def _take(self, timeout_seconds: float | None) -> ServerMessage | None:
        """Return what came; None if it was a piece of a message, or a bundle, which is kept."""
        bundled = bool(self._bundled)
        data = self._bundled.popleft() if bundled else self._next(timeout_seconds)
        try:
            message = self._joiner.feed(data)
        except ProtocolError:
            raise
        except Exception as error:  # whatever hostile bytes provoke in protobuf, NumPy or here
            raise ProtocolError(f"a message cannot be read: {type(error).__name__}: {error}") from error
        if type(message) is Bundle:
            if bundled or not 0 < len(message.messages) <= MAX_BUNDLED:
                raise ProtocolError(f"a bundle of {len(message.messages)} messages, or one in another")
            self._bundled.extend(message.messages)
            return None
        if message is None:
            self._pieces += 1
            if bundled or self._pieces > MAX_PIECES:
                raise ProtocolError("a fragment in a bundle, or more of them than any message has")
            return None
        self._pieces = 0
        return message  # type: ignore[no-any-return]

    def _next(self, timeout_seconds: float | None) -> bytes:
        try:
            item = self._stream.answers.get(timeout=timeout_seconds)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, Exception):
            self._stream.answers.put(item)  # it stays ended
            raise item
        self._stream.took(item)
        return item

    def end(self) -> None:
        """End the call at once."""
        self._stream.end()

    def half_close(self) -> None:
        """Send no more; what was sent is still delivered."""
        self._stream.requests.put(None)
