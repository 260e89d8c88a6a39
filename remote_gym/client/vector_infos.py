"""No I/O: a block of infos into a Gymnasium vector info dict, whole columns at once where that makes no difference."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from remote_gym.info_blocks import PYTHON_KINDS, Column, Info, InfoBlock, InfoGroup


def add_infos(vector_infos: dict[str, Any], block: InfoBlock, num_envs: int) -> dict[str, Any]:
    """Add a block to a vector info dict exactly as ``VectorEnv._add_info`` would row by row, env indices rising.

    https://gymnasium.farama.org/api/vector/#gymnasium.vector.VectorEnv (``gymnasium/vector/vector_env.py``)

    Args:
        vector_infos: Where to add; modified.
        block: The infos to add.
        num_envs: Length of the arrays.

    Returns:
        `vector_infos`.

    Raises:
        CodecError: The block names an env that does not exist.
        ValueError, TypeError: What NumPy raises, as in Gymnasium, when envs disagree about the shape or type of a key.
    """
    block.check(num_envs)
    # A key that holds a dict and now gets something else is replaced, which moves it in the order: row by row then.
    nested = any(isinstance(value, dict) for value in vector_infos.values())
    if len(block.groups) > 1 and (nested or any(map(_holds_loose_dicts, block.groups))):
        for index, info in block.rows():
            _add_info(vector_infos, info, index, num_envs)
    else:
        for group in block.groups:
            _add_columns(vector_infos, group.column, _Rows.of(group.indices, num_envs))
    return vector_infos


def room_for(blocks: Iterable[InfoBlock], num_envs: int) -> int:
    """Return about how many bytes the arrays and masks take that `add_infos` makes of all these, at most."""
    sizes: dict[tuple[Any, ...], int] = {}  # by the path of a key, bytes for one env
    for block in blocks:
        for group in block.groups:
            _measure(sizes, (), group.column)
    return sum(sizes.values()) * num_envs + _ARRAY_BYTES * len(sizes)


_ARRAY_BYTES = 256
"""What two arrays and two entries of a dict take besides their elements."""


def _measure(sizes: dict[tuple[Any, ...], int], path: tuple[Any, ...], column: Column) -> None:
    """Take note of a column under the key at `path`, and of what is nested in it."""
    if column.kind == "dict":
        sizes.setdefault(path, 1)  # its mask
        for key, below in column.values.items():
            _measure(sizes, (*path, key), below)
    elif column.kind == "list":
        for value in column.values:
            _measure_value(sizes, path, value)
    else:
        sizes[path] = max(sizes.get(path, 0), 1 + column.values[:1].nbytes)


def _measure_value(sizes: dict[tuple[Any, ...], int], path: tuple[Any, ...], value: Any) -> None:
    if isinstance(value, dict):
        sizes.setdefault(path, 1)
        for key, below in value.items():
            _measure_value(sizes, (*path, key), below)
    else:
        size = value.nbytes if isinstance(value, np.ndarray) else 8
        sizes[path] = max(sizes.get(path, 0), 1 + size)


def _holds_loose_dicts(group: InfoGroup) -> bool:
    """Whether rows of the group may differ in nested keys, or have equal keys that name different masks (1, True).

    If not, all rows of a group name the same keys as its first row. Then adding group by group meets each key first at
    the same env as adding row by row, which decides the type of the array and the order of the keys.
    """

    def loose(column: Column) -> bool:
        if column.kind == "list":
            return any(isinstance(value, dict) for value in column.values)
        return column.kind == "dict" and any(map(loose, column.values.values()))

    rows = group.column.values
    if group.column.kind == "list":
        keys = itertools.chain.from_iterable(rows)
        nested = any(isinstance(value, dict) for row in rows for value in row.values())
        return nested or not {str}.issuperset(map(type, keys)) or len(set(map(tuple, rows))) > 1
    return loose(group.column)


class _Rows(NamedTuple):
    """Where the rows of a group go: `at` indexes an array of `num_envs` with all of `indices` at once."""

    indices: list[int]
    at: slice | np.ndarray[Any, Any]
    num_envs: int

    @classmethod
    def of(cls, indices: np.ndarray[Any, Any], num_envs: int) -> _Rows:
        each = indices.tolist()
        dense = each[-1] - each[0] == len(each) - 1
        return cls(each, slice(each[0], each[-1] + 1) if dense else indices, num_envs)


def _add_columns(infos: dict[str, Any], column: Column, rows: _Rows) -> None:
    """Add the rows of a dict column, or of a list column of dicts."""
    columns = column.values
    if column.kind == "list" or any(f"_{key}" in columns for key in columns):  # a key that is the mask of another
        for index, info in zip(rows.indices, column.rows(len(rows.indices)), strict=True):
            _add_info(infos, info, index, rows.num_envs)
        return
    for key, values in columns.items():
        if not _add_at_once(infos, key, values, rows):
            for index, value in zip(rows.indices, values.rows(len(rows.indices)), strict=True):
                _add_value(infos, key, value, index, rows.num_envs)


def _add_at_once(infos: dict[str, Any], key: str, column: Column, rows: _Rows) -> bool:
    """Add one key for all rows, if that is certain to equal adding them one by one."""
    mask = infos.get(f"_{key}")
    if mask is None:
        mask = np.zeros(rows.num_envs, np.bool_)
    elif type(mask) is not np.ndarray or mask.dtype != np.bool_ or mask.shape != (rows.num_envs,):
        return False
    array = _column_target(infos, key, column, rows.num_envs)
    if array is None:
        return False
    if column.kind == "dict":
        _add_columns(array, column, rows)
    else:
        array[rows.at] = column.values
    mask[rows.at] = True
    infos[key], infos[f"_{key}"] = array, mask
    return True


def _column_target(infos: dict[str, Any], key: str, column: Column, num_envs: int) -> Any:
    """The dict or array that takes the column as it is, new or present; None if there is none."""
    if key == "final_obs" or column.kind == "list":
        return None
    present = infos.get(key)
    if column.kind == "dict":
        return {} if key not in infos else present if type(present) is dict else None
    dtype = column.values.dtype
    if column.kind == "scalar" and not issubclass(dtype.type, np.number):
        return None  # np.bool_: Gymnasium collects it in an object array
    shape = (num_envs, *column.values.shape[1:])
    kind = PYTHON_KINDS[column.kind][0] if column.kind in PYTHON_KINDS else dtype
    array = present if key in infos else np.zeros(shape, kind)
    return array if type(array) is np.ndarray and (array.dtype, array.shape) == (dtype, shape) else None


def _add_info(infos: dict[str, Any], info: Info, index: int, num_envs: int) -> dict[str, Any]:
    for key, value in info.items():
        _add_value(infos, key, value, index, num_envs)
    return infos


def _add_value(infos: dict[str, Any], key: Any, value: Any, index: int, num_envs: int) -> None:
    """One key of one env, the way Gymnasium does it; also where that is surprising."""
    array: Any
    if key == "final_obs":
        array = infos[key] if key in infos else np.full(num_envs, None, object)
        array[index] = value
    elif isinstance(value, dict):
        array = _add_info(infos.get(key, {}), value, index, num_envs)
    else:
        array = infos[key] if key in infos else _empty_like(value, num_envs)
        array[index] = value
    mask = infos.get(f"_{key}", np.zeros(num_envs, np.bool_))
    mask[index] = True
    infos[key], infos[f"_{key}"] = array, mask


def _empty_like(value: Any, num_envs: int) -> np.ndarray[Any, Any]:
    """The array that collects values of which this is the first."""
    kind = type(value)
    if kind in (int, float, bool) or issubclass(kind, np.number):
        return np.zeros(num_envs, kind)
    if isinstance(value, np.ndarray):
        return np.zeros((num_envs, *value.shape), value.dtype)
    return np.full(num_envs, None, object)
