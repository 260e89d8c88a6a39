"""No I/O: the hot messages, Step and Transition, as bytes without copying through protobuf objects.

Written by joining tag, length and memory; read by finding each field's offset. The bytes are ordinary protobuf: any
generated class reads them, and what a generated class writes is read here (a field encoded in a way this reader does
not know makes the caller fall back to the generated class, see `messages`).

Two liberties that protobuf allows: the length of the outer field is a varint padded to five bytes, so that offsets are
known before the content is; and ignored `padding` fields put each leaf at a multiple of 16 bytes, so that an array over
the received bytes is aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from remote_gym.batches import Step, Transition
from remote_gym.errors import ProtocolError
from remote_gym.wire import session_pb2 as pb

ALIGNMENT_BYTES = 16

_STEP_TAG, _TRANSITION_TAG = 0x22, 0x1A  # ClientMessage.step = 4, ServerMessage.transition = 3, length-delimited
_NUMBER, _INDICES, _LEAVES, _REWARDS, _TERMINATIONS, _TRUNCATIONS, _INFOS, _FAILURES, _PADDING = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    15,
)
_VARIABLE = 4  # of Step
_HEADER_BYTES = 6  # outer tag and padded length
_MAX_LENGTH = 1 << 35  # what a five-byte varint can say
_ZEROS = bytes(2 * ALIGNMENT_BYTES)
_VARINT_TYPE, _BYTES_TYPE = 0, 2


class UnusualEncoding(Exception):
    """Valid perhaps, but not written the way this reader knows: use the generated class."""


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


_SMALL = [_varint(value) for value in range(1 << 14)]


class _Writer:
    """Collects the pieces of one message and joins them once."""

    __slots__ = ("_pieces", "_size")

    def __init__(self, number: int) -> None:
        head = b"\x08" + _varint(number)
        self._pieces: list[Any] = [b"", head]
        self._size = _HEADER_BYTES + len(head)

    def field(self, number: int, data: Any, size: int, aligned: bool = False) -> None:
        length = _SMALL[size] if size < 1 << 14 else _varint(size)
        key = _KEYS[number] + length
        if aligned:
            gap = -(self._size + len(key)) % ALIGNMENT_BYTES
            if gap:
                gap += ALIGNMENT_BYTES if gap == 1 else 0  # a padding field takes at least two bytes
                self._pieces.append(_PADDINGS[gap])
                self._size += gap
        self._pieces += (key, data)
        self._size += len(key) + size

    def indices(self, indices: Sequence[int] | None) -> None:
        if indices is not None:
            data = np.asarray(indices, "<u4").tobytes()
            self.field(_INDICES, data, len(data))

    def join(self, tag: int) -> bytes:
        length = self._size - _HEADER_BYTES
        self._pieces[0] = bytes(
            (tag, length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21 & 127 | 128,
             length >> 28 & 127)
        )  # fmt: skip
        return b"".join(self._pieces)


_KEYS = [bytes((number << 3 | _BYTES_TYPE,)) for number in range(16)]
_PADDINGS = [b"" if n < 2 else _KEYS[_PADDING] + bytes((n - 2,)) + _ZEROS[: n - 2] for n in range(2 * ALIGNMENT_BYTES)]


def _buffer(data: Any) -> tuple[Any, int]:
    """Return `data` as something `bytes.join` takes without an intermediate copy, and its size in bytes."""
    if isinstance(data, np.ndarray):
        flat = data.reshape(-1)  # no copy when C-contiguous, as packed rows are
        return (flat.view(np.uint8).data, flat.nbytes) if flat.size else (b"", 0)
    return data, len(data)


def pack_step(step: Step) -> bytes:
    """Return `step` as a serialised ClientMessage."""
    writer = _Writer(step.number)
    writer.indices(step.indices)
    for leaf in step.actions:
        writer.field(_LEAVES, *_buffer(leaf), aligned=True)
    if step.variable:
        writer.field(_VARIABLE, step.variable, len(step.variable))
    return writer.join(_STEP_TAG)


def pack_transition(transition: Transition) -> bytes:
    """Return `transition` as a serialised ServerMessage."""
    writer = _Writer(transition.number)
    writer.indices(transition.indices)
    for leaf in transition.observations:
        writer.field(_LEAVES, *_buffer(leaf), aligned=True)
    if len(transition.rewards):
        writer.field(_REWARDS, *_buffer(transition.rewards), aligned=True)
        writer.field(_TERMINATIONS, *_buffer(transition.terminations))
        writer.field(_TRUNCATIONS, *_buffer(transition.truncations))
    for info in transition.infos:
        writer.field(_INFOS, info, len(info))
    for failure in transition.failures:
        kind: Any = int(failure.kind)
        message = pb.Failure(
            index=failure.index, kind=kind, type=failure.type, message=failure.message, detail=failure.detail
        ).SerializeToString()
        writer.field(_FAILURES, message, len(message))
    return writer.join(_TRANSITION_TAG)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
        if shift > 63:
            raise ProtocolError("a varint is longer than ten bytes")


def _fields(data: bytes, tag: int) -> dict[int, list[Any]]:
    """Return the fields of the one message inside `data`: integers, and (start, end) of everything else."""
    end = len(data)
    try:
        length, at = _read_varint(data, 1)
        if at + length != end:
            raise UnusualEncoding
        found: dict[int, list[Any]] = {}
        while at < end:
            key, at = _read_varint(data, at)
            value, at = _read_varint(data, at)
            if key & 7 == _BYTES_TYPE:
                found.setdefault(key >> 3, []).append((at, at + value))
                at += value
            elif key & 7 == _VARINT_TYPE:
                found.setdefault(key >> 3, []).append(value)
            else:
                raise UnusualEncoding
    except IndexError:
        raise ProtocolError("a message ends in the middle of a field") from None
    if at != end:
        raise ProtocolError("a field is longer than its message")
    return found


def _number(found: dict[int, list[Any]]) -> int:
    (number,) = found.pop(_NUMBER, (0,))[-1:]
    if not isinstance(number, int):
        raise UnusualEncoding
    return number


def _spans(found: dict[int, list[Any]], field: int) -> list[tuple[int, int]]:
    spans = found.pop(field, [])
    if any(isinstance(span, int) for span in spans):  # not packed
        raise UnusualEncoding
    return spans


def _packed(data: memoryview, found: dict[int, list[Any]], field: int) -> memoryview:
    """Return the one packed array of `field`; an array in several pieces is left to the generated class."""
    spans = _spans(found, field)
    if len(spans) > 1:
        raise UnusualEncoding
    return data[slice(*spans[0])] if spans else data[:0]


def _read_indices(view: memoryview, found: dict[int, list[Any]]) -> list[int] | None:
    packed = _packed(view, found, _INDICES)
    if len(packed) % 4:
        raise ProtocolError("env indices are not a whole number of 32-bit words")
    return np.frombuffer(packed, "<u4").tolist() if len(packed) else None


def is_step(data: bytes) -> bool:
    """Return whether `data` begins like a ClientMessage with a Step."""
    return data[:1] == b"\x22"


def is_transition(data: bytes) -> bool:
    """Return whether `data` begins like a ServerMessage with a Transition."""
    return data[:1] == b"\x1a"


def read_step(data: bytes) -> Step:
    """Return the Step in a serialised ClientMessage; its leaves look into `data`.

    Raises:
        UnusualEncoding: Use the generated class.
        ProtocolError: This is no message.
    """
    found = _fields(data, _STEP_TAG)
    view = memoryview(data)
    number = _number(found)
    indices = _read_indices(view, found)
    actions = [view[start:end] for start, end in _spans(found, _LEAVES)]
    variable = _packed(view, found, _VARIABLE)
    return Step(number, indices, actions, bytes(variable))


def read_transition(data: bytes) -> Transition:
    """Return the Transition in a serialised ServerMessage; its leaves look into `data`.

    Raises:
        UnusualEncoding: Use the generated class.
        ProtocolError: This is no message.
    """
    found = _fields(data, _TRANSITION_TAG)
    if _FAILURES in found:
        raise UnusualEncoding  # rare, and nested
    view = memoryview(data)
    number = _number(found)
    indices = _read_indices(view, found)
    observations = [view[start:end] for start, end in _spans(found, _LEAVES)]
    rewards = _packed(view, found, _REWARDS)
    terminations, truncations = _packed(view, found, _TERMINATIONS), _packed(view, found, _TRUNCATIONS)
    infos = [view[start:end] for start, end in _spans(found, _INFOS)]
    return Transition(number, indices, observations, rewards, terminations, truncations, infos)
