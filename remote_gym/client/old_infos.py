"""Trainer process, no I/O: infos as the vector environments of Gymnasium 0.29 aggregated them.

Numbers are collected in arrays, as today; all else, dicts and arrays included, in arrays of objects. When an episode
ends, the reset's info of the environment is followed by ``"final_observation"`` and ``"final_info"``, its last ones.
(``gymnasium/vector/sync_vector_env.py`` and ``vector_env.py`` of 0.29.1.)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from remote_gym.info_blocks import Info, InfoBlock
from remote_gym.infos import split

RENAMED = {"final_obs": "final_observation", "final_info": "final_info"}
"""What the end of an episode tells, by the name of today; in this order."""


def add_old_infos(vector_infos: dict[str, Any], block: InfoBlock, num_envs: int) -> dict[str, Any]:
    """Add a block to a vector info dict as ``VectorEnv._add_info`` of Gymnasium 0.29 would row by row.

    Args:
        vector_infos: Where to add; modified.
        block: The infos to add.
        num_envs: Length of the arrays.

    Returns:
        `vector_infos`.

    Raises:
        CodecError: The block names an env that does not exist.
        ValueError, TypeError: What NumPy raises, when a value is no number of the array that holds the first one.
    """
    block.check(num_envs)
    for index, info in block.rows():
        for key, value in _renamed(info).items():
            array = vector_infos[key] if key in vector_infos else _empty_like(value, num_envs)
            mask = vector_infos.get(f"_{key}", np.zeros(num_envs, np.bool_))
            array[index], mask[index] = value, True
            vector_infos[key], vector_infos[f"_{key}"] = array, mask
    return vector_infos


def _renamed(info: Info) -> Info:
    """Return an info with the old names of what the end of an episode tells, which came last."""
    if RENAMED.keys().isdisjoint(info):
        return info
    rest = {key: value for key, value in info.items() if key not in RENAMED}
    return {**rest, **{old: info[new] for new, old in RENAMED.items() if new in info}}


def _empty_like(value: Any, num_envs: int) -> np.ndarray[Any, Any]:
    """The array that collects values of which this is the first."""
    kind = type(value)
    if kind in (int, float, bool) or issubclass(kind, np.number):
        return np.zeros(num_envs, kind)
    return np.full(num_envs, None, object)


def as_old_infos(infos: dict[str, Any], num_envs: int) -> dict[str, Any]:
    """Return the infos of a hosted vector environment with the old keys; what else it says stays as it is."""
    ends = {new: infos[new] for new in RENAMED if new in infos}
    masks = {new: infos[f"_{new}"] for new in ends if f"_{new}" in infos}
    kept = {key: value for key, value in infos.items() if key not in ends and key not in {f"_{new}" for new in masks}}
    for new, value in ends.items():
        if isinstance(value, dict):
            said = {new: value, **({f"_{new}": masks[new]} if new in masks else {})}
            value = np.full(num_envs, None, object)
            for index, info in enumerate(split(said, num_envs)):
                value[index] = info.get(new)
        kept[RENAMED[new]] = value
        if new in masks:
            kept[f"_{RENAMED[new]}"] = masks[new]
    return kept
