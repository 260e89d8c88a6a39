"""No I/O: the one codec for values of variable size: infos, options, keyword and call arguments, call results.

A value comes back equal and of the same type at every level, or it is refused with the path to what cannot travel.
Nothing here runs code chosen by the peer: the format is msgpack with the extension types below, never pickle
(https://github.com/msgpack/msgpack/blob/master/spec.md). Plain msgpack carries None, bool, int within 64 bits, float,
str (UTF-8; a lone surrogate takes its three bytes), bytes, list, and dict with str keys only.

An extension with a payload is a whole value:

====== ============================================================================================================
code   payload
====== ============================================================================================================
16     int beyond 64 bits: two's complement, little-endian
17     complex: real and imaginary part, float64 little-endian
18     bytearray: its bytes
19, 20 ``np.str_``: UTF-8 · ``np.bytes_``: its bytes
32..47 a NumPy scalar, little-endian, in this order: bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
       float16, float32, float64, longdouble, complex64, complex128, clongdouble
====== ============================================================================================================

An extension without payload is a *tag*. It stands first in a msgpack array and says what the elements after it are. So
nested values never hide in payloads, and one pass over the message sees every level and every item:

====== ============================================================================================================
code   elements after the tag
====== ============================================================================================================
1 2 3  the elements of a tuple · a set · a frozenset
4 5    key, value, key, value, ... of a dict with a key that is not str · of a ``collections.OrderedDict``
6      nodes, edges, edge_links of a ``gymnasium.spaces.GraphInstance``
7      dtype, bytes, then the shape of an ``np.ndarray``, C order
8      number of dimensions, the shape, then the elements of an object array, C order
9      dtype, bytes of any other NumPy scalar (datetime64, timedelta64, void, a platform's second type of one size)
====== ============================================================================================================

A dtype is its ``np.dtype.str`` (``"<f8"``, or byte order and ``dtype.char`` where two C types share a size), or
``["sub", dtype, *shape]``, or ``["struct", itemsize, aligned, name, offset, title, dtype, name, offset, ...]``. dtype
metadata is not kept.
"""

from __future__ import annotations

import functools
import itertools
import re
import reprlib
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import msgpack
import numpy as np
from gymnasium.spaces import GraphInstance

from remote_gym.errors import CodecError

MAX_DEPTH = 32
"""Levels of containers in containers. Real infos have under ten; recursion over 32 is safe in any thread's stack."""
MAX_ITEMS = 1_000_000
"""msgpack items in one message. An empty dict takes 1 byte on the wire and 73 in memory: ~75 MB at most."""
MAX_BYTES = 64 * 2**20
"""Bytes in one packed value: the message limit of both ends."""
UNSCANNED_BYTES = 4096
"""Bytes up to which a message is built without a look at its headers. A header makes msgpack reserve room for the items
it claims, at most one per byte of the message, on each of at most 1,024 levels: 32 MiB here, freed at once."""

NUMBER_SCALARS: tuple[type[np.generic], ...] = (
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, np.float32, np.float64, np.longdouble, np.complex64, np.complex128, np.clongdouble,
)  # fmt: skip
"""Types of NumPy scalars that travel as bare bytes; the extension code is 32 + the position here."""

_Encoder = Callable[["_Writer", Any, int], object]
_PLAIN = frozenset({type(None), bool, int, float, str, bytes})  # what msgpack carries as it is
_STR = frozenset({str})
_ext = functools.partial(tuple.__new__, msgpack.ExtType)  # takes (code, payload); three times faster than ExtType()


class _CannotTravel(Exception):
    """A reason, raised where no path is known; `_vet` finds the path."""


# --- packing --------------------------------------------------------------------------------------------------------


def pack(value: object, where: str = "value", max_depth: int = MAX_DEPTH) -> bytes:
    """Turn a value into bytes; safe to call from any thread.

    Args:
        value: What shall travel.
        where: Name of the value in error messages.
        max_depth: Levels of containers allowed; for a caller that wraps values in containers of its own.

    Raises:
        CodecError: Something in the value cannot travel, or a limit is exceeded; the message names the path.
    """
    try:
        packed = _dump(_Writer(max_depth).encode(value, 0))
    except _CannotTravel as refusal:
        _vet(value, where, _Writer(max_depth), (), None)
        raise CodecError(str(refusal), where) from None
    except ValueError as error:  # msgpack: one item of 4 GiB or more
        raise CodecError(f"{error}; send less at once", where) from error
    if len(packed) > MAX_BYTES:
        raise CodecError(f"takes {len(packed):,} bytes, the limit is {MAX_BYTES:,}; send less at once", where)
    return packed


def pack_lossy(value: dict[Any, Any], where: str = "value") -> tuple[bytes, list[str]]:
    """Like `pack`, but leave out each dict entry that cannot travel: of nested dicts, the innermost one's entry.

    Returns:
        The bytes, and the paths of the entries left out.

    Raises:
        CodecError: A limit is exceeded, or `value` is not a dict.
    """
    try:
        return pack(value, where), []
    except CodecError:
        dropped: list[str] = []
        rest = _vet(value, where, _Writer(MAX_DEPTH), (), dropped)
        return pack(rest, where), dropped


def _dump(encoded: object) -> bytes:
    try:
        packed: bytes = msgpack.packb(encoded, strict_types=True, default=_beyond_64_bits)
    except UnicodeEncodeError:  # a lone surrogate; looking for it every time would cost more than this second try
        packed = msgpack.packb(encoded, strict_types=True, default=_beyond_64_bits, unicode_errors="surrogatepass")
    return packed


def _beyond_64_bits(value: object) -> Any:
    """The only thing `_Writer` leaves to msgpack's hook: ints that overflow."""
    if type(value) is not int:
        raise _CannotTravel("changed while it was packed; do not modify a value from another thread")
    return _ext((16, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)))


class _Writer:
    """Rewrites one value into what msgpack carries, within the limits on depth and items."""

    __slots__ = ("items", "max_depth")

    def __init__(self, max_depth: int) -> None:
        self.max_depth = max_depth
        self.items = MAX_ITEMS - 1

    def encode(self, value: object, depth: int) -> object:
        kind = type(value)
        if kind in _PLAIN:
            return value
        encoder = _ENCODERS.get(kind)
        if encoder is None:
            raise _CannotTravel(_why_not(value))
        return encoder(self, value, depth)

    def enter(self, items: int, depth: int) -> None:
        """Account for a container; `items` as on the wire, so that what is packed here is never refused there."""
        self.items -= items
        if depth >= self.max_depth:
            raise _CannotTravel(f"is nested deeper than {self.max_depth} levels, or contains itself; flatten it")
        if self.items < 0:
            raise _CannotTravel(f"has more than {MAX_ITEMS:,} items; send numbers as arrays")

    def each(self, values: Iterable[object], depth: int) -> Iterator[object]:
        return (self.encode(value, depth + 1) for value in values)


def _encode_list(writer: _Writer, value: list[Any], depth: int) -> object:
    writer.enter(len(value), depth)
    return value if _PLAIN.issuperset(map(type, value)) else [*writer.each(value, depth)]


def _encode_dict(writer: _Writer, value: dict[Any, Any], depth: int) -> object:
    if not _STR.issuperset(map(type, value)):
        return _encode_pairs(4, writer, value, depth)
    writer.enter(2 * len(value), depth)
    if _PLAIN.issuperset(map(type, value.values())):
        return value
    encode, below = writer.encode, depth + 1
    return {key: encode(item, below) for key, item in value.items()}


def _encode_pairs(code: int, writer: _Writer, value: dict[Any, Any], depth: int) -> object:
    writer.enter(2 * len(value) + 1, depth)
    return [_ext((code, b"")), *writer.each(itertools.chain.from_iterable(value.items()), depth)]


def _encode_elements(code: int, writer: _Writer, value: Any, depth: int) -> object:
    writer.enter(len(value) + 1, depth)
    return [_ext((code, b"")), *writer.each(value, depth)]


def _encode_array(writer: _Writer, value: np.ndarray[Any, Any], depth: int) -> object:
    dtype, shape = value.dtype, value.shape
    if dtype.kind == "O":
        writer.enter(2 + len(shape) + value.size, depth)
        return [_ext((8, b"")), len(shape), *shape, *writer.each(value.ravel().tolist(), depth)]
    if value.nbytes > MAX_BYTES:
        raise _CannotTravel(f"takes {value.nbytes:,} bytes, the limit is {MAX_BYTES:,}; send less at once")
    described = _describe(dtype)
    writer.enter(3 + len(shape) + _count(described), depth)
    return [_ext((7, b"")), described, value.tobytes(), *shape]


def _encode_other_scalar(writer: _Writer, value: np.generic, depth: int) -> object:
    described = _describe(value.dtype)
    writer.enter(3 + _count(described), depth)
    return [_ext((9, b"")), described, value.tobytes()]


def _payload(code: int, payload: Callable[[Any], bytes]) -> _Encoder:
    return lambda _writer, value, _depth: _ext((code, payload(value)))


def _describe(dtype: np.dtype[Any]) -> Any:
    """The wire form of a dtype."""
    if dtype.names is not None:
        described: list[Any] = ["struct", dtype.itemsize, dtype.isalignedstruct]
        for name in dtype.names:
            field, offset, *title = dtype.fields[name]  # type: ignore[index]
            if title and type(title[0]) is not str:
                raise _CannotTravel("a structured dtype travels only if its titles are strings")
            described += [name, offset, title[0] if title else None, _describe(field)]
        return described
    if dtype.subdtype is not None:
        return ["sub", _describe(dtype.base), *dtype.shape]
    return _describe_simple(dtype.kind, dtype.str, dtype.char)


@functools.lru_cache(maxsize=256)
def _describe_simple(kind: str, text: str, char: str) -> str:
    if kind not in "biufcmMSUV":
        raise _CannotTravel(f"an array of dtype {text} cannot travel; convert it with .astype() or .tolist()")
    return text if np.dtype(text).char == char else text[0] + char


def _count(described: Any) -> int:
    return sum(map(_count, described)) + len(described) if type(described) is list else 0


# --- unpacking ------------------------------------------------------------------------------------------------------


def unpack(data: bytes | memoryview, where: str = "value", max_depth: int = MAX_DEPTH) -> Any:
    """Turn bytes made by `pack` back into the value; safe to call from any thread. Arrays own their data, writable.

    Args:
        data: What `pack` returned, at most `MAX_BYTES` bytes.
        where: Name of the value in error messages.
        max_depth: Levels of containers allowed, as for `pack`.

    Raises:
        CodecError: The data is malformed or exceeds a limit. Limits hold before anything is built; of levels, msgpack
            builds up to 1,024 (without recursion) before `max_depth` is checked.
    """
    try:
        size = memoryview(data).nbytes
        if size > MAX_BYTES:
            raise ValueError(f"{size:,} bytes, the limit is {MAX_BYTES:,}")
        if size > MAX_ITEMS:
            _scan(memoryview(data).cast("B"))
        elif size > UNSCANNED_BYTES:
            _skip(data, size)
        value = _load(data)
        _check_levels(value, max_depth)
    except Exception as error:  # whatever a hostile message provokes, in msgpack, NumPy or here, ends as this one error
        raise CodecError(f"malformed packed value: {type(error).__name__}: {error}", where) from error
    return value


def _skip(data: bytes | memoryview, size: int) -> None:
    """Walk a message in C without building anything: every header then tells the truth about its items."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=size)
    unpacker.feed(data)
    unpacker.skip()
    if unpacker.tell() != size:
        raise ValueError("extra bytes after the value")


def _scan(data: memoryview) -> None:
    """Like `_skip`, and count the items: a message of more than `MAX_ITEMS` bytes can hold too many."""
    position, missing, total = 0, 1, 1
    while missing:
        width, length_bytes, children = _HEADERS[data[position]]
        missing -= 1
        if length_bytes:
            length = int.from_bytes(data[position + 1 : position + 1 + length_bytes], "big")
            width, children = (width, children * length) if children else (width + length, 0)
        position += width
        missing += children
        total += children
        if total > MAX_ITEMS:
            raise ValueError(f"more than {MAX_ITEMS:,} items")
        if position > len(data):
            break
    if missing or position != len(data):
        raise ValueError("truncated, or extra bytes after the value")


def _header(byte: int) -> tuple[int, int, int]:
    """First byte of an item -> bytes to the next header, bytes that hold a length, children (per unit of length)."""
    for end, entry in (
        (0x80, (1, 0, 0)),  # int
        (0x90, (1, 0, 2 * (byte & 15))),  # map
        (0xA0, (1, 0, byte & 15)),  # array
        (0xC0, (1 + (byte & 31), 0, 0)),  # str
        (0xC4, (1, 0, 0)),  # nil, unused, false, true
        (0xC7, (1 + (1 << (byte & 3)), 1 << (byte & 3), 0)),  # bin: its length takes 1, 2 or 4 bytes
        (0xCA, (2 + (1 << (byte - 0xC7 & 3)), 1 << (byte - 0xC7 & 3), 0)),  # ext
        (0xCC, (5 + 4 * (byte & 1), 0, 0)),  # float32, float64
        (0xD4, (1 + (1 << (byte & 3)), 0, 0)),  # uint, int
        (0xD9, (2 + (1 << (byte - 0xD4 & 7)), 0, 0)),  # fixext
        (0xDC, (1 + (1 << (byte - 0xD9 & 3)), 1 << (byte - 0xD9 & 3), 0)),  # str
        (0xDE, (3 + 2 * (byte & 1), 2 + 2 * (byte & 1), 1)),  # array
        (0xE0, (3 + 2 * (byte & 1), 2 + 2 * (byte & 1), 2)),  # map
    ):
        if byte < end:
            return entry
    return (1, 0, 0)  # negative int


_HEADERS = tuple(map(_header, range(256)))


class _Tag:
    """What an extension without payload becomes until `_build` replaces the list it stands in; never handed out."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], Any]) -> None:
        self.build = build


def _build(items: list[Any]) -> Any:
    if items and type(items[0]) is _Tag:
        return items[0].build(items[1:])
    return items


_load = functools.partial(
    msgpack.unpackb, list_hook=_build, ext_hook=lambda code, data: _READERS[code](data), unicode_errors="surrogatepass"
)


def _check_levels(value: object, max_depth: int) -> None:
    """Refuse what is too deep, and tags that stand where none belongs. Breadth first: no recursion."""
    level = [value] if type(value) in _BRANCHES else []
    for _ in range(max_depth):
        if not level:
            return
        below: list[object] = []
        for parent in level:
            children = _BRANCHES[type(parent)](parent)
            if not _LEAVES.issuperset(map(type, children)):
                below += [child for child in children if type(child) in _BRANCHES]
        level = below
    if level:
        raise ValueError(f"nested deeper than {max_depth} levels")


def _misplaced(_stray: object) -> NoReturn:
    raise ValueError("an extension where none belongs")


def _pairs(items: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(items[::2], items[1::2], strict=True)


def _read_array(items: list[Any]) -> np.ndarray[Any, Any]:
    described, data, *shape = items
    dtype = _dtype(described)
    if _size(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape} and dtype {dtype}")
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, data).copy()
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise ValueError("a bool that is neither 0 nor 1")
    if dtype.kind == "U" and array.size and np.frombuffer(data, dtype.byteorder + "u4").max(initial=0) > sys.maxunicode:
        raise ValueError("a character beyond Unicode")
    return array


def _read_objects(items: list[Any]) -> np.ndarray[Any, Any]:
    shape, elements = items[1 : 1 + items[0]], items[1 + items[0] :]
    if len(shape) != items[0] or _size(shape) != len(elements):
        raise ValueError(f"{len(elements)} elements for an array of shape {shape}")
    array = np.empty(shape, object)
    array.reshape(-1)[:] = np.fromiter(elements, object, len(elements))  # fromiter never looks into an element
    return array


def _size(shape: list[Any]) -> int:
    """Number of elements, in ints that cannot overflow."""
    size = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise ValueError(f"{length!r} is no length of an axis")
        size *= length
    return size


def _read_other_scalar(items: list[Any]) -> Any:
    described, data = items
    return _read_array([described, data])[()]


def _dtype(described: Any) -> np.dtype[Any]:
    """A dtype from its wire form. Never one that holds Python objects."""
    if type(described) is str:
        return _simple_dtype(described)
    kind, *rest = described
    if kind == "sub":
        base, *shape = rest
        _size(shape)
        return np.dtype((_dtype(base), tuple(shape)))
    if kind != "struct" or len(rest) % 4 != 2:
        raise ValueError(f"unknown kind of dtype {kind!r}")
    itemsize, aligned, *fields = rest
    names, offsets, titles, formats = (fields[i::4] for i in range(4))
    spec = {"names": names, "offsets": offsets, "formats": [*map(_dtype, formats)], "itemsize": itemsize}
    if not _STR.issuperset(map(type, [*names, *(title for title in titles if title is not None)])):
        raise ValueError("names and titles of a structured dtype must be str")
    if any(title is not None for title in titles):
        spec["titles"] = titles
    return np.dtype(spec, align=aligned)  # type: ignore[call-overload, no-any-return]


_SIMPLE = re.compile(r"[<>|]([lLqQiIgG]|[biufc]\d{1,2}|[SUV]\d{1,9}|[mM]8(\[\d{0,9}[a-zA-Zμ]{1,3}(/\d{1,9})?\])?)")


@functools.lru_cache(maxsize=256)
def _simple_dtype(text: str) -> np.dtype[Any]:
    if not _SIMPLE.fullmatch(text):
        raise ValueError(f"unknown dtype {text[:40]!r}")
    return np.dtype(text)


# --- tables ---------------------------------------------------------------------------------------------------------

_OTHER_SCALARS = (np.datetime64, np.timedelta64, np.void, np.intc, np.uintc, np.longlong, np.ulonglong)

_FLOAT64, _COMPLEX = struct.Struct("<d"), struct.Struct("<dd")
_FLOAT64_CODE = 32 + NUMBER_SCALARS.index(np.float64)


def _scalar_bytes(value: np.generic) -> bytes:
    return value.tobytes() if sys.byteorder == "little" else value.byteswap().tobytes()


def _read_scalar(kind: type[np.generic]) -> Callable[[bytes], Any]:
    dtype = np.dtype(kind).newbyteorder("<")

    def read(data: bytes) -> Any:
        if len(data) != dtype.itemsize or (kind is np.bool_ and data > b"\1"):
            raise ValueError(f"{data[:32]!r} is no {kind.__name__}")
        return np.frombuffer(data, dtype)[0]

    return read


def _read_tag(tag: _Tag) -> Callable[[bytes], _Tag]:
    return lambda _data: tag


_ENCODERS: dict[type, _Encoder] = {
    **dict.fromkeys(_OTHER_SCALARS, _encode_other_scalar),
    **{kind: _payload(32 + i, _scalar_bytes) for i, kind in enumerate(NUMBER_SCALARS)},
    np.float64: _payload(_FLOAT64_CODE, _FLOAT64.pack),  # the commonest by far: six times faster
    complex: _payload(17, lambda value: _COMPLEX.pack(value.real, value.imag)),
    bytearray: _payload(18, bytes),
    np.str_: _payload(19, lambda value: str.encode(value, "utf-8", "surrogatepass")),
    np.bytes_: _payload(20, bytes),
    list: _encode_list,
    dict: _encode_dict,
    tuple: functools.partial(_encode_elements, 1),
    set: functools.partial(_encode_elements, 2),
    frozenset: functools.partial(_encode_elements, 3),
    OrderedDict: functools.partial(_encode_pairs, 5),
    GraphInstance: functools.partial(_encode_elements, 6),
    np.ndarray: _encode_array,
}

_BUILDERS: dict[int, Callable[[list[Any]], Any]] = {
    1: tuple,
    2: set,
    3: frozenset,
    4: lambda items: dict(_pairs(items)),
    5: lambda items: OrderedDict(_pairs(items)),
    6: lambda items: GraphInstance(*items),
    7: _read_array,
    8: _read_objects,
    9: _read_other_scalar,
}

_READERS: dict[int, Callable[[bytes], Any]] = {
    **{code: _read_tag(_Tag(build)) for code, build in _BUILDERS.items()},
    **{32 + i: _read_scalar(kind) for i, kind in enumerate(NUMBER_SCALARS)},
    _FLOAT64_CODE: lambda data: np.float64(_FLOAT64.unpack(data)[0]),
    16: lambda data: int.from_bytes(data, "little", signed=True),
    17: lambda data: complex(*_COMPLEX.unpack(data)),
    18: bytearray,
    19: lambda data: np.str_(data.decode("utf-8", "surrogatepass")),
    20: np.bytes_,
}

_BRANCHES: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((list, tuple, set, frozenset, GraphInstance), lambda parent: parent),
    **dict.fromkeys((dict, OrderedDict), lambda parent: [*parent, *parent.values()]),
    np.ndarray: lambda parent: parent.ravel().tolist() if parent.dtype.hasobject else (),
    **dict.fromkeys((_Tag, msgpack.Timestamp), _misplaced),
}
"""Types of unpacked values that hold others, and how to list those."""

_LEAVES = _PLAIN.union(_ENCODERS).difference(_BRANCHES)


# --- what went wrong, and where: only after a refusal ---------------------------------------------------------------


def _vet(value: Any, where: str, writer: _Writer, above: tuple[int, ...], dropped: list[str] | None) -> Any:
    """Find what cannot travel: raise a CodecError with its path or, given `dropped`, return a copy without it.

    Args:
        value: The value in question.
        where: Its path.
        writer: Counts the items, so that this ends on any value that is refused for having too many.
        above: Ids of the containers around the value.
        dropped: Collects the paths of the entries left out; None: raise instead.
    """
    if id(value) in above:
        raise CodecError("contains itself and cannot travel; leave it out", where)
    kind, above = type(value), (*above, id(value))
    try:
        if kind not in _PARTS or (kind is np.ndarray and value.dtype.kind != "O"):
            writer.encode(value, len(above) - 1)
            return value
        writer.enter(value.size if kind is np.ndarray else len(value), len(above) - 1)
    except _CannotTravel as refusal:
        raise CodecError(str(refusal), where) from None
    if kind in (dict, OrderedDict):
        return kind(_vet_entries(value, where, writer, above, dropped))
    keep = dropped if kind in (list, tuple) else None
    parts = [_vet(part, path, writer, above, keep) for path, part in _PARTS[kind](value, where)]
    return kind(parts) if kind in (list, tuple) else value


def _vet_entries(
    value: dict[Any, Any], where: str, writer: _Writer, above: tuple[int, ...], dropped: list[str] | None
) -> Iterator[tuple[Any, Any]]:
    for key, item in value.items():
        path = f"{where}[{_repr(key)}]"
        try:
            _vet(key, f"the key {_repr(key)} of {where}", writer, above, None)
            yield key, _vet(item, path, writer, above, dropped)
        except CodecError:
            if dropped is None:
                raise
            dropped.append(path)


def _indexed(value: Iterable[object], where: str) -> Iterator[tuple[str, object]]:
    return ((f"{where}[{i}]", part) for i, part in enumerate(value))


def _array_parts(value: np.ndarray[Any, Any], where: str) -> Iterator[tuple[str, object]]:
    paths = (f"{where}[{', '.join(map(str, at))}]" for at in np.ndindex(value.shape))
    return zip(paths, value.ravel().tolist(), strict=True)


def _set_parts(value: Iterable[object], where: str) -> Iterator[tuple[str, object]]:
    return ((f"an element of {where}", part) for part in value)


def _graph_parts(value: Any, where: str) -> Iterator[tuple[str, object]]:
    return ((f"{where}.{name}", part) for name, part in zip(value._fields, value, strict=True))


_PARTS: dict[type, Callable[[Any, str], Iterator[tuple[str, object]]]] = {
    **dict.fromkeys((list, tuple, dict, OrderedDict), _indexed),
    **dict.fromkeys((set, frozenset), _set_parts),
    GraphInstance: _graph_parts,
    np.ndarray: _array_parts,
}

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


def _repr(key: object) -> str:
    return _short.repr(key) if type(key) in _ENCODERS or type(key) in _PLAIN else f"<{type(key).__qualname__}>"


def _why_not(value: object) -> str:
    """What the value is and what to do instead."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    remedies: list[tuple[bool, str]] = [
        (isinstance(value, np.ma.MaskedArray), "send its .data and .mask"),
        (isinstance(value, np.ndarray), "send np.asarray() of it"),
        (isinstance(value, tuple) and hasattr(value, "_fields"), "send tuple() or ._asdict() of it"),
        (hasattr(kind, "__members__"), "send its .value"),
        (isinstance(value, memoryview), "send bytes() of it"),
        (isinstance(value, dict | list | set), "send a plain dict, list or set of it"),
        (callable(value), "call it first and send the result"),
    ]
    default = "send its contents as numbers, strings, lists, dicts or NumPy arrays, or leave it out"
    return f"a {name} cannot travel; {next((remedy for holds, remedy in remedies if holds), default)}"
