"""No I/O: that a value cannot travel, and what to do instead."""

from __future__ import annotations

import numpy as np


class CannotTravel(Exception):
    """A reason, raised where no path is known; `vetting` finds the path."""


def why_not(value: object) -> str:
    """Say what the value is and what to do instead."""
    kind = type(value)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    remedies: list[tuple[bool, str]] = [
        (isinstance(value, np.ma.MaskedArray), "send its .data and .mask"),
        (hasattr(kind, "__members__"), "send its .value"),
        (isinstance(value, memoryview), "send bytes() of it"),
        (callable(value), "call it first and send the result"),
    ]
    default = "send its contents as numbers, strings, lists, dicts or NumPy arrays, or leave it out"
    return f"a {name} cannot travel; {next((remedy for holds, remedy in remedies if holds), default)}"
