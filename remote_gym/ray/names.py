"""No I/O: what actors and placement groups of a farm are called, and who is told what is wrong with such a name.

A server's name says which step of the farm's growth it belongs to, and which bundle of that step's placement group it
fills: ``remote-gym/NAME/0/2`` fills the bundle 2 of ``remote-gym/NAME/0``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from remote_gym.errors import MisuseError

NAMESPACE = "remote-gym"
"""Of all our actors, whatever namespace the driver that starts them is in: others find them by name."""

TLS_NAME = "farm"
"""What all servers' certificates are for: nobody knows their addresses beforehand."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class Slot(NamedTuple):
    """A server's place.

    Attributes:
        step: Which placement group, counted from 0.
        bundle: Which of its bundles.
    """

    step: int
    bundle: int


def checked(name: object) -> str:
    """Return a farm's name.

    Raises:
        MisuseError: It cannot be one.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MisuseError(f"a farm's name has up to 63 letters, digits, '.', '_' and '-', got {name!r:.80}")
    return name


def keeper_of(farm: str) -> str:
    """Return the name of a farm's keeper."""
    return f"{NAMESPACE}/{farm}"


def group_of(farm: str, step: int) -> str:
    """Return the name of a placement group."""
    return f"{NAMESPACE}/{farm}/{step}"


def server_of(farm: str, slot: Slot) -> str:
    """Return the name of a server."""
    return f"{NAMESPACE}/{farm}/{slot.step}/{slot.bundle}"


def slot_of(farm: str, name: str) -> Slot | None:
    """Return the slot of the farm's server that is called `name`; None: it is none."""
    parts = name.removeprefix(f"{keeper_of(farm)}/").split("/")
    if not name.startswith(f"{keeper_of(farm)}/") or len(parts) != 2 or not all(part.isdecimal() for part in parts):
        return None
    return Slot(int(parts[0]), int(parts[1]))


def step_of(farm: str, name: str) -> int | None:
    """Return the step of the farm's placement group that is called `name`; None: it is none."""
    prefix, _, step = name.rpartition("/")
    return int(step) if prefix == keeper_of(farm) and step.isdecimal() else None
