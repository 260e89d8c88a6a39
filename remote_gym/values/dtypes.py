"""No I/O: dtypes <-> their wire form. Never one that holds Python objects."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from remote_gym.values.refusals import CannotTravel
from remote_gym.values.scalars import STR


def describe(dtype: np.dtype[Any]) -> Any:
    """Return the wire form of a dtype; raises `CannotTravel`."""
    if dtype.names is not None:
        described: list[Any] = ["struct", dtype.itemsize, dtype.isalignedstruct]
        for name in dtype.names:
            field, offset, *title = dtype.fields[name]  # type: ignore[index]
            if title and type(title[0]) is not str:
                raise CannotTravel("a structured dtype travels only if its titles are strings")
            described += [name, offset, title[0] if title else None, describe(field)]
        return described
    if dtype.subdtype is not None:
        return ["sub", describe(dtype.base), *dtype.shape]
    return _describe_simple(dtype.kind, dtype.str, dtype.char)


@functools.lru_cache(maxsize=256)
def _describe_simple(kind: str, text: str, char: str) -> str:
    if kind not in "biufcmMSUV":
        raise CannotTravel(f"an array of dtype {text} cannot travel; convert it with .astype() or .tolist()")
    return text if np.dtype(text).char == char else text[0] + char


def count_items(described: Any) -> int:
    """Return the number of msgpack items below the wire form of a dtype."""
    return sum(map(count_items, described)) + len(described) if type(described) is list else 0


def read_dtype(described: Any) -> np.dtype[Any]:
    """Return the dtype of a wire form; raises whatever a malformed one provokes."""
    if type(described) is str:
        return _simple_dtype(described)
    kind, *rest = described
    if kind == "sub":
        base, *shape = rest
        count_elements(shape)
        return np.dtype((read_dtype(base), tuple(shape)))
    if kind != "struct" or len(rest) % 4 != 2:
        raise ValueError(f"unknown kind of dtype {kind!r}")
    itemsize, aligned, *fields = rest
    names, offsets, titles, formats = (fields[i::4] for i in range(4))
    spec = {"names": names, "offsets": offsets, "formats": [*map(read_dtype, formats)], "itemsize": itemsize}
    if not STR.issuperset(map(type, [*names, *(title for title in titles if title is not None)])):
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


def count_elements(shape: list[Any]) -> int:
    """Return the number of elements of a shape, in ints that cannot overflow."""
    size = 1
    for length in shape:
        if type(length) is not int or length < 0:
            raise ValueError(f"{length!r} is no length of an axis")
        size *= length
    return size
