"""Both sides of a worker's socket: rounds as length-prefixed MessagePack.

The server sends a *round*: a list of commands. The worker answers each round with lists of results in the same order,
one list if all is quick. A command or result (`ipc.commands`) travels as [number of its kind, its fields]. Both ends
are the same installation on the same machine, so the frames carry no version and MessagePack is used bare; whatever
came from a client travels inside as bytes, packed by `values`.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgpack

from remote_gym.failures import Failure, FailureKind
from remote_gym.ipc.commands import COMMANDS, KIND_OF, NOTHING_TO_SAY, Command, Outcomes, Result, StepGroup

HEADER_BYTES = 8
RECEIVE_BYTES = 256 * 1024
"""One read of the socket; large enough that usual rounds come whole."""

MAX_KNOWN, MAX_KNOWN_BYTES = 256, 64
"""How many frames, and of what size, are remembered with what they say: one step of a session is like the next."""

_FAILURE = 1
"""MessagePack's extension type of a failure: where none travels, nobody looks for one."""


def encode(messages: Sequence[Command | Result]) -> bytes:
    """Return a round, or a list of results, as one frame.

    Raises:
        TypeError, ValueError, OverflowError: One of them cannot travel.
    """
    try:
        packed = [(KIND_OF[type(message)], message) for message in messages]
    except KeyError as error:
        raise TypeError(f"{error} is neither a command nor a result") from None
    try:
        body: bytes = msgpack.packb(packed)  # a NamedTuple is an array to it
    except TypeError:
        body = msgpack.packb(packed, default=extended)  # which costs a little: only where failures travel
    return len(body).to_bytes(HEADER_BYTES, "little") + body


def extended(value: Any) -> msgpack.ExtType:
    """Return what MessagePack has no type for, a failure, as an extension of it.

    Raises:
        TypeError: It is anything else.
    """
    if type(value) is Failure:
        fields = (value.index, int(value.kind), value.type, value.message, value.detail, value.base)
        return msgpack.ExtType(_FAILURE, msgpack.packb(fields))
    raise TypeError(f"{type(value).__qualname__} does not travel between server and worker")


def unextended(code: int, data: bytes) -> Failure:
    """Return what `extended` was given.

    Raises:
        ValueError: This is nothing of the kind.
    """
    if code != _FAILURE:
        raise ValueError(f"unknown extension {code}")
    index, kind, name, message, detail, base = msgpack.unpackb(data)
    return Failure(index, FailureKind(kind), name, message, detail, base)


class Decoder:
    """Bytes as they come -> lists of commands, or of results."""

    def __init__(self, kinds: Mapping[int, Callable[[Any], Any]]) -> None:
        """Begin at a frame boundary; `kinds` is `COMMANDS` or `RESULTS`: what the other side sends."""
        self._kinds = kinds
        self._buffer = bytearray()
        self._known: dict[bytes, list[Any]] = {}  # frames that come again and again, and what they say

    def feed(self, data: bytes) -> Iterable[list[Any]]:
        """Take in `data` and return each list that is now whole.

        Raises:
            ValueError: It holds an unknown kind, or other fields than its kind has; raised as the list is asked for.
        """
        if len(data) <= MAX_KNOWN_BYTES and not self._buffer and data in self._known:
            return (self._known[data],)
        return self._unknown(data)

    def _unknown(self, data: bytes) -> Iterator[list[Any]]:
        is_one = len(data) - HEADER_BYTES == int.from_bytes(data[:HEADER_BYTES], "little")
        if is_one and not self._buffer:  # as usual
            messages = self._decode(memoryview(data)[HEADER_BYTES:])
            if len(data) <= MAX_KNOWN_BYTES and all(map(_is_usual, messages)):
                if len(self._known) >= MAX_KNOWN:
                    self._known.clear()  # most are of sessions that have gone
                self._known[data] = messages
            yield messages
            return
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            end = HEADER_BYTES + int.from_bytes(self._buffer[:HEADER_BYTES], "little")
            if len(self._buffer) < end:
                return
            with memoryview(self._buffer) as view:
                messages = self._decode(view[HEADER_BYTES:end])
            del self._buffer[:end]
            yield messages

    def _decode(self, body: memoryview) -> list[Any]:
        limit = len(body)
        packed = msgpack.unpackb(
            body,
            ext_hook=unextended,
            strict_map_key=False,
            max_bin_len=limit,
            max_str_len=limit,
            max_array_len=limit,
            max_ext_len=limit,
        )
        kinds = self._kinds
        try:
            return [kinds[kind](fields) for kind, fields in packed]
        except KeyError as error:
            raise ValueError(f"unknown kind {error}") from None
        except TypeError as error:
            raise ValueError(f"malformed fields: {error}") from error


def _is_usual(message: Any) -> bool:
    """Return whether it is a step's command, or result, as most are, and holds nothing that anybody could change."""
    if type(message) is StepGroup:
        return message.indices is None
    return type(message) is Outcomes and not (message.failures or message.pieces or message.apart)


_NOTHING_TO_SAY = encode([NOTHING_TO_SAY])


class RoundEncoder:
    """Parent side: rounds -> frames. Those of one step of a whole group, which come again and again, are kept."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[StepGroup, bytes] = {}

    def encode(self, commands: Sequence[Command]) -> bytes:
        """Return what the function `encode` does, and raise what it raises."""
        command: Any = commands[0]
        if len(commands) > 1 or not _is_usual(command) or len(command.actions) > MAX_KNOWN_BYTES:
            return encode(commands)
        frame = self._known.get(command)
        if frame is None:
            frame = encode(commands)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()  # actions that never come again must not take the place of others for good
            self._known[command] = frame
        return frame


class ChildLink:
    """Child side: blocking rounds over the inherited socket."""

    def __init__(self, sock: socket.socket) -> None:
        """Take over `sock`."""
        self._socket = sock
        self._decoder = Decoder(COMMANDS)

    def rounds(self) -> Iterator[list[Command]]:
        """Yield rounds until the server closes the socket."""
        while data := self._socket.recv(RECEIVE_BYTES):
            yield from self._decoder.feed(data)

    def answer(self, results: list[Result]) -> None:
        """Send the results of the round just yielded; whatever cannot be encoded raises before anything is sent."""
        usual = len(results) == 1 and results[0] is NOTHING_TO_SAY
        self._socket.sendall(_NOTHING_TO_SAY if usual else encode(results))


def receive_descriptor(sock: socket.socket) -> int:
    """Child side: wait for the file descriptor that comes next over `sock`, and own it.

    Raises:
        EOFError: The server has gone.
    """
    size = 4  # of a C int
    _, received, _, _ = sock.recvmsg(1, socket.CMSG_SPACE(size))  # `socket.recv_fds`, which Python 3.8 has not
    for level, kind, data in received:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            return int.from_bytes(data[:size], sys.byteorder)
    raise EOFError("the server has gone")
