"""No I/O: what in a value cannot travel, and where: only after a refusal, so it may take its time."""

from __future__ import annotations

import reprlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from remote_gym.errors import CodecError
from remote_gym.gym import GraphInstance
from remote_gym.values.encoding import ENCODERS, Writer, check_shape, dump
from remote_gym.values.refusals import CannotTravel
from remote_gym.values.scalars import PLAIN


def vet(value: Any, where: str, writer: Writer, above: tuple[int, ...], dropped: list[str] | None) -> Any:
    """Find what cannot travel: raise a CodecError with its path or, given `dropped`, return a copy without it.

    Args:
        value: The value in question.
        where: Its path.
        writer: Counts the items, so that this ends on any value that is refused for having too many.
        above: Ids of the containers around the value.
        dropped: Collects the paths of the entries left out; None: raise instead.
    """
    if id(value) in above:
        raise CodecError("contains itself and cannot travel; leave it out", where)
    kind, above = type(value), (*above, id(value))
    try:
        if kind not in ENCODERS and kind not in PLAIN:
            value = writer.as_base(value)
            kind = type(value)
        if kind not in _PARTS or (kind is np.ndarray and value.dtype.kind != "O"):
            dump(writer.encode(value, len(above) - 1))  # an int may be too big: only dumping it tells
            return value
        if kind is np.ndarray:
            check_shape(value.shape)
        writer.enter(value.size if kind is np.ndarray else len(value), len(above) - 1)
        if kind in _TABLES:
            writer.tables.admit(value)
        if kind is dict and [*value] == [""]:
            writer.tables.admit_hollow()
    except CannotTravel as refusal:
        raise CodecError(str(refusal), where) from None
    except Exception as error:  # of code that an object brings along
        raise CodecError(f"cannot be packed: it raised {type(error).__name__}; leave it out", where) from error
    if kind in (dict, OrderedDict):
        return kind(_vet_entries(value, where, writer, above, dropped))
    keep = dropped if kind in (list, tuple) else None
    parts = [vet(part, path, writer, above, keep) for path, part in _PARTS[kind](value, where)]
    return kind(parts) if kind in (list, tuple) else value


def _vet_entries(
    value: dict[Any, Any], where: str, writer: Writer, above: tuple[int, ...], dropped: list[str] | None
) -> Iterator[tuple[Any, Any]]:
    for key, item in value.items():
        path = f"{where}[{_repr(key)}]"
        try:
            vet(key, f"the key {_repr(key)} of {where}", writer, above, None)
            yield key, vet(item, path, writer, above, dropped)
        except CodecError:
            if dropped is None:
                raise
            dropped.append(path)


def _indexed(value: Iterable[object], where: str) -> Iterator[tuple[str, object]]:
    return ((f"{where}[{i}]", part) for i, part in enumerate(value))


def _array_parts(value: np.ndarray[Any, Any], where: str) -> Iterator[tuple[str, object]]:
    paths = (f"{where}[{', '.join(map(str, at))}]" for at in np.ndindex(value.shape))
    return zip(paths, value.ravel().tolist())


def _set_parts(value: Iterable[object], where: str) -> Iterator[tuple[str, object]]:
    return ((f"an element of {where}", part) for part in value)


def _graph_parts(value: Any, where: str) -> Iterator[tuple[str, object]]:
    return ((f"{where}.{name}", part) for name, part in zip(value._fields, value))


_PARTS: dict[type, Callable[[Any, str], Iterator[tuple[str, object]]]] = {
    **dict.fromkeys((list, tuple, dict, OrderedDict), _indexed),
    **dict.fromkeys((set, frozenset), _set_parts),
    GraphInstance: _graph_parts,
    np.ndarray: _array_parts,
}
_TABLES = (dict, OrderedDict, set, frozenset)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = 120


def _repr(key: object) -> str:
    if type(key) not in ENCODERS and type(key) not in PLAIN:
        return f"<{type(key).__qualname__}>"
    try:
        return _short.repr(key)
    except ValueError:  # Python writes no int of more than 4,300 digits
        return f"<a huge {type(key).__qualname__}>"
