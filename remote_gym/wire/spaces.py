"""No I/O: space descriptions (`remote_gym.spaces`) <-> the protobuf message, field by field of the same name."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message

from remote_gym.spaces import SpaceData
from remote_gym.wire import space_pb2


def pack_space(data: SpaceData) -> space_pb2.Space:
    """Return the message with the fields of `data`."""
    return space_pb2.Space(**data)


def read_space(message: space_pb2.Space) -> SpaceData:
    """Return the fields of `message` as plain data; `remote_gym.spaces.build` checks what they say."""
    kind = message.WhichOneof("kind")
    return {kind: _fields(getattr(message, kind))} if kind else {"": {}}


def _fields(message: Message) -> dict[str, Any]:
    return {
        field.name: _plain(getattr(message, field.name))
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _plain(value: Any) -> Any:
    if isinstance(value, space_pb2.Space):
        return read_space(value)
    if isinstance(value, (str, bytes, bool, int)):
        return value
    return [_plain(item) for item in value]
