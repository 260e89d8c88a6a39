"""No I/O: space descriptions (`remote_gym.spaces`) <-> the protobuf message, field by field of the same name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message

from remote_gym.errors import ProtocolError
from remote_gym.spaces import SpaceData
from remote_gym.wire import space_pb2
from remote_gym.wire.limits import MAX_DIMENSIONS, MAX_SPACES, max_spaces


def pack_space(data: SpaceData) -> space_pb2.Space:
    """Return the message with the fields of `data`."""
    return space_pb2.Space(**data)


def read_space(message: space_pb2.Space) -> SpaceData:
    """Return the fields of `message` as plain data; `remote_gym.spaces.build` checks what they say.

    How deep it is nested is bounded by protobuf, which parses no more than 100 levels.

    Raises:
        ProtocolError: It holds more spaces than any may, or than its size allows; or a shape has too many dimensions.
    """
    return _space(message, [min(MAX_SPACES, max_spaces(message.ByteSize()))])


def read_spaces(messages: Sequence[space_pb2.Space]) -> tuple[SpaceData, ...]:
    """Do what `read_space` does for several, which together hold no more spaces than their size allows."""
    left = [max_spaces(sum(message.ByteSize() for message in messages))]
    return tuple(_space(message, left) for message in messages)


def _space(message: space_pb2.Space, left: list[int]) -> SpaceData:
    left[0] -= 1
    if left[0] < 0:
        raise ProtocolError("a space description holds too many spaces")
    kind = message.WhichOneof("kind")
    data: SpaceData = {kind: _fields(getattr(message, kind), left)} if kind else {"": {}}
    if message.HasField("generator"):
        data["generator"] = _fields(message.generator, left)
    if message.type:
        data.update(type=message.type, by_base=message.by_base)
    return data


def _fields(message: Message, left: list[int]) -> dict[str, Any]:
    return {
        field.name: _plain(field.name, getattr(message, field.name), left)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _plain(name: str, value: Any, left: list[int]) -> Any:
    if isinstance(value, space_pb2.Space):
        return _space(value, left)
    if isinstance(value, (str, bytes, bool, int)):
        return value
    if name == "shape" and len(value) > MAX_DIMENSIONS:
        raise ProtocolError(f"a space of {len(value):,} dimensions")
    return [_plain("", item, left) for item in value]
