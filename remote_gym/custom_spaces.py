"""No I/O: what a custom space travels as. A registry of pairs of functions, of each process its own.

A space of a class of somebody's own means nothing to another process, but its elements mostly are those of one of
Gymnasium's spaces. `register_space` says which, where the environment is made (the worker imports the entrypoint), and
how to build the custom space back, where that is wanted (the trainer). No peer names code: a name that comes over the
wire is looked up among the classes that this process has registered.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable
from typing import Any, NamedTuple

from remote_gym import gym as spaces
from remote_gym.errors import MisuseError
from remote_gym.texts import MAX_NAME_BYTES, encodable, shortened


class Registered(NamedTuple):
    """How spaces of one class travel.

    Attributes:
        to_portable: A space of that class -> one of Gymnasium's with the same elements.
        from_portable: The other way round; None: the portable one stays.
    """

    to_portable: Callable[[Any], spaces.Space[Any]]
    from_portable: Callable[[Any], spaces.Space[Any]] | None


_registered: dict[str, Registered] = {}  # by the full name of the class


def register_space(
    cls: type,
    to_portable: Callable[[Any], spaces.Space[Any]],
    from_portable: Callable[[Any], spaces.Space[Any]] | None = None,
    *,
    name: str | None = None,
) -> None:
    """Let spaces of a class of your own travel. Call it in the module of the entrypoint.

    Only the space is turned into another one, never its elements: both must have the same. Environments go on with
    their own space; batches are those of the portable one.

    Args:
        cls: The class; it holds for its subclasses that are not registered themselves.
        to_portable: Takes a space of that class, and returns one of Gymnasium's spaces with the same elements. It may
            hold custom ones that are registered.
        from_portable: Takes such a portable space, as any server may have described it, and returns one of yours. Used
            on the trainer's side, if this is called there as well. None: the portable space is what the trainer sees.
        name: Under which both sides know the class; None: its module and name, the same on both sides only if both
            import it from the same module.

    Raises:
        MisuseError: `cls` is no class of your own, or an argument is no function.
    """
    if not isinstance(cls, type) or cls.__module__.partition(".")[0] in ("gymnasium", "gym", "builtins"):
        raise MisuseError(f"register_space takes a class of your own, not {cls!r:.120}")
    if not callable(to_portable) or not (from_portable is None or callable(from_portable)):
        raise MisuseError("register_space takes functions: to_portable(space), and from_portable(space) or None")
    _names[cls] = name or _full_name(cls)
    _registered[_names[cls]] = Registered(to_portable, from_portable)


_names: dict[type, str] = {}


def _full_name(cls: type) -> str:
    return shortened(encodable(f"{cls.__module__}.{cls.__qualname__}"), MAX_NAME_BYTES // 4)


def name_of(cls: type) -> str:
    """Return the name under which both sides know a class of spaces."""
    return _names.get(cls) or _full_name(cls)


def registered_as(cls: type) -> str:
    """Return the name under which the class, or the nearest of its bases, is registered; empty if none is."""
    for base in cls.__mro__:
        if base in _names or _full_name(base) in _OURS:
            return name_of(base)
    return ""


def portable(space: Any, name: str) -> spaces.Space[Any]:
    """Return what `space`, registered as `name`, travels as.

    Raises:
        MisuseError: The user's function raised, or returned something else.
    """
    try:
        result = _registered[name].to_portable(space)
    except Exception as error:
        raise MisuseError(f"to_portable of {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(result, spaces.Space) or isinstance(result, type(space)):
        raise MisuseError(f"to_portable of {name} returned {result!r:.120}, which is no space of Gymnasium's")
    return result


def is_registered(name: str) -> bool:
    """Return whether this process has registered a class under `name`."""
    return name in _registered


def restored(space: spaces.Space[Any], name: str) -> spaces.Space[Any]:
    """Return the custom space that `space` stands for, if this process knows how to build it; else `space`.

    Raises:
        MisuseError: The user's function raised, or returned no space.
    """
    entry = _registered.get(name)
    if entry is None or entry.from_portable is None:
        return space
    try:
        result = entry.from_portable(space)
    except Exception as error:
        raise MisuseError(f"from_portable of {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(result, spaces.Space):
        raise MisuseError(f"from_portable of {name} returned {result!r:.120}, which is no space")
    return result


# Known from the start, by name: nothing is imported

MAX_MISSIONS = 10_000
"""Missions of a space that are counted out to find their lengths and characters."""

MISSION_CHARACTERS = 1_024
"""Of a mission of a space that cannot be counted out. BabyAI's, put together from parts, have some 200."""


def _mission_text(space: Any) -> spaces.Space[Any]:
    """MiniGrid's ``MissionSpace`` -> a `Text` with all of its missions (``minigrid/core/mission.py``)."""
    wide = spaces.Text(MISSION_CHARACTERS, min_length=0, charset=string.printable)
    choices = space.ordered_placeholders or []
    count = 1
    for words in choices:
        count *= len(words)
    if _full_name(type(space)) not in _OURS or count > MAX_MISSIONS:
        return wide  # a subclass with missions of its own: BabyAI's knows none of them beforehand
    missions = [space.mission_func(*words) for words in itertools.product(*choices)]
    lengths = [len(mission) for mission in missions]
    characters = "".join(sorted(set().union(*missions)))
    return spaces.Text(max(lengths), min_length=min(lengths), charset=characters) if characters else wide


_OURS = frozenset({"minigrid.core.mission.MissionSpace"})
_registered["minigrid.core.mission.MissionSpace"] = Registered(_mission_text, None)
