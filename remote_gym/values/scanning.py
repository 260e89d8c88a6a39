"""No I/O: walks over a packed message that build nothing, so that no header makes anybody reserve memory in vain.

The server process looks at what a peer has packed by `survey` alone: it never makes values of a peer's bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import cached_property

import msgpack

from remote_gym.values.limits import MAX_BYTES, MAX_DEPTH, MAX_ITEMS, SURVEYED_ITEMS

BUILT_LEVELS = 1_024
"""Levels that MessagePack builds before it gives up; who builds checks its own limit after that."""


def skip(data: bytes | memoryview, size: int) -> None:
    """Walk a message in C without building anything: every header then tells the truth about its items."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=size)
    unpacker.feed(data)
    unpacker.skip()
    if unpacker.tell() != size:
        raise ValueError("extra bytes after the value")


def scan(data: bytes | memoryview, max_levels: int = BUILT_LEVELS) -> None:
    """Walk in Python, and count the items and levels, and see that extensions stand where they belong.

    Raises:
        ValueError: The message is malformed, or has too many of either. Takes at most 1 us per byte.
    """
    _scan(data, max_levels, MAX_ITEMS)


def _scan(data: bytes | memoryview, max_levels: int, most: int) -> bool:
    """Do so up to `most` items; return whether those were all."""
    try:
        end = _walk(data, max_levels, most)
    except IndexError:
        raise ValueError("truncated") from None
    if end is not None and end != len(data):
        raise ValueError("truncated, or extra bytes after the value")
    return end is not None


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


_EXTENSIONS = frozenset({*range(16, 21), *range(32, 48)})
"""Codes of extensions with a payload; those without are tags, and stand first in an array."""
_TAGS = range(1, 10)
_EXT_BYTES = {0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD4: 0, 0xD5: 0, 0xD6: 0, 0xD7: 0, 0xD8: 0}
"""First byte of an extension -> bytes that hold the length of its payload."""
_DTYPE_LEVELS = 16
"""Levels beyond `max_depth`: those of a structured dtype, which the packing side does not count."""


class Survey:
    """What a packed value says of itself, read without building anything of it.

    Attributes:
        kind: ``"nil"``, ``"bool"``, ``"int"``, ``"float"``, ``"str"``, ``"bytes"``, ``"list"`` or ``"map"``; that of an
            extension by its code, ``"extension 16"``; that of a tagged value by its tag, ``"tag 4"``.
    """

    def __init__(self, data: bytes, start: int, end: int) -> None:
        """Look at the value from `start` to `end`, which `survey` has checked."""
        self.data = data
        self.kind = kind_at(data, start)
        self._span = start, end

    @cached_property
    def _bounds(self) -> array[int]:
        """Where each element of a list, or each key and value of a map in turn, begins; and the end of the last."""
        start, end = self._span
        return _bounds(self.data, start, end) if self.kind in ("list", "map") else array("I", (end,))

    def __len__(self) -> int:
        """Return the number of elements of a list, of keys and values of a map."""
        return _count(self.data, self._span[0]) if self.kind in ("list", "map") else 0

    def element(self, number: int) -> Survey:
        """Return the survey of one element."""
        return Survey(self.data, self._bounds[number], self._bounds[number + 1])

    def kinds(self) -> list[str]:
        """Return the kind of each element."""
        return [kind_at(self.data, start) for start in self._bounds[:-1]]

    def is_table(self, width: int) -> bool:
        """Return whether each element is a list of `width` elements."""
        return all(
            kind_at(self.data, start) == "list" and _count(self.data, start) == width for start in self._bounds[:-1]
        )

    def text(self, number: int, limit: int) -> str | None:
        """Return an element that is text, of at most `limit` bytes; None if it is anything else, or longer."""
        start, end = self._bounds[number], self._bounds[number + 1]
        first = self.data[start]
        if kind_at(self.data, start) == "str":
            width, length_bytes, _ = _HEADERS[first]
            start += 1 if not length_bytes else width
        elif kind_at(self.data, start) == "extension 19":  # np.str_
            start += 2 + _EXT_BYTES[first]
        else:
            return None
        return self.data[start:end].decode("utf-8", "surrogatepass") if end - start <= limit else None

    def select(self, numbers: Sequence[int]) -> bytes:
        """Return the packed list of some elements of a list, in this order."""
        bounds = self._bounds
        pieces = [self.data[bounds[number] : bounds[number + 1]] for number in numbers]
        return msgpack.Packer().pack_array_header(len(pieces)) + b"".join(pieces)  # type: ignore[no-any-return]


def survey(data: bytes, max_depth: int = MAX_DEPTH) -> Survey:
    """Walk a packed value: is it whole, within the limits, and what is it? Builds nothing, whatever the bytes say.

    What is left to `unpack`, in the process that needs the value: dtypes, shapes, keys that collide; of a value with
    more than `SURVEYED_ITEMS` items also their number, their levels, and where its extensions stand.

    Args:
        data: A value packed by `pack`, or what claims to be one.
        max_depth: Levels of containers allowed.

    Raises:
        ValueError: It is malformed, or has too many items or levels. Takes a few milliseconds, and 10 ns per byte.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"{len(data):,} bytes, the limit is {MAX_BYTES:,}")
    if not _scan(data, max_depth + _DTYPE_LEVELS, SURVEYED_ITEMS):
        try:
            skip(data, len(data))
        except msgpack.OutOfData:
            raise ValueError("truncated") from None
    return Survey(data, 0, len(data))


def _walk(data: bytes | memoryview, max_levels: int, most: int) -> int | None:
    """Return where the value ends; past the end of `data` if it is truncated. None: it has more than `most` items."""
    headers, position, missing, total = _HEADERS, 0, 1, 1
    above: list[int] = []  # items that are still missing, per level around
    first = False  # whether the item is the first of an array
    while True:
        byte = data[position]
        width, length_bytes, children = headers[byte]
        if byte in _EXT_BYTES:
            width = _extension_width(data, position, first)
        elif length_bytes:
            length = int.from_bytes(data[position + 1 : position + 1 + length_bytes], "big")
            width, children = (width, children * length) if children else (width + length, 0)
        elif byte == 0xC1:
            raise ValueError("a byte that MessagePack does not use")
        position += width
        missing -= 1
        if children:
            total += children
            if total > MAX_ITEMS:
                raise ValueError(f"more than {MAX_ITEMS:,} items")
            if total > most:
                return None
            above.append(missing)
            if len(above) > max_levels:
                raise ValueError("nested too deeply")
            missing = children
            first = _KINDS[byte] == "list"
        else:
            first = False
            while not missing:
                if not above:
                    return position
                missing = above.pop()


def _extension_width(data: bytes | memoryview, position: int, first_of_array: bool) -> int:
    """Return the bytes of an extension; refuse one that is unknown, or a tag that stands where none belongs."""
    byte = data[position]
    length_bytes = _EXT_BYTES[byte]
    at = position + 1 + length_bytes
    length = int.from_bytes(data[position + 1 : at], "big") if length_bytes else 1 << byte - 0xD4
    code = data[at]
    if code in _EXTENSIONS or (code in _TAGS and not length and first_of_array):
        return 2 + length_bytes + length
    raise ValueError(f"an extension {code} of {length:,} bytes where none belongs")


def kind_at(data: bytes, position: int) -> str:
    """Return the kind of the item that begins at `position`, see `Survey`."""
    byte = data[position]
    if byte in _EXT_BYTES:
        return f"extension {data[position + 1 + _EXT_BYTES[byte]]}"
    kind = _KINDS[byte]
    if kind == "list":
        first = position + _HEADERS[byte][0]
        if _count(data, position) and data[first] == 0xC7 and data[first + 1] == 0:
            return f"tag {data[first + 2]}"
    return kind


def _count(data: bytes, position: int) -> int:
    """Return the items below the array or map at `position`."""
    _, length_bytes, children = _HEADERS[data[position]]
    if length_bytes:
        children *= int.from_bytes(data[position + 1 : position + 1 + length_bytes], "big")
    return children


def _bounds(data: bytes, start: int, end: int) -> array[int]:
    first = start + _HEADERS[data[start]][0]
    bounds = array("I", (first,))  # a packed value has 64 MiB at most
    unpacker = msgpack.Unpacker(None, max_buffer_size=end - first or 1)
    unpacker.feed(memoryview(data)[first:end])
    for _ in range(_count(data, start)):
        unpacker.skip()  # in C: an element may be large
        bounds.append(first + unpacker.tell())
    return bounds


def _kind(byte: int) -> str:
    for end, kind in (
        (0x80, "int"), (0x90, "map"), (0xA0, "list"), (0xC0, "str"), (0xC1, "nil"), (0xC2, "unused"), (0xC4, "bool"),
        (0xC7, "bytes"), (0xCA, "extension"), (0xCC, "float"), (0xD4, "int"), (0xD9, "extension"), (0xDC, "str"),
        (0xDE, "list"), (0xE0, "map"),
    ):  # fmt: skip
        if byte < end:
            return kind
    return "int"


_KINDS = tuple(map(_kind, range(256)))
"""First byte of an item -> its kind."""
