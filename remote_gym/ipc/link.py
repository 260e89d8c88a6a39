"""Both sides of a worker's socket: rounds as length-prefixed MessagePack.

The server sends a *round*: a list of commands, each a list whose first item is its name. The worker answers each round
with lists of results in the same order, one list if all is quick. Both ends are the same installation on the same
machine, so the frames carry no version and MessagePack is used bare; whatever came from a client travels inside as
bytes, packed by `values`.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import msgpack

HEADER_BYTES = 8
RECEIVE_BYTES = 256 * 1024
"""One read of the socket; large enough that usual rounds come whole."""

Command = list[Any]
Result = Any


def encode(message: list[Any]) -> bytes:
    """Return `message` as one frame."""
    body: bytes = msgpack.packb(message)
    return len(body).to_bytes(HEADER_BYTES, "little") + body


class Decoder:
    """Bytes as they come -> messages."""

    def __init__(self) -> None:
        """Begin at a frame boundary."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[list[Any]]:
        """Take in `data` and yield each message that is now whole."""
        if not self._buffer and len(data) - HEADER_BYTES == int.from_bytes(data[:HEADER_BYTES], "little"):
            yield self._unpack(memoryview(data)[HEADER_BYTES:])  # exactly one message: the usual case
            return
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._buffer[:HEADER_BYTES], "little")
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                message = self._unpack(view[HEADER_BYTES:end])
            del self._buffer[:end]
            yield message

    @staticmethod
    def _unpack(body: memoryview) -> list[Any]:
        limit = len(body)
        message: list[Any] = msgpack.unpackb(
            body, strict_map_key=False, max_bin_len=limit, max_str_len=limit, max_array_len=limit
        )
        return message


class ChildLink:
    """Child side: blocking rounds over the inherited socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over `sock`."""
        self._socket = sock
        self._decoder = Decoder()

    def rounds(self) -> Iterator[list[Command]]:
        """Yield rounds until the server closes the socket."""
        while data := self._socket.recv(RECEIVE_BYTES):
            yield from self._decoder.feed(data)

    def answer(self, results: list[Result]) -> None:
        """Send the results of the round just yielded; whatever cannot be encoded raises before anything is sent."""
        self._socket.sendall(encode(results))
