"""Trainer process, no I/O: infos as a list of one dict per environment, as trainers take them that know no batches.

Nothing is aggregated: values have the types that the environments returned, and infos may differ as they like.
"""

from __future__ import annotations

from typing import Any

from remote_gym.info_blocks import InfoBlock


def add_listed_infos(infos: list[dict[str, Any]], block: InfoBlock, num_envs: int) -> list[dict[str, Any]]:
    """Add a block to a list of infos.

    Args:
        infos: Where to add; modified. Empty: there is none yet.
        block: The infos to add.
        num_envs: Length of the list.

    Returns:
        infos: (num_envs,) dicts.

    Raises:
        CodecError: The block names an env that does not exist.
    """
    block.check(num_envs)
    each = infos or listed({}, num_envs)
    for index, info in block.rows():
        each[index].update(info)
    return each


def listed(infos: Any, num_envs: int) -> list[dict[str, Any]]:
    """Return `infos` if there are any, else an empty dict for each of `num_envs` environments."""
    return infos or [{} for _ in range(num_envs)]
