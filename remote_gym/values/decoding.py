"""No I/O: bytes -> the value, and a check of its levels. The caller checks bytes and items before (`scanning`)."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import msgpack
import numpy as np
from gymnasium.spaces import GraphInstance

from remote_gym.values.dtypes import count_elements, read_dtype
from remote_gym.values.scalars import OTHER_SCALARS, PAYLOAD_READERS, PAYLOADS, PLAIN


class _Tag:
    """What an extension without payload becomes until `_build` replaces the list it stands in; never handed out."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[list[Any]], Any]) -> None:
        self.build = build


def _build(items: list[Any]) -> Any:
    if items and type(items[0]) is _Tag:
        return items[0].build(items[1:])
    return items


load = functools.partial(
    msgpack.unpackb, list_hook=_build, ext_hook=lambda code, data: _READERS[code](data), unicode_errors="surrogatepass"
)


def check_levels(value: object, max_depth: int) -> None:
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
    dtype = read_dtype(described)
    if count_elements(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{len(data)} bytes for an array of shape {shape} and dtype {dtype}")
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, data).copy()
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise ValueError("a bool that is neither 0 nor 1")
    if dtype.kind == "U" and array.size and np.frombuffer(data, dtype.byteorder + "u4").max(initial=0) > sys.maxunicode:
        raise ValueError("a character beyond Unicode")
    return array


def _read_objects(items: list[Any]) -> np.ndarray[Any, Any]:
    shape, elements = items[1 : 1 + items[0]], items[1 + items[0] :]
    if len(shape) != items[0] or count_elements(shape) != len(elements):
        raise ValueError(f"{len(elements)} elements for an array of shape {shape}")
    array = np.empty(shape, object)
    array.reshape(-1)[:] = np.fromiter(elements, object, len(elements))  # fromiter never looks into an element
    return array


def _read_other_scalar(items: list[Any]) -> Any:
    described, data = items
    return _read_array([described, data])[()]


def _read_tag(tag: _Tag) -> Callable[[bytes], _Tag]:
    return lambda _data: tag


_BUILDERS: dict[int, Callable[[list[Any]], Any]] = {  # tag -> the elements after it -> value
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
    **PAYLOAD_READERS,
    **{code: _read_tag(_Tag(build)) for code, build in _BUILDERS.items()},
}

_BRANCHES: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((list, tuple, set, frozenset, GraphInstance), lambda parent: parent),
    **dict.fromkeys((dict, OrderedDict), lambda parent: [*parent, *parent.values()]),
    np.ndarray: lambda parent: parent.ravel().tolist() if parent.dtype.hasobject else (),
    **dict.fromkeys((_Tag, msgpack.Timestamp), _misplaced),
}
"""Types of unpacked values that hold others, and how to list those."""

_LEAVES = PLAIN.union(PAYLOADS, OTHER_SCALARS)  # the others
