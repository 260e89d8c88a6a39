"""No I/O: how the spaces of a batch's environments may differ, and who says so when they differ too much.

Asked of two environments of a worker, of two workers and of two servers; each time another one is compared with the
first. The errors are those of `gymnasium.vector.SyncVectorEnv`, in its words.
"""

from __future__ import annotations

from typing import Any

from remote_gym.gym import Space, batch_differing_spaces, is_space_dtype_shape_equiv
from remote_gym.leaves import leaves_of, variable_leaves_of

SAME = "same"
DIFFERENT = "different"
GIVEN = "given"
"""The user has given both spaces, that of the batch and that of one environment."""

MODES = (SAME, DIFFERENT, GIVEN)


def compare(who: str, ours: Space[Any], first: Space[Any], mode: str) -> None:
    """Check that an environment may be in one batch with the first one.

    Args:
        who: Whose observation space is `ours`, for the error.
        ours: Made of Gymnasium's own spaces alone.
        first: Likewise, of the first environment.
        mode: One of `MODES`.

    Raises:
        RuntimeError: It may not.
        ValueError, TypeError: The same, where Gymnasium cannot batch the two.
    """
    both = f"single_observation_space={first}, sub-environment observation_space={ours}"
    if mode == SAME:
        if ours != first:
            raise RuntimeError(
                f"{who} differs in its observation space. In Gymnasium's words: SyncVectorEnv(..., "
                f"observation_mode='same') however the sub-environments observation spaces are not equivalent. {both}. "
                f"If this is intentional, use `observation_mode='different'` instead."
            )
    elif not is_space_dtype_shape_equiv(ours, first):
        if mode == DIFFERENT:
            batch_differing_spaces([first, ours])
        raise RuntimeError(
            f"{who} differs in its observation space. In Gymnasium's words: SyncVectorEnv(..., "
            f"observation_mode='different' or custom space) however the sub-environments observation spaces do not "
            f"share a common shape and dtype, {both}"
        )
    if not _same_layout(ours, first):
        raise RuntimeError(f"{who} has the keys of its observation space in another order: {ours} is not {first}")


def compare_actions(index: int, ours: Space[Any], first_index: int, first: Space[Any]) -> None:
    """Check that environment `index` has the action space of the first one, which is that at `first_index`.

    Raises:
        RuntimeError: It has not, as with `SyncVectorEnv`.
    """
    if ours != first:  # however they are described: 0.0 is -0.0, and a Text of Gymnasium 1.1 is ordered by hash
        raise RuntimeError(
            f"the action space of environment {index} differs from that of environment {first_index}: {ours} is not "
            f"{first}; all environments of a batch must have equal action spaces"
        )


def _same_layout(ours: Space[Any], first: Space[Any]) -> bool:
    """Return whether the rows of one are those of the other: equal Dicts may have their keys in another order."""
    variable = [[leaf.path for leaf in variable_leaves_of(space)] for space in (ours, first)]
    return leaves_of(ours) == leaves_of(first) and variable[0] == variable[1]
