"""Equality without tolerance: the same values, bit for bit, of the same types, dtypes, shapes and order of keys."""

from __future__ import annotations

from typing import Any

import numpy as np


def difference(ours: Any, theirs: Any, where: str = "value") -> str:
    """Return where and how `ours` differs from `theirs`; empty if it does not."""
    if type(ours) is not type(theirs):
        return f"{where}: {type(ours).__qualname__} {ours!r:.80} is not {type(theirs).__qualname__} {theirs!r:.80}"
    if isinstance(ours, dict):
        if list(ours) != list(theirs):
            return f"{where}: keys {list(ours)} are not {list(theirs)}"
        return _first(difference(ours[key], theirs[key], f"{where}[{key!r}]") for key in ours)
    if isinstance(ours, list | tuple):
        if len(ours) != len(theirs):
            return f"{where}: length {len(ours)} is not {len(theirs)}"
        return _first(difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True)))
    if isinstance(ours, np.ndarray):
        if (ours.dtype, ours.shape) != (theirs.dtype, theirs.shape):
            return f"{where}: {ours.dtype}{ours.shape} is not {theirs.dtype}{theirs.shape}"
        if ours.dtype.hasobject:
            return difference(ours.ravel().tolist(), theirs.ravel().tolist(), where)
        return "" if ours.tobytes() == theirs.tobytes() else f"{where}: {ours!r:.200} is not {theirs!r:.200}"
    if isinstance(ours, float | np.generic):
        same = np.array(ours).dtype == np.array(theirs).dtype and np.array(ours).tobytes() == np.array(theirs).tobytes()
        return "" if same else f"{where}: {ours!r} is not {theirs!r}"
    return "" if ours == theirs else f"{where}: {ours!r:.80} is not {theirs!r:.80}"


def _first(differences: Any) -> str:
    return next(filter(None, differences), "")


def assert_same(ours: Any, theirs: Any, where: str = "value") -> None:
    found = difference(ours, theirs, where)
    assert not found, found
