"""Trainer process, no I/O: the arguments of the two public classes are described once, at `Settings`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import TypeVar

from remote_gym.client.settings import Settings

Init = TypeVar("Init", bound=Callable[..., None])


def documented(init: Init) -> Init:
    """Complete the docstring of a public class's `__init__` with what `Settings` says of its arguments."""
    if init.__doc__ and Settings.__doc__:  # there are none under python -OO
        _, _, listed = inspect.cleandoc(Settings.__doc__).partition("Attributes:\n")
        entries = re.split(r"\n(?=    \w+: )", listed)
        described = {entry.strip().partition(":")[0]: entry for entry in entries}
        names = [name for name in inspect.signature(init).parameters if name != "self"]
        arguments = "\n".join(["Args:", *(described[name] for name in names)])
        summary, _, rest = inspect.cleandoc(init.__doc__).partition("\n\n")
        init.__doc__ = f"{summary}\n\n{arguments}\n\n{rest}"
    return init
