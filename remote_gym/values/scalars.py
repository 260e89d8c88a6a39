"""No I/O: values without parts: those that msgpack carries, and those that travel as the payload of one extension.

The second kind is in two tables, one per direction, that mirror each other.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from remote_gym.values.limits import MAX_INT_BYTES

PLAIN = frozenset({type(None), bool, int, float, str, bytes})
"""Types that msgpack carries as they are."""
STR = frozenset({str})
"""Types of keys that a msgpack map carries."""
NUMBER_SCALARS: tuple[type[np.generic], ...] = (
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, np.float32, np.float64, np.longdouble, np.complex64, np.complex128, np.clongdouble,
)  # fmt: skip
"""Types of NumPy scalars that travel as bare bytes; the extension code is 32 + the position here."""
OTHER_SCALARS = (np.datetime64, np.timedelta64, np.void, np.intc, np.uintc, np.longlong, np.ulonglong)
"""Types of NumPy scalars that travel with their dtype."""
BIG_INT = 16
"""Extension code of an int beyond 64 bits."""

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


def _read_big_int(data: bytes) -> int:
    if len(data) > MAX_INT_BYTES:
        raise ValueError(f"an int of more than {MAX_INT_BYTES:,} bytes")
    return int.from_bytes(data, "little", signed=True)


PAYLOADS: dict[type, tuple[int, Callable[[Any], bytes]]] = {
    **{kind: (32 + i, _scalar_bytes) for i, kind in enumerate(NUMBER_SCALARS)},
    np.float64: (_FLOAT64_CODE, _FLOAT64.pack),  # the commonest by far: six times faster
    complex: (17, lambda value: _COMPLEX.pack(value.real, value.imag)),
    bytearray: (18, bytes),
    np.str_: (19, lambda value: str.encode(value, "utf-8", "surrogatepass")),
    np.bytes_: (20, bytes),
}
"""Type -> extension code, value -> payload. `int` is not here: only one that msgpack refuses becomes a `BIG_INT`."""

PAYLOAD_READERS: dict[int, Callable[[bytes], Any]] = {
    **{32 + i: _read_scalar(kind) for i, kind in enumerate(NUMBER_SCALARS)},
    _FLOAT64_CODE: lambda data: np.float64(_FLOAT64.unpack(data)[0]),
    BIG_INT: _read_big_int,
    17: lambda data: complex(*_COMPLEX.unpack(data)),
    18: bytearray,
    19: lambda data: np.str_(data.decode("utf-8", "surrogatepass")),
    20: np.bytes_,
}
"""Extension code -> payload -> value."""
