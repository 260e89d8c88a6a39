"""Trainer process: one gRPC call that carries a session, as whole messages out and in.

The thread that waits for a message reads it from gRPC itself: a reader thread would cost a wake-up per step. Only a
wait with a timeout starts one, which then stays.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from typing import Any

from remote_gym.batches import Bundle, ServerMessage
from remote_gym.client.channel import SharedChannel
from remote_gym.wire.messages import SESSION_METHOD, Joiner, pack_client, read_server, split


class SessionCall:
    """One gRPC call; begins at once."""

    def __init__(self, shared: SharedChannel) -> None:
        self._shared = shared
        self._call, self._requests = shared.open_stream(SESSION_METHOD)
        self._joiner = Joiner(read_server)
        self._bundled: deque[bytes] = deque()
        self._pumped: queue.SimpleQueue[Any] | None = None
        self._reading = threading.Lock()  # gRPC breaks down if two threads read, as when one waits and one closes

    def send(self, data: bytes) -> None:
        """Queue a serialised ClientMessage, in fragments if it is large."""
        for message in split(data, pack_client):
            self._requests.put(message)

    def receive(self, timeout_seconds: float | None = None) -> ServerMessage:
        """Return the next message.

        Raises:
            TimeoutError: None came in time; the next call gets it.
            grpc.RpcError, EOFError: The stream has ended.
        """
        if not self._reading.acquire(timeout=-1 if timeout_seconds is None else timeout_seconds):
            raise TimeoutError
        try:
            while True:
                data = self._bundled.popleft() if self._bundled else self._next(timeout_seconds)
                message = self._joiner.feed(data)
                if type(message) is Bundle:
                    self._bundled.extend(message.messages)
                elif message is not None:
                    return message  # type: ignore[no-any-return]
        finally:
            self._reading.release()

    def _next(self, timeout_seconds: float | None) -> bytes:
        if self._pumped is None:
            if timeout_seconds is None:
                return self._read()
            self._pumped = queue.SimpleQueue()
            threading.Thread(target=self._pump, args=(self._pumped,), name="remote_gym reader", daemon=True).start()
        try:
            item = self._pumped.get(timeout=timeout_seconds)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, BaseException):
            self._pumped.put(item)  # it stays ended
            raise item
        return item  # type: ignore[no-any-return]

    def _read(self) -> bytes:
        for data in self._call:
            return data  # type: ignore[no-any-return]
        raise EOFError("the server ended the stream")

    def _pump(self, out: queue.SimpleQueue[Any]) -> None:
        try:
            while True:
                out.put(self._read())
        except BaseException as error:
            out.put(error)

    def end(self) -> None:
        """End the call at once."""
        self._shared.end_stream(self._call, self._requests)

    def half_close(self) -> None:
        """Send no more; what was sent is still delivered."""
        self._requests.put(None)
