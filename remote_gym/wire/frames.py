"""No I/O: Step, Transition and Returned as bytes without copying through protobuf objects: hot ones, and large ones.

Written by joining tag, length and memory; read by finding each field's offset. The bytes are ordinary protobuf: any
generated class reads them, and what a generated class writes is read here (a field encoded in a way this reader does
not know makes the caller fall back to the generated class, see `codec`).

Two liberties that protobuf allows: the length of the outer field and the request number are varints padded to five
bytes, so that offsets do not depend on them; and ignored `padding` fields put each leaf at a multiple of 16 bytes, so
that an array over the received bytes is aligned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from struct import Struct
from typing import Any

import numpy as np

from remote_gym.errors import ProtocolError
from remote_gym.messages import Buffer, Failure, Returned, Step, Transition
from remote_gym.texts import encodable
from remote_gym.wire import session_pb2 as pb
from remote_gym.wire.limits import MAX_STEP_FIELDS, client_indices, max_fields, step_leaves

ALIGNMENT_BYTES = 16

_STEP_TAG = 0x22  # ClientMessage.step = 4, length-delimited
_TRANSITION_TAG, _RETURNED_TAG = 0x1A, 0x22  # ServerMessage.transition = 3, .returned = 4
_NUMBER, _INDICES, _LEAVES, _REWARDS, _TERMINATIONS, _TRUNCATIONS, _INFOS, _FAILURES = range(1, 9)
_PADDING = 15
TRANSITION_BYTE = bytes((_TRANSITION_TAG,))
"""With it begins a ServerMessage with a Transition."""
_VARIABLE, _DTYPES, _GIVEN, _TRACEPARENT = 4, 5, 6, 7  # of Step
_VALUES, _RETURNED_FAILURES = 3, 4  # of Returned
_HEADER_BYTES = 6  # outer tag and padded length
_NUMBER_AT = 7  # after the number's own tag
_ZEROS = bytes(2 * ALIGNMENT_BYTES)
_VARINT_TYPE, _BYTES_TYPE = 0, 2
_KEYS_END = 1 << 32  # a field's number has 29 bits and is not 0, its type has 3
_REWARD_BYTES = 8
_FLAGS = b"\0\1"  # others are left to the generated class: NumPy takes bytes for what they are


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


def _number(number: int) -> bytes:
    """Return a request number as a varint of always five bytes, so that what follows it has a fixed place."""
    if number >> 35:
        return _varint(number)
    spread = (
        number & 0x7F
        | (number & 0x3F80) << 1
        | (number & 0x1FC000) << 2
        | (number & 0xFE00000) << 3
        | (number & 0x7F0000000) << 4
    )
    return (spread | 0x80808080).to_bytes(5, "little")


_unpack_number = Struct("<IB").unpack_from  # the first four bytes of five, and the last
_MORE = 0x80808080  # set in the first four


class _Writer:
    """Collects the pieces of one message and joins them once."""

    __slots__ = ("pieces", "size")

    def __init__(self, number: int) -> None:
        head = _number(number)
        self.pieces: list[Any] = [b"", head]
        self.size = _NUMBER_AT + len(head)

    def field(self, number: int, data: Any, size: int, aligned: bool = False) -> None:
        length = _SMALL[size] if size < 1 << 14 else _varint(size)
        key = _KEYS[number] + length
        if aligned:
            gap = -(self.size + len(key)) % ALIGNMENT_BYTES
            if gap:
                gap += ALIGNMENT_BYTES if gap == 1 else 0  # a padding field takes at least two bytes
                self.pieces.append(_PADDINGS[gap])
                self.size += gap
        self.pieces += (key, data)
        self.size += len(key) + size

    def indices(self, indices: Sequence[int] | None) -> None:
        if indices is not None:
            data = np.asarray(indices, "<u4").tobytes()
            self.field(_INDICES, data, len(data))

    def failures(self, number: int, failures: Sequence[Failure]) -> None:
        for failure in failures:
            message = pack_failure(failure).SerializeToString()
            self.field(number, message, len(message))

    def finish(self, tag: int) -> list[Any]:
        """Return all pieces, the outer tag and length first."""
        length = self.size - _HEADER_BYTES
        self.pieces[0] = bytes(
            (tag, length & 127 | 128, length >> 7 & 127 | 128, length >> 14 & 127 | 128, length >> 21 & 127 | 128,
             length >> 28 & 127, _NUMBER << 3)
        )  # fmt: skip
        return self.pieces


_KEYS = [bytes((number << 3 | _BYTES_TYPE,)) for number in range(16)]
_PADDINGS = [b"" if n < 2 else _KEYS[_PADDING] + bytes((n - 2,)) + _ZEROS[: n - 2] for n in range(2 * ALIGNMENT_BYTES)]

# Steps of a session are alike but for their number and content, so what is constant is remembered by fields and sizes.
# Reading remembers by the length of the message, and compares every constant byte.
_MAX_REMEMBERED = 64
_MAX_CONSTANT_BYTES = 65_536  # of a message that is remembered; our own have up to 32 for each leaf
_MAX_LEAVES = 1_024  # of such a message; each is remembered in about 150 bytes, and may take three of a message
_templates: dict[tuple[Any, ...], list[bytes]] = {}
_layouts: dict[tuple[int, int], _Layout] = {}


def _sizes(parts: Sequence[Any]) -> list[int]:
    return [part.nbytes if type(part) is not bytes else len(part) for part in parts]


_Fields = tuple[tuple[int, bool], ...]
"""The number of each field, and whether it is aligned."""


def _join_like_before(tag: int, number: int, leaves: Sequence[Any], fields: _Fields, others: Sequence[Any]) -> bytes:
    """Return the message of `leaves` and then `others`, which are `fields`, by the template of all sizes."""
    parts = [*leaves, *others]
    key: tuple[Any, ...] = (tag, len(leaves), fields, *_sizes(parts))
    template = _templates.get(key)
    if template is None or number >> 35:
        template = _make_template(tag, number, key[3:], (*repeat((_LEAVES, True), len(leaves)), *fields))
        if not number >> 35:
            if len(_templates) >= _MAX_REMEMBERED:
                _templates.clear()  # whoever packs many kinds must not take the place of others for good
            _templates[key] = template
    pieces: list[Any] = [template[0], _number(number)]
    for constant, part in zip(template[1:], parts, strict=True):
        pieces += (constant, part)
    return b"".join(pieces)


def _make_template(tag: int, number: int, sizes: Sequence[int], fields: _Fields) -> list[bytes]:
    """Return what stands before the number, and before each part."""
    writer = _Writer(number)
    for size, (field, aligned) in zip(sizes, fields, strict=True):
        writer.field(field, None, size, aligned)
    template, constant = [], b""
    for piece in writer.finish(tag)[2:]:
        if piece is None:
            template.append(constant)
            constant = b""
        else:
            constant += piece
    return [writer.pieces[0], *template]


_JUST_GIVEN: _Fields = ((_GIVEN, False),)


def pack_step(step: Step) -> bytes:
    """Return `step` as a serialised ClientMessage."""
    if step.indices is None and not (step.variable or step.dtypes or step.traceparent):  # the usual cases
        fields, others = (_JUST_GIVEN, (step.given,)) if step.given else ((), ())
        return _join_like_before(_STEP_TAG, step.number, step.actions, fields, others)
    writer = _Writer(step.number)
    writer.indices(step.indices)
    for leaf, size in zip(step.actions, _sizes(step.actions), strict=True):
        writer.field(_LEAVES, leaf, size, aligned=True)
    rest = (_VARIABLE, step.variable), (_DTYPES, step.dtypes), (_GIVEN, step.given), (_TRACEPARENT, step.traceparent)
    for field, packed in rest:
        if packed:
            writer.field(field, packed, len(packed))
    return b"".join(writer.finish(_STEP_TAG))


_SCALARS: _Fields = ((_REWARDS, True), (_TERMINATIONS, False), (_TRUNCATIONS, False))


def pack_transition(transition: Transition) -> bytes:
    """Return `transition` as a serialised ServerMessage."""
    leaves = transition.observations
    fields: _Fields = ()
    scalars: tuple[Any, ...] = ()
    if len(transition.rewards):
        fields = _SCALARS
        scalars = (transition.rewards, transition.terminations, transition.truncations)
    if transition.indices is None and not transition.infos and not transition.failures:
        return _join_like_before(_TRANSITION_TAG, transition.number, leaves, fields, scalars)
    writer = _Writer(transition.number)
    writer.indices(transition.indices)
    for leaf, size in zip(leaves, _sizes(leaves), strict=True):
        writer.field(_LEAVES, leaf, size, aligned=True)
    for scalar, size, (field, aligned) in zip(scalars, _sizes(scalars), fields, strict=True):
        writer.field(field, scalar, size, aligned)
    for info in transition.infos:
        writer.field(_INFOS, info, len(info))
    writer.failures(_FAILURES, transition.failures)
    return b"".join(writer.finish(_TRANSITION_TAG))


def pack_returned(returned: Returned) -> bytes:
    """Return `returned` as a serialised ServerMessage; its values, which may be megabytes, are copied once."""
    writer = _Writer(returned.number)
    writer.indices(returned.indices)
    for value in returned.values:
        writer.field(_VALUES, value, len(value))
    writer.failures(_RETURNED_FAILURES, returned.failures)
    return b"".join(writer.finish(_RETURNED_TAG))


def transition_packer(observations: Sequence[Any], scalars: Sequence[Any]) -> Callable[[int], bytes]:
    """Return a function of the request's number: `pack_transition` for a step of everybody with nothing said besides.

    Args:
        observations: One buffer per leaf. Each holds, whenever the function is called, what is to be packed.
        scalars: Such buffers of the rewards, terminations and truncations.
    """
    parts = [*observations, *scalars]
    fields = (*repeat((_LEAVES, True), len(observations)), *_SCALARS)
    first, *constants = _make_template(_TRANSITION_TAG, 0, _sizes(parts), fields)
    pieces = [piece for pair in zip(constants, parts, strict=True) for piece in pair]

    def pack(number: int) -> bytes:
        if number >> 35:
            return pack_transition(Transition(number, None, observations, *scalars))
        return b"".join([first, _number(number), *pieces])

    return pack


def pack_failure(failure: Failure) -> pb.Failure:
    """Return the message of `failure`."""
    kind: Any = int(failure.kind)
    return pb.Failure(
        index=failure.index,
        kind=kind,
        type=encodable(failure.type),
        message=encodable(failure.message),
        detail=encodable(failure.detail),
        base=encodable(failure.base),
    )


def read_varint(data: Buffer, at: int, max_bytes: int = 5) -> tuple[int, int]:
    """Return the varint that begins at `at`, and where it ends; lengths and keys take no more than five bytes.

    Raises:
        IndexError: The data ends within it.
        ProtocolError: It is longer than any.
    """
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
        if shift == 7 * max_bytes:
            raise ProtocolError(f"a varint is longer than {max_bytes} bytes")


def _fields(data: Buffer, most: int) -> dict[int, list[Any]]:
    """Return the fields of the one message inside `data`, at most so many: integers, and (start, end) of all else.

    Counts before it makes: two bytes of a field become hundreds.
    """
    end = len(data)
    try:
        length, at = read_varint(data, 1)
        if at + length != end:
            raise UnusualEncoding
        found: dict[int, list[Any]] = {}
        for _ in repeat(None, most):
            if at >= end:
                break
            # Nearly always one byte each: without a call, a message costs half.
            key, value = data[at], data[at + 1]
            if key < 0x80:
                at += 1
            else:
                key, at = read_varint(data, at)
                value = data[at]
            if value < 0x80:
                at += 1
            else:
                value, at = read_varint(data, at, 5 if key & 7 == _BYTES_TYPE else 10)
            if not 8 <= key < _KEYS_END:
                raise ProtocolError("a field has a number that no field can have")
            if key & 7 == _BYTES_TYPE:
                found.setdefault(key >> 3, []).append((at, at + value))
                at += value
            elif key & 7 == _VARINT_TYPE:
                found.setdefault(key >> 3, []).append(value)
            else:
                raise UnusualEncoding
        else:
            if at < end:
                raise ProtocolError(f"a message of {end:,} bytes has more than {most:,} fields")
    except IndexError:
        raise ProtocolError("a message ends in the middle of a field") from None
    if at != end:
        raise ProtocolError("a field is longer than its message")
    return found


def _number_of(found: dict[int, list[Any]]) -> int:
    number = found[_NUMBER][-1] if _NUMBER in found else 0
    if not isinstance(number, int):
        raise UnusualEncoding
    if number >> 64:
        raise ProtocolError("a request number has more than 64 bits")
    return number


def _spans(found: dict[int, list[Any]], field: int) -> list[tuple[int, int]]:
    spans = found.pop(field, [])
    if any(isinstance(span, int) for span in spans):  # not packed
        raise UnusualEncoding
    return spans


def _packed_span(found: dict[int, list[Any]], field: int) -> tuple[int, int]:
    """Return where the one packed array of `field` lies; one in several pieces is left to the generated class."""
    spans = _spans(found, field)
    if len(spans) > 1:
        raise UnusualEncoding
    return spans[0] if spans else (0, 0)


def _packed(data: memoryview, found: dict[int, list[Any]], field: int) -> memoryview:
    return data[slice(*_packed_span(found, field))]


def _read_indices(view: memoryview, found: dict[int, list[Any]]) -> list[int] | None:
    packed = _packed(view, found, _INDICES)
    if len(packed) % 4:
        raise ProtocolError("env indices are not a whole number of 32-bit words")
    return np.frombuffer(packed, "<u4").tolist() if len(packed) else None


class _Layout:
    """Where the parts of a message lie that is as long as this one was, if all bytes between them are the same.

    `others` are the parts that are no leaves, in an order of the caller's; an empty one is not there at all.
    """

    __slots__ = ("constants", "leaves", "others", "take")

    def __init__(self, data: Buffer, leaves: list[tuple[int, int]], others: list[tuple[int, int]]) -> None:
        self.leaves, self.others = ([slice(*part) for part in parts] for parts in (leaves, others))
        holes = [(_NUMBER_AT, _NUMBER_AT + 5), *sorted(part for part in (*leaves, *others) if part[0] < part[1])]
        starts = [0, *(end for _, end in holes)]
        ends = [*(start for start, _ in holes), len(data)]
        gaps = [*(end - start for start, end in holes), 0]
        lengths = [end - start for start, end in zip(starts, ends, strict=True)]
        # One call takes out all constants and skips the holes.
        self.take = Struct("".join(f"{size}s{gap}x" for size, gap in zip(lengths, gaps, strict=True))).unpack
        self.constants = self.take(data)

    def number(self, data: Buffer) -> int | None:
        """Return the request number of `data`, which is as long as this message was; None: they are not alike."""
        low: int
        high: int
        low, high = _unpack_number(data, _NUMBER_AT)
        # The last byte of the number ends its varint, the others do not: else the number is of another width.
        if low & _MORE != _MORE or high > 0x7F or self.take(data) != self.constants:
            return None
        return low & 0x7F | low >> 1 & 0x3F80 | low >> 2 & 0x1FC000 | low >> 3 & 0xFE00000 | high << 28


def _remember(
    data: Buffer, tag: int, numbers: list[Any], leaves: list[tuple[int, int]], others: list[tuple[int, int]]
) -> None:
    constant_bytes = len(data) - sum(end - start for start, end in (*leaves, *others))
    if constant_bytes > _MAX_CONSTANT_BYTES or len(leaves) > _MAX_LEAVES:
        return
    if len(numbers) != 1 or not _begins_padded(data):
        return
    if len(_layouts) >= _MAX_REMEMBERED:
        _layouts.clear()  # whoever sends many kinds must not take the place of others for good
    _layouts[tag, len(data)] = _Layout(data, leaves, others)


def _begins_padded(data: Buffer) -> bool:
    """Return whether the outer length and, as the first field, the number are varints of five bytes."""
    if len(data) < _NUMBER_AT + 5 or data[_NUMBER_AT - 1] != _NUMBER << 3:
        return False
    length, number = data[1:_HEADER_BYTES], data[_NUMBER_AT : _NUMBER_AT + 5]
    return all(min(five[:4]) > 0x7F and five[4] < 0x80 for five in (length, number))


def read_step(data: bytes) -> Step:
    """Return the Step in a serialised ClientMessage; its leaves look into `data`.

    Raises:
        UnusualEncoding: Use the generated class.
        ProtocolError: This is no message.
    """
    view = memoryview(data)
    layout = _layouts.get((_STEP_TAG, len(data)))
    if layout is not None and (number := layout.number(data)) is not None:
        return Step(number, None, [*map(view.__getitem__, layout.leaves)], *map(data.__getitem__, layout.others))
    found = _fields(data, MAX_STEP_FIELDS)
    number = _number_of(found)
    indices = _read_indices(view, found)
    client_indices(indices or ())
    leaves = step_leaves(_spans(found, _LEAVES))
    others = [_packed_span(found, field) for field in (_VARIABLE, _DTYPES, _GIVEN)]
    # Of a trace, which few steps belong to and whose bytes are new each time: such a step is not remembered.
    traceparent = _packed_span(found, _TRACEPARENT) if _TRACEPARENT in found else (0, 0)
    if indices is None and traceparent == (0, 0) and found.keys() <= {_NUMBER, _PADDING}:
        some = any(start < end for start, end in others)
        _remember(data, _STEP_TAG, found.get(_NUMBER, []), leaves, others if some else [])
    actions = [view[start:end] for start, end in leaves]
    return Step(number, indices, actions, *[data[start:end] for start, end in (*others, traceparent)])


def read_transition(data: Buffer) -> Transition:
    """Return the Transition in a serialised ServerMessage; its leaves look into `data`, writable if that is.

    Raises:
        UnusualEncoding: Use the generated class.
        ProtocolError: This is no message.
    """
    view = memoryview(data)
    layout = _layouts.get((_TRANSITION_TAG, len(data)))
    if layout is not None and (number := layout.number(data)) is not None:
        rewards, terminations, truncations = map(view.__getitem__, layout.others)
        if bytes(terminations).translate(None, _FLAGS) or bytes(truncations).translate(None, _FLAGS):
            raise UnusualEncoding
        return Transition(number, None, [*map(view.__getitem__, layout.leaves)], rewards, terminations, truncations)
    found = _fields(data, max_fields(len(data)))
    if _FAILURES in found:
        raise UnusualEncoding  # rare, and nested
    number = _number_of(found)
    indices = _read_indices(view, found)
    spans = _spans(found, _LEAVES)
    scalars = [_packed_span(found, field) for field in (_REWARDS, _TERMINATIONS, _TRUNCATIONS)]
    infos = [view[start:end] for start, end in _spans(found, _INFOS)]
    rewards, terminations, truncations = (view[start:end] for start, end in scalars)
    if len(rewards) % _REWARD_BYTES:
        raise ProtocolError("rewards are not a whole number of float64")
    if terminations.tobytes().translate(None, _FLAGS) or truncations.tobytes().translate(None, _FLAGS):
        raise UnusualEncoding
    if (
        indices is None
        and not infos
        and all(start < end for start, end in scalars)
        and found.keys() <= {_NUMBER, _PADDING}
    ):
        _remember(data, _TRANSITION_TAG, found.get(_NUMBER, []), spans, scalars)
    observations = [view[start:end] for start, end in spans]
    return Transition(number, indices, observations, rewards, terminations, truncations, infos)
