"""No I/O: bytes -> the value, and a check of its levels. The caller checks bytes and items before (`scanning`)."""

from __future__ import annotations

import functools
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import msgpack
import numpy as np

from remote_gym.gym import GraphInstance
from remote_gym.values.dtypes import count_elements, read_dtype
from remote_gym.values.hashing import Tables
from remote_gym.values.limits import MAX_AXES, MAX_HOLLOW_DICTS, MAX_KEYS
from remote_gym.values.scalars import OTHER_SCALARS, PAYLOAD_READERS, PAYLOADS, PLAIN, STR


class _Tag:
    """What an extension without payload becomes until `_build` replaces the list it stands in; never handed out."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[Tables, list[Any]], Any]) -> None:
        self.build = build


def _build(tables: Tables, items: list[Any]) -> Any:
    """What a msgpack array stands for, from its elements: a list, or what the tag at its front says."""
    if items and type(items[0]) is _Tag:
        build = items[0].build
        del items[0]  # in place: a copy of the rest would take its memory beside the list's and the result's
        return build(tables, items)
    return items


def _admit_dict(tables: Tables, value: dict[Any, Any]) -> dict[Any, Any]:
    if len(value) == 1 and "" in value:
        tables.admit_hollow()
    return value


def load(data: bytes | memoryview, size: int) -> Any:
    """Build the value of a message of `size` bytes. All that is counted is counted per message: any thread may load."""
    tables = Tables()
    may_be_hollow = size > 2 * MAX_HOLLOW_DICTS  # each takes two bytes; to be asked about every dict costs time
    return msgpack.unpackb(
        data,
        list_hook=functools.partial(_build, tables),
        object_hook=functools.partial(_admit_dict, tables) if may_be_hollow else None,
        ext_hook=_read_extension,
        unicode_errors="surrogatepass",
    )


def check_levels(value: object, max_depth: int) -> None:
    """Refuse what is too deep, and tags that stand where none belongs. An iterator per level: no recursion."""
    levels: list[Iterator[object]] = [iter((value,))]
    while levels:
        for child in levels[-1]:
            branch = _BRANCHES.get(type(child))
            if branch is None:
                continue
            if len(levels) > max_depth:
                raise ValueError(f"nested deeper than {max_depth} levels")
            children = branch(child)
            if not _LEAVES.issuperset(map(type, children)):
                levels.append(iter(children))
                break
        else:
            levels.pop()


def _misplaced(_stray: object) -> NoReturn:
    raise ValueError("an extension where none belongs")


def _read_set(tables: Tables, items: list[Any]) -> set[Any]:
    tables.admit(items)
    return set(frozenset(items))  # a table filled one by one grows to twice the places it needs, a copied one does not


def _read_frozenset(tables: Tables, items: list[Any]) -> frozenset[Any]:
    tables.admit(items)
    return frozenset(set(items))


def _keys(items: list[Any]) -> list[Any]:
    if len(items) % 2:
        raise ValueError("a key without a value")
    return items[::2]


def _read_dict(tables: Tables, items: list[Any]) -> dict[Any, Any]:
    keys = _keys(items)
    tables.admit(keys)
    return dict(zip(keys, items[1::2]))


def _read_ordered_dict(tables: Tables, items: list[Any]) -> OrderedDict[Any, Any]:
    keys = _keys(items)
    tables.admit(keys)
    return OrderedDict(zip(keys, items[1::2]))


def _read_array(_tables: Tables, items: list[Any]) -> np.ndarray[Any, Any]:
    if len(items) > MAX_AXES + 2:
        raise ValueError(f"more than {MAX_AXES} axes")
    described, data, *shape = items
    dtype, axes = read_dtype(described)
    if type(data) is not bytes or count_elements(shape) * dtype.itemsize != len(data):
        raise ValueError("an array whose bytes do not fit its shape and dtype")
    if len(shape) + axes > MAX_AXES:
        raise ValueError(f"more than {MAX_AXES} axes, those of the fields included")
    if dtype.names is not None:
        return _read_structs(dtype, data, shape)
    array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, data).copy()
    if dtype.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise ValueError("a bool that is neither 0 nor 1")
    if dtype.kind == "U" and array.size and np.frombuffer(data, dtype.byteorder + "u4").max(initial=0) > sys.maxunicode:
        raise ValueError("a character beyond Unicode")
    return array


def _read_structs(dtype: np.dtype[Any], data: bytes, shape: list[int]) -> np.ndarray[Any, Any]:
    """An array of a structured dtype, filled as bytes: NumPy would copy field by field, also where they overlap."""
    array: np.ndarray[Any, Any] = np.empty(shape, dtype)
    if data:
        array.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
    return array


def _read_objects(_tables: Tables, items: list[Any]) -> np.ndarray[Any, Any]:
    axes = items[0]
    if type(axes) is not int or not 0 <= axes <= MAX_AXES:
        raise ValueError(f"more than {MAX_AXES} axes")
    shape = items[1 : 1 + axes]
    del items[: 1 + axes]
    if len(shape) != axes or count_elements(shape) != len(items):
        raise ValueError(f"{len(items)} elements do not fit the shape of their array")
    array = np.fromiter(items, object, len(items))  # fromiter never looks into an element
    array.resize(shape, refcheck=False)
    return array


def _read_other_scalar(tables: Tables, items: list[Any]) -> Any:
    described, data = items
    return _read_array(tables, [described, data])[()]


def _read_tag(tag: _Tag) -> Callable[[bytes], _Tag]:
    def read(data: bytes) -> _Tag:
        if data:
            raise ValueError("a tag with a payload")
        return tag

    return read


_BUILDERS: dict[int, Callable[[Tables, list[Any]], Any]] = {  # tag -> the elements after it -> value
    1: lambda _tables, items: tuple(items),
    2: _read_set,
    3: _read_frozenset,
    4: _read_dict,
    5: _read_ordered_dict,
    6: lambda _tables, items: GraphInstance(*items),
    7: _read_array,
    8: _read_objects,
    9: _read_other_scalar,
}

_READERS: dict[int, Callable[[bytes], Any]] = {
    **PAYLOAD_READERS,
    **{code: _read_tag(_Tag(build)) for code, build in _BUILDERS.items()},
}


def _read_extension(code: int, data: bytes) -> Any:
    return _READERS[code](data)


def _entries(parent: dict[Any, Any]) -> Iterable[object]:
    """What may hold others in a dict. Keys that are not str are few: `pack` would refuse more."""
    if STR.issuperset(map(type, parent)):
        return parent.values()
    if len(parent) > MAX_KEYS:
        raise ValueError(f"more than {MAX_KEYS:,} keys that are not str")
    return [*parent, *parent.values()]


_BRANCHES: dict[type, Callable[[Any], Any]] = {
    **dict.fromkeys((list, tuple, set, frozenset, GraphInstance), lambda parent: parent),
    **dict.fromkeys((dict, OrderedDict), _entries),
    np.ndarray: lambda parent: parent.ravel() if parent.dtype.hasobject else (),
    **dict.fromkeys((_Tag, msgpack.Timestamp), _misplaced),
}
"""Types of unpacked values that hold others, and how to list those."""

_LEAVES = PLAIN.union(PAYLOADS, OTHER_SCALARS)  # the others
