"""No I/O: the same action in every type and dtype that a caller may use for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

NUMBERS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
DTYPES = ("float64", "float32", "float16", "int64", "int32", "int8", "uint8", "bool")


def _cast(numbers: Any, dtype: str) -> Any:
    return np.asarray(numbers).astype(dtype)[()]


_FORMS: dict[str, Callable[[Any], Any]] = {
    **{dtype: partial(_cast, dtype=dtype) for dtype in DTYPES},
    "Python's own": lambda numbers: np.asarray(numbers).tolist(),
    "a list": lambda numbers: list(numbers) if np.ndim(numbers) else numbers,
}


def forms(space: spaces.Space[Any], action: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of a form, and `action` with its numbers in it; `space` may be that of a batch.

    What has no numbers stays as it is. The values are those of `action` as far as the form has them.
    """
    for name, form in _FORMS.items():
        with np.errstate(all="ignore"):
            formed = _formed(space, action, form)
        yield name, formed


def _formed(space: Any, action: Any, form: Callable[[Any], Any]) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _formed(child, action[key], form) for key, child in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_formed(child, part, form) for child, part in zip(space.spaces, action, strict=True))
    # A list of nothing would lose its shape.
    return form(action) if isinstance(space, NUMBERS) and np.size(action) else action
