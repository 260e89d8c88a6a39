"""No I/O: a space of every kind, by name, and spaces put together from plain data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

_BOX_DTYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "f2", "f4", "f8")


def _box(dtype: str) -> Callable[[], spaces.Space[Any]]:
    return lambda: spaces.Box(0, 100, (2, 3), np.dtype(dtype).type)


SPACES: dict[str, Callable[[], spaces.Space[Any]]] = {
    **{f"box {dtype}": _box(dtype) for dtype in _BOX_DTYPES},
    "box u8": lambda: spaces.Box(0, 2**60, (2,), np.uint64),
    "box bool": lambda: spaces.Box(np.zeros(5, np.bool_), np.ones(5, np.bool_), dtype=np.bool_),
    "box scalar": lambda: spaces.Box(-1, 1, (), np.float32),
    "box empty": lambda: spaces.Box(0, 1, (2, 0, 3), np.float32),
    "box infinite": lambda: spaces.Box(-np.inf, np.inf, (3,), np.float64),
    "box half infinite": lambda: spaces.Box(np.array([0, -2], np.float32), np.array([1, np.inf], np.float32)),
    "box image": lambda: spaces.Box(0, 255, (16, 12, 3), np.uint8),
    "discrete": lambda: spaces.Discrete(5),
    "discrete start": lambda: spaces.Discrete(5, start=-7),
    "multi discrete": lambda: spaces.MultiDiscrete([3, 2, 5]),
    "multi discrete start": lambda: spaces.MultiDiscrete([3, 2], start=[-1, 10]),
    "multi discrete 2-d": lambda: spaces.MultiDiscrete(np.array([[3, 2], [5, 1]]), dtype=np.int16),
    "multi binary": lambda: spaces.MultiBinary(4),
    "multi binary 2-d": lambda: spaces.MultiBinary((2, 3)),
    "text": lambda: spaces.Text(12),
    "text charset": lambda: spaces.Text(5, min_length=0, charset="añ€😀\n"),
    "sequence": lambda: spaces.Sequence(spaces.Box(-1, 1, (2,), np.float32)),
    "sequence stacked": lambda: spaces.Sequence(spaces.Box(-1, 1, (2,), np.float32), stack=True),
    "sequence of dict": lambda: spaces.Sequence(spaces.Dict({"n": spaces.Discrete(3), "t": spaces.Text(3)})),
    "sequence of dict stacked": lambda: spaces.Sequence(
        spaces.Dict({"n": spaces.Discrete(3), "x": spaces.Box(0, 9, (2,), np.int8)}), stack=True
    ),
    "graph": lambda: spaces.Graph(spaces.Box(-1, 1, (3,), np.float32), spaces.Discrete(4)),
    "graph without edges": lambda: spaces.Graph(spaces.Discrete(5), None),
    "one of": lambda: spaces.OneOf((spaces.Discrete(3), spaces.Box(-1, 1, (2,), np.float32), spaces.Text(4))),
    "dict": lambda: spaces.Dict({"b": spaces.Discrete(3), "a": spaces.Box(-1, 1, (2,), np.float32)}),
    "tuple": lambda: spaces.Tuple((spaces.MultiBinary(2), spaces.Discrete(4, start=1))),
    "nested": lambda: spaces.Dict(
        {
            "z": spaces.Tuple((spaces.Discrete(3), spaces.Dict({"k": spaces.Box(0, 255, (2, 2), np.uint8)}))),
            "c": spaces.Dict({"x": spaces.Box(-1, 1, (1,), np.float64), "a": spaces.MultiDiscrete([2, 2])}),
        }
    ),
    "dict of numbers": lambda: spaces.Dict(
        {10: spaces.Discrete(3), 9: spaces.Box(0, 1, (2,)), -1: spaces.Text(3)}  # type: ignore[dict-item]
    ),
    "nested of every kind": lambda: spaces.Dict(
        {
            "said": spaces.Text(6),
            "seen": spaces.Tuple((spaces.Box(0, 255, (2, 2), np.uint8), spaces.Graph(spaces.Discrete(3), None))),
            "heard": spaces.Sequence(
                spaces.Tuple((spaces.Text(2), spaces.OneOf((spaces.Discrete(2), spaces.Text(2)))))
            ),
            "count": spaces.Discrete(7),
        }
    ),
    "one of nested": lambda: spaces.OneOf(
        (spaces.Tuple((spaces.Discrete(2), spaces.Text(3))), spaces.Dict({"s": spaces.Sequence(spaces.Discrete(3))}))
    ),
}
"""A space of every kind, by name. Each call makes a new one."""

Description = str | list[Any] | tuple[Any, ...]
"""A key of `SPACES`, ``["tuple", [...]]``, ``["dict", {...}]``, ``["one of", [...]]`` or
``["sequence", of, stack]``."""

_NODES: dict[str, Callable[..., spaces.Space[Any]]] = {
    "tuple": lambda children: spaces.Tuple([build_space(child) for child in children]),
    "dict": lambda children: spaces.Dict({key: build_space(child) for key, child in children.items()}),
    "one of": lambda children: spaces.OneOf([build_space(child) for child in children]),
    "sequence": lambda child, stack=False: spaces.Sequence(build_space(child), stack=stack),
}


def build_space(description: Description) -> spaces.Space[Any]:
    """Return the space that plain data describes, so that it can travel as a keyword argument."""
    if isinstance(description, str):
        return SPACES[description]()
    kind, *arguments = description
    return _NODES[kind](*arguments)
