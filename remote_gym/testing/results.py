"""No I/O: results of two environments -> the rules that they keep or break."""

from __future__ import annotations

from collections.abc import Collection
from copy import deepcopy
from typing import Any

from gymnasium import spaces

from remote_gym.testing.bases import as_carried, carries, holds_subclass
from remote_gym.testing.comparison import Difference, Key, Path, difference, disorder
from remote_gym.testing.oddities import is_at_limit, is_declared, scalar_rule
from remote_gym.testing.rules import Record, Rule

NOBODY: Collection[int] = frozenset()

_STRUCTURE = frozenset({"type", "keys", "length"})
_LAYOUT = frozenset({"dtype", "shape"})


def compare_observations(
    record: Record,
    remote: Any,
    local: Any,
    space: spaces.Space[Any],
    batched: bool = True,
    values: Rule = Rule.OBSERVATION_VALUES,
    reset: Collection[int] = NOBODY,
    what: str = "observations",
) -> None:
    """Compare two observations, or batches of them.

    Args:
        record: Takes the outcome.
        remote: The remote one.
        local: The local one.
        space: Of a single environment.
        batched: Whether they are batches.
        values: The rule that values which differ break.
        reset: Env indices that were reset in this step; values which differ there break `Rule.AUTORESET`.
        what: Name of the result.
    """
    found = difference(remote, local)
    index = None if found is None or not batched else _env_index(space, found.path)
    if found is not None and not batched and not is_declared(space, local):
        values = Rule.ODD_RESULTS
    elif found is not None and found.kind in _STRUCTURE:
        values = Rule.OBSERVATION_TYPES
    elif found is not None and found.kind in _LAYOUT:
        values = Rule.OBSERVATION_DTYPES
    elif index in reset:
        values = Rule.AUTORESET
    record.count(Rule.OBSERVATION_TYPES, Rule.OBSERVATION_DTYPES, *([Rule.AUTORESET] if reset else []))
    if not record.differ(values, what, found, index) and isinstance(local, (dict, tuple)):
        record.differ(Rule.KEY_ORDER, what, disorder(remote, local))


def _env_index(space: spaces.Space[Any], path: Path) -> int | None:
    """Return the row of a batch that a path leads into."""
    for part in path:
        if isinstance(space, spaces.Dict) and isinstance(part, Key):
            space = space.spaces[part.name]
        elif isinstance(space, spaces.Tuple) and isinstance(part, int):
            space = space.spaces[part]
        else:
            return part if isinstance(part, int) else None
    return None


def compare_scalars(
    record: Record,
    remote: tuple[Any, Any, Any],
    local: tuple[Any, Any, Any],
    reset: Collection[int] = NOBODY,
    batched: bool = True,
) -> None:
    """Compare rewards, terminated and truncated: of one environment, or one array each.

    Args:
        record: Takes the outcome.
        remote: The remote ones.
        local: The local ones.
        reset: Env indices that were reset instead of stepped; values which differ there break `Rule.AUTORESET`.
        batched: Whether they are arrays of a batch.
    """
    rules = (Rule.REWARD_VALUES, Rule.TERMINATED, Rule.TRUNCATED)
    for rule, what, ours, theirs in zip(rules, ("reward", "terminated", "truncated"), remote, local, strict=True):
        found = difference(ours, theirs)
        index = found.path[0] if found is not None and found.path else None
        if found is not None and rule is Rule.REWARD_VALUES and found.kind != "value":
            rule = Rule.REWARD_TYPE
        elif index in reset:
            rule = Rule.AUTORESET
        rule = scalar_rule(theirs, what == "reward", rule, batched)
        record.differ(rule, what, found, index if isinstance(index, int) else None)
    record.count(Rule.REWARD_TYPE)


def compare_infos(record: Record, remote: Any, local: Any, batched: bool, what: str = "infos") -> None:
    """Compare the info of one environment or, `batched`, of a vector environment.

    Args:
        record: Takes the outcome.
        remote: The remote one.
        local: The local one.
        batched: Whether keys have masks.
        what: Name of the result.
    """
    found = difference(remote, local)
    if found is not None and holds_subclass(local):
        as_base = difference(remote, as_carried(local))
        if as_base is None:
            record.know(Rule.SUBCLASSES, what + found.where, found.show_remote(), found.show_local())
        elif holds_subclass(_value_at(local, as_base.path)):
            record.differ(Rule.SUBCLASSES, what, as_base)
            return
        found = as_base
    record.count(Rule.INFO_KEYS, Rule.INFO_TYPES, Rule.INFO_DTYPES, *([Rule.INFO_MASKS] if batched else []))
    if found is None:
        record.count(Rule.INFO_VALUES)
        return
    index = next((part for part in found.path if isinstance(part, int)), None) if batched else None
    record.differ(_info_rule(found, batched), what, found, index)


def _value_at(value: Any, path: Path) -> Any:
    """Return what is at `path` in an info, or the last that is there on the way."""
    for part in path:
        try:
            value = value[part.name if isinstance(part, Key) else part]
        except (KeyError, IndexError, TypeError):
            break
    return value


def _info_rule(found: Difference, batched: bool) -> Rule:
    if found.kind in ("type", "value") and is_at_limit(found.local):
        return Rule.LIMITS
    if not found.path and found.kind == "type":
        return Rule.ODD_RESULTS
    if found.kind == "keys":
        odd = set(found.remote) ^ set(found.local)
        masks = batched and all(isinstance(key, str) and key.startswith("_") for key in odd)
        return Rule.INFO_MASKS if masks else Rule.INFO_KEYS
    keys = [part.name for part in found.path if isinstance(part, Key)]
    if batched and keys and str(keys[-1]).startswith("_"):
        return Rule.INFO_MASKS
    if found.kind in _LAYOUT:
        return Rule.INFO_DTYPES
    return Rule.INFO_TYPES if found.kind == "type" else Rule.INFO_VALUES


def compare_spaces(record: Record, remote: Any, local: Any, what: str, seed: int, samples: int = 5) -> None:
    """Compare two spaces and, from copies, what they sample.

    Args:
        record: Takes the outcome.
        remote: The remote space.
        local: The local one.
        what: Its name.
        seed: What both are seeded with.
        samples: How many to draw.
    """
    same = type(remote) is type(local) and remote == local and local == remote
    if not same and carries(remote, local):
        record.know(Rule.SPACES, what, repr(remote), repr(local))
        return
    record.expect(Rule.SPACES, same, what, repr(remote), repr(local))
    if not same:
        return
    drawn = []
    for space in (remote, local):
        # A copy: some environments sample from their own space, whose generator must stay as it is.
        own = deepcopy(space)
        own.seed(seed)
        drawn.append([own.sample() for _ in range(samples)])
    record.differ(Rule.SAMPLES, f"{what} samples", difference(*drawn))
