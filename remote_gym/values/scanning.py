"""No I/O: walks over a packed message that build nothing, so that no header makes anybody reserve memory in vain."""

from __future__ import annotations

import msgpack

from remote_gym.values.limits import MAX_ITEMS


def skip(data: bytes | memoryview, size: int) -> None:
    """Walk a message in C without building anything: every header then tells the truth about its items."""
    unpacker = msgpack.Unpacker(None, max_buffer_size=size)
    unpacker.feed(data)
    unpacker.skip()
    if unpacker.tell() != size:
        raise ValueError("extra bytes after the value")


def scan(data: memoryview) -> None:
    """Walk like `skip`, and count the items: a message of more than `MAX_ITEMS` bytes can hold too many."""
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
