"""Packed values that hurt whoever builds them carelessly, in place of what a message carries packed."""

from __future__ import annotations

from typing import Any

import msgpack

P = (1 << 61) - 1  # hash(n * P) is 0 for every n


def tag(code: int) -> msgpack.ExtType:
    return msgpack.ExtType(code, b"")


def packed(value: Any) -> bytes:
    return bytes(msgpack.packb(value, unicode_errors="surrogatepass"))


def big(number: int) -> msgpack.ExtType:
    return msgpack.ExtType(16, number.to_bytes(number.bit_length() // 8 + 1, "little"))


HOSTILE_VALUES: dict[str, bytes] = {
    "a dtype whose unit divides by zero": packed([tag(7), "<m8[s/0]", b"\0" * 8, 1]),
    "a field far outside of its item": packed(
        [tag(7), ["struct", 64, False, "b", 2**31 - 1, None, "|i1"], bytes(64), 1]
    ),
    "many elements without a size": packed([tag(7), "|V0", b"", *[7] * 20]),
    "keys that collide": packed([tag(2), *[big(n * P) for n in range(1, 3_000)]]),
    "a shape of huge integers": packed([tag(7), "<f8", b"", big(1 << 80_000), big(1 << 80_000)]),
    "a dtype that is no expression": packed([tag(7), "<f8,(", b"", 1]),
    "levels without end": b"\x91" * 5_000 + b"\xc0",
    "an array that claims to be large": b"\xdd\xff\xff\xff\xff",
    "a map that claims to be large": b"\xdf\xff\xff\xff\xff\xa1a",
    "an unknown extension": packed(msgpack.ExtType(99, b"x")),
    "a tag where none belongs": packed({"a": tag(1)}),
    "no value at all": b"\xc1",
    "bytes after the value": packed({}) + b"\0",
}
"""Each in place of a map or list that a message carries packed."""

LARGE = {
    "items": packed(list(range(300_000))),
    "colliding": packed([tag(2), *[big(n * P) for n in range(1, 50_000)]]),
    "levels": b"\x91" * 1_000_000,
    "empties": b"\xdd" + (900_000).to_bytes(4, "big") + b"\x80" * 900_000,
    "pairs": b"\xdf" + (100_000).to_bytes(4, "big") + b"\xa1x\xc0" * 100_000,
}


def wrapped(data: bytes) -> bytes:
    """Return `data` as the value of the one keyword of a map."""
    return b"\x81\xa1x" + data
