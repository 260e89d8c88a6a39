"""No I/O: the one codec for values of variable size: infos, options, keyword and call arguments, call results.

A value comes back equal and of the same type at every level, or it is refused with the path to what cannot travel; but
an instance of a subclass comes back as its base (`bases`), and whoever packs it is told once.
Nothing here runs code chosen by the peer: the format is msgpack with the extension types below, never pickle
(https://github.com/msgpack/msgpack/blob/master/spec.md). Plain msgpack carries None, bool, int within 64 bits, float,
str (UTF-8; a lone surrogate takes its three bytes), bytes, list, and dict with str keys only.

An extension with a payload is a whole value:

====== ============================================================================================================
code   payload
====== ============================================================================================================
16     int beyond 64 bits: two's complement, little-endian, at most `MAX_INT_BYTES`
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
``["struct", itemsize, aligned, name, offset, title, dtype, name, offset, ...]``, the dtype of a field also ``["sub",
dtype, *shape]``. dtype metadata is not kept. Items of every dtype have a size, and fields lie within their item.

All that a message may make Python or NumPy do is bounded (`limits`) before they do it; `pack` refuses what `unpack`
would, by the same rules. Elements of sets and keys of dicts, unless all are str, are few and of different hashes
(`hashing`), because whoever writes a message can choose elements that all collide.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from remote_gym.errors import CodecError
from remote_gym.texts import encodable, shortened
from remote_gym.values import dtypes
from remote_gym.values.bases import told
from remote_gym.values.decoding import check_levels, load
from remote_gym.values.encoding import Writer, dump
from remote_gym.values.limits import MAX_AXES, MAX_BYTES, MAX_DEPTH, MAX_ITEMS, UNSCANNED_BYTES
from remote_gym.values.refusals import CannotTravel
from remote_gym.values.scalars import NUMBER_SCALARS
from remote_gym.values.scanning import scan, skip
from remote_gym.values.vetting import vet

__all__ = [
    "MAX_AXES",
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_ITEMS",
    "NUMBER_SCALARS",
    "UNSCANNED_BYTES",
    "pack",
    "pack_lossy",
    "simple_dtype",
    "told",
    "unpack",
]


def pack(value: object, where: str = "value", max_depth: int = MAX_DEPTH, based: set[type] | None = None) -> bytes:
    """Turn a value into bytes; safe to call from any thread.

    Args:
        value: What shall travel.
        where: Name of the value in error messages.
        max_depth: Levels of containers allowed; for a caller that wraps values in containers of its own.
        based: Collects the subclasses that travel as their base; None: each is warned of, once in this process.

    Raises:
        CodecError: Something in the value cannot travel, or a limit is exceeded; the message names the path.
    """
    writer = Writer(max_depth)
    try:
        packed = _dump(value, where, writer)
    except CodecError:
        raise
    except ValueError as error:  # msgpack: one item of 4 GiB or more
        raise CodecError(f"{error}; send less at once", where) from error
    except Exception as error:  # of code that an object brings along
        raise CodecError(f"holds what cannot be packed, {_said_by(error)}; leave it out", where) from error
    if len(packed) > MAX_BYTES:
        raise CodecError(f"takes {len(packed):,} bytes, the limit is {MAX_BYTES:,}; send less at once", where)
    if writer.based:
        if based is None:
            _warn_of(writer.based, where)
        else:
            based |= writer.based
    return packed


def _dump(value: object, where: str, writer: Writer) -> bytes:
    try:
        return dump(writer.encode(value, 0))
    except CannotTravel as refusal:
        vet(value, where, Writer(writer.max_depth), (), None)
        raise CodecError(str(refusal), where) from None


_PACKAGE = f"{Path(__file__).parents[1]}/"
_warned: set[type] = set()  # a flood helps nobody: one warning for each type


def _warn_of(kinds: frozenset[type], where: str) -> None:
    for kind in kinds - _warned:
        _warned.add(kind)
        message = f"{where} holds what arrives as its base from now on: {told(kind)}"
        if sys.version_info >= (3, 12):  # the caller's line, outside of this package
            warnings.warn(message, skip_file_prefixes=(_PACKAGE,), stacklevel=2)
        else:
            warnings.warn(message, stacklevel=3)


def pack_lossy(value: dict[Any, Any], where: str = "value", based: set[type] | None = None) -> tuple[bytes, list[str]]:
    """Like `pack`, but leave out each dict entry that cannot travel: of nested dicts, the innermost one's entry.

    Returns:
        The bytes, and the paths of the entries left out.

    Raises:
        CodecError: A limit is exceeded, or `value` is not a dict.
    """
    try:
        return pack(value, where, MAX_DEPTH, based), []
    except CodecError:
        dropped: list[str] = []
        writer = Writer(MAX_DEPTH)
        rest = vet(value, where, writer, (), dropped)
        packed = pack(rest, where, MAX_DEPTH, based)  # as their bases already
        if based is not None:
            based |= writer.based
        return packed, dropped


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
            scan(memoryview(data).cast("B"))
        elif size > UNSCANNED_BYTES:
            skip(data, size)
        value = load(data, size)
        check_levels(value, max_depth)
    except Exception as error:  # whatever a hostile message provokes, in msgpack, NumPy or here, ends as this one error
        raise CodecError(f"malformed packed value: {_said_by(error)}", where) from error
    return value


def simple_dtype(text: str, where: str = "dtype") -> np.dtype[Any]:
    """Return the dtype of a text from a peer; never give one to ``np.dtype``, which some texts make end the process.

    Args:
        text: What ``np.dtype.str`` of numbers, dates, text or bytes is, e.g. ``"<f8"``.
        where: Name of the text in error messages.

    Raises:
        CodecError: It is anything else, or items of that dtype have no size or more than `MAX_ITEM_BYTES`.
    """
    try:
        return dtypes.simple_dtype(text)
    except Exception as error:
        raise CodecError(_said_by(error), where) from error


def _said_by(error: Exception) -> str:
    """What an error says, in bounds: others' errors may repeat what the peer has sent."""
    try:
        said = str(error)
    except Exception:  # a KeyError of an int with more digits than Python writes
        said = ""
    return shortened(encodable(f"{type(error).__name__}: {said}"), 400)
