"""No I/O: the infos of many envs of one step as columns.

Envs mostly return the same few numbers each step; one raw array for all of them costs far less than one packed dict per
env. Rows are grouped by keys, so that the one env that was just reset does not spoil the columns of the others.

On the wire a block is one value of `remote_gym.values`: a list of groups ``(indices, tables, column)``, ordered by
their first env. ``indices`` is a rising int64 array: the envs, one per row. ``tables`` is a list of ``(kind, matrix)``:
a matrix (columns, rows) for all columns of numbers of one type, `TABLE_KINDS`. ``column`` is one of

- a dict: key -> column; all rows are dicts with these str keys in this order,
- an int: the next row of the table with this number, columns counted in the order in which they appear,
- an array: axis 0 is the row; each value is an array of the same dtype and shape, not empty,
- a list: one value per row, whatever it is.

So each column but those of dicts has bytes of its own for each row, and no few bytes claim many values: dicts without
keys, and arrays without elements, travel in lists. A block holds at most `MAX_ITEMS` values, not
counting those in lists.

An env with an empty info is in no group; a block without groups is no bytes at all.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Dict

import numpy as np

from remote_gym.errors import CodecError
from remote_gym.texts import shortened
from remote_gym.values import MAX_DEPTH, MAX_ITEMS, NUMBER_SCALARS, pack, unpack

TABLE_KINDS = ("float", "int", "bool", "scalar")
"""Python float, int within 64 bits, bool · NumPy scalar of the matrix's type."""
MIN_ROWS = 4
"""Rows from which columns are smaller and faster than packed dicts (measured with ten ``np.float64``)."""

_FRAMES = 3  # levels of containers that a block puts around an info or the values in it
MAX_ENVS = 2**31
"""Env indices are below this, whatever the batch."""
_NESTED = 4  # levels of dicts that become columns of columns; real infos have one or two, and a loop must end
_STACKED_AXES = 16  # axes of arrays that become a column, which has one more; NumPy before 2 knows 32
PYTHON_KINDS: dict[str, tuple[type, np.dtype[Any]]] = {
    "float": (float, np.dtype("<f8")),
    "int": (int, np.dtype("<i8")),
    "bool": (bool, np.dtype("?")),
}
"""Table kinds of Python numbers, and the type of their matrix."""
_TABLES: dict[type, tuple[str, np.dtype[Any]]] = {
    **{kind: (name, dtype) for name, (kind, dtype) in PYTHON_KINDS.items()},
    **{kind: ("scalar", np.dtype(kind).newbyteorder("<")) for kind in NUMBER_SCALARS},
}
_STR = frozenset({str})

Info = Dict[Any, Any]


@dataclass(frozen=True)
class Column:
    """The values of one key for the rows of one group.

    Attributes:
        kind: One of `TABLE_KINDS`, ``"array"``, ``"dict"`` or ``"list"``.
        values: An array whose axis 0 is the row; for ``"dict"`` key -> column; for ``"list"`` the rows' values.
    """

    kind: str
    values: Any

    def rows(self, count: int) -> Sequence[Any]:
        """The values as the envs returned them, of the same types; arrays are copies."""
        return _ROWS[self.kind](self.values, count)

    def take(self, rows: np.ndarray[Any, Any]) -> Column:
        """The column of some rows, by their positions and in this order."""
        if self.kind == "dict":
            return Column("dict", {key: column.take(rows) for key, column in self.values.items()})
        if self.kind == "list":
            return Column("list", [self.values[row] for row in rows.tolist()])
        return Column(self.kind, self.values[rows])


@dataclass(frozen=True)
class InfoGroup:
    """Envs whose infos have the same keys.

    Attributes:
        indices: (rows,) int64, rising: env indices.
        column: Kind ``"dict"``, or ``"list"`` for infos that are not worth columns.
    """

    indices: np.ndarray[Any, np.dtype[np.int64]]
    column: Column

    @property
    def columns(self) -> dict[str, Column]:
        """Key -> column; empty if the rows travel as packed dicts."""
        return self.column.values if self.column.kind == "dict" else {}

    def rows(self) -> Iterator[tuple[int, Info]]:
        """Each env index and its info, rising."""
        return zip(self.indices.tolist(), self.column.rows(len(self.indices)))


@dataclass(frozen=True)
class InfoBlock:
    """The non-empty infos of some envs on one step.

    Attributes:
        groups: Ordered by their first env index; an env is in one group at most.
    """

    groups: tuple[InfoGroup, ...] = ()

    @classmethod
    def of(cls, index: int, info: Info) -> InfoBlock:
        """The block of one env's info."""
        return cls((InfoGroup(np.array([index], np.int64), Column("list", [info])),))

    def select(self, places: np.ndarray[Any, Any]) -> InfoBlock:
        """The infos of some envs under other indices.

        Args:
            places: (envs,) int64: by env index the new one, distinct; negative: left out.

        Raises:
            CodecError: The block names an env that does not exist.
        """
        self.check(len(places))
        groups = []
        for group in self.groups:
            new = places[group.indices]
            order = np.argsort(new, kind="stable")
            order = order[new[order] >= 0]
            if len(order):
                groups.append(InfoGroup(new[order], group.column.take(order)))
        return InfoBlock(tuple(sorted(groups, key=lambda group: int(group.indices[0]))))

    def check(self, num_envs: int, where: str = "infos") -> None:
        """Raise CodecError if the block names an env that does not exist."""
        last = max((int(group.indices[-1]) for group in self.groups), default=-1)
        if last >= num_envs:
            raise CodecError(f"info for env {last}, but there are {num_envs} envs", where)

    @property
    def indices(self) -> list[int]:
        """The env indices that have an info, rising."""
        return sorted(itertools.chain.from_iterable(group.indices.tolist() for group in self.groups))

    def rows(self) -> Iterator[tuple[int, Info]]:
        """Each env index and its info, rising, as the envs returned them."""
        if len(self.groups) == 1:
            return self.groups[0].rows()
        return iter(sorted((row for group in self.groups for row in group.rows()), key=lambda row: row[0]))


# --- packing ----------------------------------------------------------------------------------------------------------


def pack_infos(
    indices: Sequence[int], infos: Sequence[Info], where: str = "info", based: set[type] | None = None
) -> bytes:
    """Turn the infos of some envs into bytes.

    Args:
        indices: Env indices, distinct.
        infos: `infos[i]` is the info of env `indices[i]`.
        where: Name of an info in error messages.
        based: As for `values.pack`.

    Returns:
        The packed block; ``b""`` if every info is empty.

    Raises:
        CodecError: Something cannot travel; the message reads ``env 3: info['key']: ...``.
    """
    if len(indices) != len(infos):
        raise ValueError(f"{len(indices)} env indices for {len(infos)} infos")
    if len(infos) == 1 and type(infos[0]) is dict and infos[0]:
        packed = pack(infos[0], f"env {indices[0]}: {where}", MAX_DEPTH, based)
        if len(packed) < MAX_ITEMS - len(_OF_ONE):  # and so are its items, with those around it
            return b"".join((_BEFORE, int(indices[0]).to_bytes(_INDEX_BYTES, "little"), _BEHIND, packed))
    groups = _group(indices, infos, where)
    if not groups:
        return b""
    try:
        columns = [_Group(rows) for _, rows in groups]
        block = [group.wire(indices) for group, (indices, _) in zip(columns, groups)]
        if sum(group.cells for group in columns) > MAX_ITEMS:
            raise CodecError(f"more than {MAX_ITEMS:,} values in one block; send numbers as arrays", where)
        return pack(block, where, MAX_DEPTH + _FRAMES, based)
    except CodecError as whole:
        for index, info in zip(indices, infos):
            pack(info, f"env {index}: {where}", MAX_DEPTH, based)
        raise CodecError(str(whole)) from None


# Most blocks hold one env's info, those of a `RemoteEnvironment`: what is around it is the same but for the index.
_INDEX_BYTES = 8
_OF_ONE = pack([(np.zeros(1, "<i8"), [], [None])])
_BEFORE, _BEHIND = _OF_ONE[:-1].split(bytes(_INDEX_BYTES))
_AT = len(_BEFORE), len(_BEFORE) + _INDEX_BYTES, len(_OF_ONE) - 1
"""Where in such a block the index begins and ends, and the info begins."""


def _group(indices: Sequence[int], infos: Sequence[Info], where: str) -> Collection[tuple[list[int], list[Info]]]:
    """The non-empty rows by their keys, groups and rows in rising order of env indices."""
    groups: dict[tuple[Any, ...], tuple[list[int], list[Info]]] = {}
    for index, info in sorted(zip(indices, infos), key=operator.itemgetter(0)):
        if not isinstance(info, dict):
            raise CodecError(f"an info must be a dict, not a {type(info).__qualname__}", f"env {index}: {where}")
        if info:
            keys = tuple(info)
            group = groups.get(keys)
            if group is None:
                group = groups[keys] = [], []
            group[0].append(index)
            group[1].append(info)
    return groups.values()


class _Group:
    """Turns the rows of one group into tables and a column."""

    def __init__(self, rows: list[Info]) -> None:
        self.rows = rows
        self.tables: dict[type, tuple[int, list[tuple[Any, ...]]]] = {}
        self.cells = 0

    def wire(self, indices: list[int]) -> object:
        plain = len(self.rows) >= MIN_ROWS and set(map(type, self.rows)) == {dict}
        column = self.dicts(tuple(self.rows), 0) if plain else self.rows
        tables = [(_TABLES[kind][0], self.matrix(kind, values)) for kind, (_, values) in self.tables.items()]
        return np.array(indices, "<i8"), tables, column

    def matrix(self, kind: type, columns: list[tuple[Any, ...]]) -> np.ndarray[Any, Any]:
        shape = len(columns), len(self.rows)
        numbers = itertools.chain.from_iterable(columns)
        return np.fromiter(numbers, _TABLES[kind][1], shape[0] * shape[1]).reshape(shape)

    def column(self, values: tuple[Any, ...], depth: int) -> object:
        """One column; whatever fits no better kind is a list."""
        kinds = set(map(type, values))
        kind = kinds.pop()
        if kinds:
            return [*values]
        if kind in _TABLES and (kind is not int or (min(values) >= -(2**63) and max(values) < 2**63)):
            self.cells += len(values)
            number, columns = self.tables.setdefault(kind, (len(self.tables), []))
            columns.append(values)
            return number
        if kind is np.ndarray and values[0].size and _alike(values):
            self.cells += len(values)
            return _stack(values)
        if kind is dict and values[0] and depth < _NESTED and len(set(map(tuple, values))) == 1:
            return self.dicts(values, depth)
        return [*values]

    def dicts(self, rows: tuple[Info, ...], depth: int) -> object:
        """A column of dicts with equal keys; equal keys that are not str may differ in type and are left alone."""
        if not _STR.issuperset(map(type, itertools.chain.from_iterable(rows))):
            return [*rows]
        self.cells += len(rows)
        columns = zip(*map(dict.values, rows))
        return {key: self.column(column, depth + 1) for key, column in zip(rows[0], columns)}


def _alike(arrays: tuple[np.ndarray[Any, Any], ...]) -> bool:
    """Whether arrays can be stacked and come back with their exact dtypes."""
    dtype, shape = arrays[0].dtype, arrays[0].shape
    if dtype.hasobject or len(shape) > _STACKED_AXES or any(array.shape != shape for array in arrays):
        return False
    if all(array.dtype is dtype for array in arrays):
        return True
    return dtype.names is None and len({(array.dtype.str, array.dtype.char) for array in arrays}) == 1


def _stack(arrays: tuple[np.ndarray[Any, Any], ...]) -> np.ndarray[Any, Any]:
    stacked = np.empty((len(arrays), *arrays[0].shape), arrays[0].dtype)
    for row, array in enumerate(arrays):
        stacked[row] = array
    return stacked


# --- unpacking --------------------------------------------------------------------------------------------------------


def unpack_infos(data: bytes | memoryview, where: str = "infos", num_envs: int = MAX_ENVS) -> InfoBlock:
    """Turn bytes made by `pack_infos` into a block.

    Args:
        data: What `pack_infos` returned.
        where: Name of the infos in error messages.
        num_envs: How many envs there are.

    Raises:
        CodecError: The data is malformed, exceeds a limit, or names an env that does not exist.
    """
    if not len(data):
        return InfoBlock()
    if (one := _read_one(data, where)) is not None:
        one.check(num_envs, where)
        return one
    groups = unpack(data, where, MAX_DEPTH + _FRAMES)
    try:
        block = _read_block(groups)
    except Exception as error:  # what a hostile message provokes, here or in NumPy, ends as this one error
        raise CodecError(f"malformed block of infos: {shortened(str(error), 400)}", where) from error
    block.check(num_envs, where)
    return block


def _read_one(data: bytes | memoryview, where: str) -> InfoBlock | None:
    """The block of one env's info; None: it is another one, or malformed."""
    begin, end, info_begin = _AT
    if data[:begin] != _BEFORE or data[end:info_begin] != _BEHIND:
        return None
    index, info = int.from_bytes(data[begin:end], "little"), unpack(data[info_begin:], where, MAX_DEPTH)
    return InfoBlock.of(index, info) if index < MAX_ENVS and isinstance(info, dict) else None


def _read_block(groups: Any) -> InfoBlock:
    if type(groups) is not list or not all(type(group) is tuple and len(group) == 3 for group in groups):
        raise ValueError("no list of (indices, tables, column)")
    reader = _Reader()
    block = InfoBlock(tuple(itertools.starmap(reader.group, groups)))
    if len(block.groups) > 1 and not (_rising([g.indices[0] for g in block.groups]) and _rising(block.indices)):
        raise ValueError("env indices out of order, or twice")
    return block


def _rising(indices: list[int]) -> bool:
    return all(map(operator.lt, indices, indices[1:]))


class _Reader:
    """Reads the groups of one block; counts the values that its columns stand for, which may outnumber its bytes."""

    def __init__(self) -> None:
        self.cells = MAX_ITEMS

    def group(self, indices: Any, tables: Any, wire: Any) -> InfoGroup:
        if type(indices) is not np.ndarray or indices.dtype != _INT64 or indices.ndim != 1 or not indices.size:
            raise ValueError("env indices must be a non-empty array of int64")
        if indices[0] < 0 or indices[-1] >= MAX_ENVS or not _rising(indices.tolist()):
            raise ValueError(f"env indices must rise from 0, below {MAX_ENVS:,}")
        if not (type(wire) is dict or (type(wire) is list and all(isinstance(info, dict) for info in wire))):
            raise ValueError("an info must be a dict")
        if type(tables) is not list or not all(type(table) is tuple and len(table) == 2 for table in tables):
            raise ValueError("no list of tables (kind, matrix)")
        rows = len(indices)
        columns = [_read_table(kind, matrix, rows) for kind, matrix in tables]
        return InfoGroup(indices, self.column(wire, rows, columns, 0))

    def column(self, wire: Any, rows: int, tables: list[Iterator[Column]], depth: int) -> Column:
        if type(wire) is list and len(wire) == rows:
            return Column("list", wire)
        self.cells -= rows
        if self.cells < 0:
            raise ValueError(f"more than {MAX_ITEMS:,} values")
        if type(wire) is dict and wire and depth < _NESTED and _STR.issuperset(map(type, wire)):
            below = {key: self.column(column, rows, tables, depth + 1) for key, column in wire.items()}
            return Column("dict", below)
        if type(wire) is int and 0 <= wire < len(tables):
            if column := next(tables[wire], None):
                return column
        elif type(wire) is np.ndarray and wire.size and wire.ndim and len(wire) == rows and not wire.dtype.hasobject:
            return Column("array", wire)
        raise ValueError(f"no column of {rows} rows")


def _read_table(kind: Any, matrix: Any, rows: int) -> Iterator[Column]:
    if type(kind) is not str or type(matrix) is not np.ndarray or matrix.ndim != 2 or matrix.shape[1] != rows:
        raise ValueError(f"no table of {rows} rows")
    if _TABLES.get(PYTHON_KINDS[kind][0] if kind in PYTHON_KINDS else matrix.dtype.type) != (kind, matrix.dtype):
        raise ValueError(f"a table of kind {kind[:20]!r} cannot hold its numbers")
    return (Column(kind, values) for values in matrix)


_INT64 = np.dtype("<i8")


def _dict_rows(columns: dict[str, Column], count: int) -> list[Info]:
    if not columns:
        return [{} for _ in range(count)]
    values = zip(*(column.rows(count) for column in columns.values()))
    return [dict(zip(columns, row)) for row in values]


_ROWS: dict[str, Callable[[Any, int], Sequence[Any]]] = {
    **dict.fromkeys(("float", "int", "bool"), lambda values, count: values.tolist()),
    "scalar": lambda values, count: list(values),
    "array": lambda values, count: [values[row, ...].copy() for row in range(count)],
    "dict": _dict_rows,
    "list": lambda values, count: values,
}
