"""No I/O: a value -> what msgpack carries -> bytes."""

from __future__ import annotations

import functools
import itertools
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any, Callable

import msgpack
import numpy as np

from remote_gym.gym import GraphInstance
from remote_gym.values.bases import as_base, base_of
from remote_gym.values.dtypes import count_elements, count_items, describe
from remote_gym.values.hashing import Tables
from remote_gym.values.limits import MAX_AXES, MAX_BYTES, MAX_INT_BYTES, MAX_ITEMS
from remote_gym.values.refusals import CannotTravel, why_not
from remote_gym.values.scalars import BIG_INT, OTHER_SCALARS, PAYLOADS, PLAIN, STR

_Encoder = Callable[["Writer", Any, int], object]
_ext = functools.partial(tuple.__new__, msgpack.ExtType)  # takes (code, payload); three times faster than ExtType()


def dump(encoded: object) -> bytes:
    """Turn what `Writer.encode` returned into bytes."""
    try:
        packed: bytes = msgpack.packb(encoded, strict_types=True, default=_beyond_64_bits)
    except UnicodeEncodeError:  # a lone surrogate; looking for it every time would cost more than this second try
        packed = msgpack.packb(encoded, strict_types=True, default=_beyond_64_bits, unicode_errors="surrogatepass")
    return packed


def _beyond_64_bits(value: object) -> Any:
    """The only thing `Writer` leaves to msgpack's hook: ints that overflow."""
    if type(value) is not int:
        raise CannotTravel("changed while it was packed; do not modify a value from another thread")
    if value.bit_length() // 8 + 1 > MAX_INT_BYTES:
        raise CannotTravel(f"is an int of more than {MAX_INT_BYTES:,} bytes; send it as text or bytes")
    return _ext((BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)))


class Writer:
    """Rewrites one value into what msgpack carries, within the limits on depth, items and hash tables.

    Attributes:
        based: The subclasses whose instances were rewritten as their base.
    """

    __slots__ = ("based", "items", "max_depth", "tables")

    def __init__(self, max_depth: int) -> None:
        self.max_depth = max_depth
        self.items = MAX_ITEMS - 1
        self.tables = Tables()
        self.based: frozenset[type] = frozenset()

    def encode(self, value: object, depth: int) -> object:
        """Rewrite a value that stands within `depth` containers; raises `CannotTravel`."""
        kind = type(value)
        if kind in PLAIN:
            return value
        encoder = ENCODERS.get(kind)
        if encoder is None:
            return self.encode(self.as_base(value), depth)
        return encoder(self, value, depth)

    def as_base(self, value: Any) -> object:
        """Return a value of a type that is not in the tables as its base; raises `CannotTravel`."""
        kind: Any = type(value)
        base = base_of(kind)
        if base is None:
            raise CannotTravel(why_not(value))
        try:
            plain = as_base(value, base)
        except Exception as error:  # of a subclass that keeps its items elsewhere
            raise CannotTravel(f"{why_not(value)}: {type(error).__name__}") from None
        self.based |= {kind}
        return plain

    def enter(self, items: int, depth: int) -> None:
        """Account for a container; `items` as on the wire, so that what is packed here is never refused there."""
        self.items -= items
        if depth >= self.max_depth:
            raise CannotTravel(f"is nested deeper than {self.max_depth} levels, or contains itself; flatten it")
        if self.items < 0:
            raise CannotTravel(f"has more than {MAX_ITEMS:,} items; send numbers as arrays")

    def each(self, values: Iterable[object], depth: int) -> Iterator[object]:
        """Rewrite the elements of a container at `depth`."""
        return (self.encode(value, depth + 1) for value in values)


def _encode_list(writer: Writer, value: list[Any], depth: int) -> object:
    writer.enter(len(value), depth)
    return value if PLAIN.issuperset(map(type, value)) else [*writer.each(value, depth)]


def _encode_dict(writer: Writer, value: dict[Any, Any], depth: int) -> object:
    if not STR.issuperset(map(type, value)):
        return _encode_pairs(4, writer, value, depth)
    writer.enter(2 * len(value), depth)
    if len(value) == 1 and "" in value:
        writer.tables.admit_hollow()
    if PLAIN.issuperset(map(type, value.values())):
        return value
    encode, below = writer.encode, depth + 1
    return {key: encode(item, below) for key, item in value.items()}


def _encode_pairs(code: int, writer: Writer, value: dict[Any, Any], depth: int) -> object:
    writer.enter(2 * len(value) + 1, depth)
    writer.tables.admit(value)
    return [_ext((code, b"")), *writer.each(itertools.chain.from_iterable(value.items()), depth)]


def _encode_elements(code: int, writer: Writer, value: Any, depth: int) -> object:
    writer.enter(len(value) + 1, depth)
    return [_ext((code, b"")), *writer.each(value, depth)]


def _encode_set(code: int, writer: Writer, value: Any, depth: int) -> object:
    writer.enter(len(value) + 1, depth)
    writer.tables.admit(value)
    return [_ext((code, b"")), *writer.each(value, depth)]


def _encode_array(writer: Writer, value: np.ndarray[Any, Any], depth: int) -> object:
    dtype, shape = value.dtype, value.shape
    if dtype.kind == "O":
        check_shape(shape)
        writer.enter(2 + len(shape) + value.size, depth)
        return [_ext((8, b"")), len(shape), *shape, *writer.each(value.ravel().tolist(), depth)]
    if value.nbytes > MAX_BYTES:
        raise CannotTravel(f"takes {value.nbytes:,} bytes, the limit is {MAX_BYTES:,}; send less at once")
    described, axes = describe(dtype)
    check_shape(shape, axes)
    writer.enter(3 + len(shape) + count_items(described), depth)
    return [_ext((7, b"")), described, value.tobytes(), *shape]


def check_shape(shape: tuple[int, ...], axes_of_fields: int = 0) -> None:
    """Raise `CannotTravel` if no reader would take an array of this shape."""
    try:
        count_elements(shape)
    except ValueError as error:
        raise CannotTravel(f"has a shape that cannot travel: {error}; send it in parts") from None
    if len(shape) + axes_of_fields > MAX_AXES:
        raise CannotTravel(f"has more than {MAX_AXES} axes, those of its fields included; send its fields apart")


def _encode_other_scalar(writer: Writer, value: np.generic, depth: int) -> object:
    described, _ = describe(value.dtype)
    writer.enter(3 + count_items(described), depth)
    return [_ext((9, b"")), described, value.tobytes()]


def _payload(code: int, payload: Callable[[Any], bytes]) -> _Encoder:
    return lambda _writer, value, _depth: _ext((code, payload(value)))


ENCODERS: dict[type, _Encoder] = {
    **dict.fromkeys(OTHER_SCALARS, _encode_other_scalar),
    **{kind: _payload(code, payload) for kind, (code, payload) in PAYLOADS.items()},
    list: _encode_list,
    dict: _encode_dict,
    tuple: functools.partial(_encode_elements, 1),
    set: functools.partial(_encode_set, 2),
    frozenset: functools.partial(_encode_set, 3),
    OrderedDict: functools.partial(_encode_pairs, 5),
    GraphInstance: functools.partial(_encode_elements, 6),
    np.ndarray: _encode_array,
}
"""Every type that travels as itself, but for `PLAIN`; a subclass travels as its base (`bases`)."""
