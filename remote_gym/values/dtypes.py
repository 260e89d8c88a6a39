"""No I/O: dtypes <-> their wire form. Never one that holds Python objects, nor one whose items have no size.

NumPy believes what it is told about a dtype: a field outside its item reads and writes memory of others, a unit that is
divided by 0 ends the process. So all of a wire form is checked in Python's ints before NumPy sees any of it.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from remote_gym.values.limits import MAX_AXES, MAX_BYTES, MAX_DTYPE_LEVELS, MAX_FIELDS, MAX_ITEM_BYTES, MAX_OVERLAP
from remote_gym.values.refusals import CannotTravel
from remote_gym.values.scalars import STR


def describe(dtype: np.dtype[Any]) -> tuple[Any, int]:
    """Return the wire form of a dtype, and the axes of its fields; raises `CannotTravel`."""
    if dtype.names is None:
        return _describe_simple(dtype.kind, dtype.str, dtype.char), 0
    described = _describe(dtype, MAX_DTYPE_LEVELS)
    try:
        return described, read_dtype(described)[1]  # by the reader's own rules: it refuses nothing that left here
    except ValueError as error:
        raise CannotTravel(f"an array of this structured dtype cannot travel: {error}; send its fields apart") from None


def _describe(dtype: np.dtype[Any], levels: int) -> Any:
    if dtype.subdtype is not None:
        return ["sub", _describe(dtype.base, levels), *dtype.shape]
    if dtype.names is None:
        return _describe_simple(dtype.kind, dtype.str, dtype.char)
    if not levels:
        raise CannotTravel(f"a structured dtype travels only if nested at most {MAX_DTYPE_LEVELS} levels")
    described: list[Any] = ["struct", dtype.itemsize, dtype.isalignedstruct]
    for name in dtype.names:
        field, offset, *title = dtype.fields[name]  # type: ignore[index]
        if title and type(title[0]) is not str:
            raise CannotTravel("a structured dtype travels only if its titles are strings")
        described += [name, offset, title[0] if title else None, _describe(field, levels - 1)]
    return described


@functools.lru_cache(maxsize=256)
def _describe_simple(kind: str, text: str, char: str) -> str:
    if kind not in "biufcmMSUV":
        raise CannotTravel(f"an array of dtype {text} cannot travel; convert it with .astype() or .tolist()")
    described = text if np.dtype(text).char == char else text[0] + char
    try:
        simple_dtype(described)
    except ValueError as error:
        raise CannotTravel(
            f"an array of this dtype cannot travel: {error}; send its shape, or .tolist() of it"
        ) from None
    return described


def count_items(described: Any) -> int:
    """Return the number of msgpack items below the wire form of a dtype."""
    return sum(map(count_items, described)) + len(described) if type(described) is list else 0


def read_dtype(described: Any) -> tuple[np.dtype[Any], int]:
    """Return the dtype of a wire form, and the axes of its fields; raises ValueError, or whatever NumPy finds wrong."""
    if type(described) is str:
        return simple_dtype(described), 0
    part = _read(described, MAX_DTYPE_LEVELS)
    if part.dtype.subdtype is not None:
        raise ValueError("no array has a subarray as its dtype")
    return part.dtype, part.axes


_UNITS = "Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as"
_SIMPLE = re.compile(
    r"[<>|](?:[lLqQiIgG]|b1|[iu][1248]|f(?:2|4|8|12|16)|c(?:8|16|24|32)|(?P<kind>[SUV])(?P<length>[1-9][0-9]{0,7})"
    rf"|[mM]8(?:\[(?P<multiplier>[1-9][0-9]{{0,9}})?(?:{_UNITS})\])?)"
)


@functools.lru_cache(maxsize=256)
def simple_dtype(text: str) -> np.dtype[Any]:
    """Return the dtype of a text like ``"<f8"``: numbers, dates, text, bytes, all of a size; raises ValueError."""
    match = _SIMPLE.fullmatch(text)
    if not match:
        raise ValueError(f"unknown dtype {text[:40]!r}, or one whose items have no size")
    if int(match["length"] or 1) * (4 if match["kind"] == "U" else 1) > MAX_ITEM_BYTES:
        raise ValueError(f"items of the dtype {text!r} take more than {MAX_ITEM_BYTES:,} bytes")
    if int(match["multiplier"] or 1) >= 2**31:
        raise ValueError(f"the unit of the dtype {text!r} is beyond 32 bits")
    return np.dtype(text)


class _Part(NamedTuple):
    """A dtype inside another; `copied`: bytes of all its fields; `axes`: at most so many has a field of it."""

    dtype: np.dtype[Any]
    copied: int
    axes: int


def _read(described: Any, levels: int) -> _Part:
    if type(described) is str:
        dtype = simple_dtype(described)
        return _Part(dtype, dtype.itemsize, 0)
    if type(described) is list and described and type(described[0]) is str:
        if described[0] == "struct":
            return _read_struct(described, levels)
        if described[0] == "sub" and len(described) > 2:
            return _read_sub(described, levels)
    raise ValueError("unknown kind of dtype")


def _read_sub(described: list[Any], levels: int) -> _Part:
    _, base, *shape = described
    size, part = count_elements(shape), _read(base, levels)
    if part.dtype.subdtype is not None:
        raise ValueError("a subarray of subarrays")
    if not 0 < size * part.dtype.itemsize <= MAX_ITEM_BYTES:
        raise ValueError(f"a subarray has no size, or more than {MAX_ITEM_BYTES:,} bytes")
    return _Part(np.dtype((part.dtype, tuple(shape))), size * part.copied, len(shape) + part.axes)


def _read_struct(described: list[Any], levels: int) -> _Part:
    _, itemsize, aligned, *fields = described if len(described) % 4 == 3 else [None] * 3
    if type(itemsize) is not int or not 0 < itemsize <= MAX_ITEM_BYTES or type(aligned) is not bool:
        raise ValueError(f"the items of a structured dtype have no size, or more than {MAX_ITEM_BYTES:,} bytes")
    if len(fields) > 4 * MAX_FIELDS or not levels:
        raise ValueError(f"more than {MAX_FIELDS:,} fields, or nested deeper than {MAX_DTYPE_LEVELS} levels")
    names, offsets, titles, formats = (fields[i::4] for i in range(4))
    given = [*names, *(title for title in titles if title is not None)]
    if not STR.issuperset(map(type, given)) or len(set(given)) < len(given):
        raise ValueError("the names and titles of fields must be strings, no two equal")
    parts = [_read(field, levels - 1) for field in formats]
    if len(offsets) != len(parts):
        raise ValueError("a field without a format")
    if not all(
        type(offset) is int and 0 <= offset <= itemsize - part.dtype.itemsize for offset, part in zip(offsets, parts)
    ):
        raise ValueError("a field lies outside its item")
    copied = sum(part.copied for part in parts)
    if copied > MAX_OVERLAP * itemsize:
        raise ValueError(f"the fields lie over each other and take more than {MAX_OVERLAP} times the size of an item")
    spec = {"names": names, "offsets": offsets, "formats": [part.dtype for part in parts], "itemsize": itemsize}
    if len(given) > len(names):
        spec["titles"] = titles
    dtype: np.dtype[Any] = np.dtype(spec, align=aligned)  # type: ignore[call-overload]
    return _Part(dtype, copied, max((part.axes for part in parts), default=0))


def count_elements(shape: Sequence[Any]) -> int:
    """Return the number of elements of a shape; raises ValueError.

    Axes of length 0 count as 1 for the limit: an array without bytes must not claim rows without end.
    """
    if len(shape) > MAX_AXES:
        raise ValueError(f"more than {MAX_AXES} axes")
    size = room = 1
    for length in shape:
        if type(length) is not int or not 0 <= length <= MAX_BYTES:
            raise ValueError(f"the length of an axis must be an int from 0 to {MAX_BYTES:,}")
        size *= length
        room *= length or 1
    if room > MAX_BYTES:
        raise ValueError(f"a shape of more than {MAX_BYTES:,} elements, axes of length 0 counted as 1")
    return size
