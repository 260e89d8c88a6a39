"""No I/O: what the direct carrier puts around messages: its greeting, its frames, and how it says that it ends.

The contract is at `Hello` in session.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from struct import Struct
from typing import TypeVar

from google.protobuf.message import DecodeError

from remote_gym.errors import ProtocolError
from remote_gym.texts import encodable, shortened
from remote_gym.version import __version__
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.codec import PROTOCOL_MAX, PROTOCOL_MIN
from remote_gym.wire.limits import MAX_MESSAGE_BYTES, MAX_VERSION_CHARACTERS

ALPN = "remote-gym/1"
"""The protocol that a client offers, and a server agrees to, in the TLS handshake (RFC 7301)."""

MAGIC = b"remote-gym/1\n"
"""What a client sends first where there is no TLS."""

HEADER = Struct("<I")
"""Of a frame: its length."""

PING = HEADER.pack(0)
"""An empty frame: a ping of a client, or the server's answer to one."""

LAST = 1 << 31
"""Set in the length of the server's last frame, an `Ended`."""

_Message = TypeVar("_Message", pb.Hello, pb.Ended)

MAX_CONTROL_BYTES = 4_096
"""Of a Hello or an Ended."""

PING_SECONDS = 15.0
"""A client that has received nothing for so long sends a ping."""

SILENCE_SECONDS = 45.0
"""Who hears nothing for so long takes the other side for dead: within the 50 s that are promised."""


@dataclass(frozen=True)
class Hello:
    """What each side says first.

    Attributes:
        protocol_min: The oldest version of the contract it speaks.
        protocol_max: The newest.
        version: Of its software; what came from a peer may hold anything.
        server_epoch: Which start of the server this is; of a client empty.
        token: Of a client: who it is; secret, and empty where it has none.
    """

    protocol_min: int = PROTOCOL_MIN
    protocol_max: int = PROTOCOL_MAX
    version: str = __version__
    server_epoch: bytes = b""
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Ended:
    """Why the server ends the connection: `code` is that of a gRPC status."""

    code: int
    detail: str


def framed(data: bytes) -> bytes:
    """Return `data` as one frame."""
    return HEADER.pack(len(data)) + data


def check_length(length: int, most: int = MAX_MESSAGE_BYTES) -> int:
    """Return `length`, of a frame that is to come.

    Raises:
        ProtocolError: It is longer than `most`.
    """
    if length > most:
        raise ProtocolError(f"a frame of {length:,} bytes, the most is {most:,}")
    return length


def pack_hello(hello: Hello) -> bytes:
    """Return the frame of `hello`."""
    fields = {**vars(hello), "version": encodable(hello.version), "token": encodable(hello.token)}
    return framed(pb.Hello(**fields).SerializeToString())


def read_hello(data: bytes) -> Hello:
    """Return what a serialised Hello says.

    Raises:
        ProtocolError: This is no such message.
    """
    said = _parsed(pb.Hello(), data)
    version = said.version[:MAX_VERSION_CHARACTERS]
    return Hello(said.protocol_min, said.protocol_max, version, said.server_epoch, said.token)


def pack_ended(ended: Ended) -> bytes:
    """Return the last frame, that says `ended`; its text is cut to what fits."""
    data = pb.Ended(code=ended.code, detail=shortened(encodable(ended.detail), 960)).SerializeToString()
    return HEADER.pack(LAST | len(data)) + data


def read_ended(data: bytes) -> Ended:
    """Return what a serialised Ended says.

    Raises:
        ProtocolError: This is no such message.
    """
    said = _parsed(pb.Ended(), data)
    return Ended(said.code, said.detail)


def _parsed(message: _Message, data: bytes) -> _Message:
    if len(data) > MAX_CONTROL_BYTES:
        raise ProtocolError(f"a greeting of {len(data):,} bytes")
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        raise ProtocolError(f"malformed message: {error}") from None
    return message
