"""Trainer process, no I/O: whether what a server tells when it opens a session may be true."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import singledispatch
from typing import Any

from gymnasium import spaces

from remote_gym.errors import ProtocolError
from remote_gym.leaves import leaves_of
from remote_gym.messages import Open, Opened
from remote_gym.observation_modes import DIFFERENT, compare
from remote_gym.spaces import SpaceData, build, is_custom
from remote_gym.texts import MAX_NAME_BYTES

SESSION_ID_BYTES, TOKEN_BYTES = 16, 32
MAX_EPOCH_BYTES = 64

MAX_BATCH_BYTES = 8 * 2**30
"""Memory of the batched space of one session. `batch_space` repeats the bounds for every environment: a few bytes from
a server would otherwise take all there is. Bounds are about 2.5 to 4 times as large as a batch of observations, and one
message holds 1 GiB of these."""


def check_opened(opened: Opened, asked: Open) -> None:
    """Check what `opened` says about the session itself.

    Raises:
        ProtocolError: It does not fit what was `asked`.
    """
    if not asked.protocol_min <= opened.protocol <= asked.protocol_max:
        raise ProtocolError(f"opened a session of protocol version {opened.protocol}, which was not offered")
    for name, data, size in (("session id", opened.session_id, SESSION_ID_BYTES), ("token", opened.token, TOKEN_BYTES)):
        if len(data) != size:
            raise ProtocolError(f"opened a session whose {name} has {len(data)} bytes, not {size}")
    if len(opened.server_epoch) > MAX_EPOCH_BYTES:
        raise ProtocolError(f"opened a session whose server epoch has {len(opened.server_epoch)} bytes")
    if len(opened.env_ids) != asked.num_envs:
        raise ProtocolError(f"opened a session of {len(opened.env_ids)} environments, {asked.num_envs} were asked for")
    if opened.render_mode is not None and len(opened.render_mode) > MAX_NAME_BYTES:
        raise ProtocolError(f"opened a session whose render mode has {len(opened.render_mode):,} characters")
    check_lease(opened.lease_seconds)
    if len(opened.observation_spaces) not in (0, asked.num_envs):
        raise ProtocolError(f"told of {len(opened.observation_spaces)} observation spaces of {asked.num_envs}")
    if opened.observation_spaces and asked.observation_mode != DIFFERENT:
        raise ProtocolError("told of observation spaces that differ, which was not asked for")


def check_lease(seconds: float) -> None:
    """Check a promise to keep a session.

    Raises:
        ProtocolError: It is no number of seconds.
    """
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ProtocolError(f"a lease of {seconds} seconds")


def shown_space(data: SpaceData, space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space that users see: `space`, but for custom ones that this process can build back.

    Raises:
        MisuseError: A function that was registered for that raised.
    """
    return build(data, custom=True) if is_custom(data) else space


def read_space(data: SpaceData, num_envs: int) -> spaces.Space[Any]:
    """Return the space of a single environment, made of Gymnasium's own alone.

    Raises:
        ProtocolError, MisuseError: It is malformed, or too large for `num_envs` environments.
    """
    space = build(data)
    leaves_of(space)  # nested too deeply: raises
    if (size := footprint(space) * num_envs) > MAX_BATCH_BYTES:
        raise ProtocolError(f"a space that takes {size:,} bytes for {num_envs} environments")
    return space


def read_each(described: Sequence[SpaceData], first: spaces.Space[Any]) -> tuple[spaces.Space[Any], ...]:
    """Return the observation space of each environment, where they differ.

    Raises:
        ProtocolError, MisuseError: One is malformed, or does not lay out its leaves as the `first` does; or they are
            too large.
        Exception: It has little in common with `first`; whatever Gymnasium raises then.
    """
    each: list[spaces.Space[Any]] = []
    left = MAX_BATCH_BYTES
    for index, data in enumerate(described):
        space = build(data)
        left -= 2 * footprint(space)  # in the batch once more
        if left < 0:
            raise ProtocolError(f"{len(described)} spaces that take more than {MAX_BATCH_BYTES:,} bytes")
        compare(f"environment {index}", space, first, DIFFERENT)
        each.append(space)
    return tuple(each)


@singledispatch
def footprint(space: spaces.Space[Any]) -> int:
    """Return about how many bytes `space` takes in memory, nested ones included."""
    return 1_000


@footprint.register(spaces.Box)
def _(space: spaces.Box[Any]) -> int:
    return 1_000 + space.low.nbytes + space.high.nbytes + 2 * space.low.size  # and which are bounded


@footprint.register(spaces.MultiDiscrete)
def _(space: spaces.MultiDiscrete[Any]) -> int:
    return 1_000 + 2 * space.nvec.nbytes


@footprint.register(spaces.MultiBinary)
def _(space: spaces.MultiBinary) -> int:
    return 1_000 + 4 * math.prod(space.shape)  # none of it now; a Box of int8 once it is batched


@footprint.register(spaces.Text)
def _(space: spaces.Text) -> int:
    return 1_000 + 400 * len(space.character_list)  # in a tuple, a set, a dict and an array


@footprint.register(spaces.Sequence)
def _(space: spaces.Sequence) -> int:
    return 1_000 + footprint(space.feature_space)


@footprint.register(spaces.Graph)
def _(space: spaces.Graph) -> int:
    both = [space.node_space] if space.edge_space is None else [space.node_space, space.edge_space]
    return 1_000 + 2 * sum(map(footprint, both))  # it keeps a batch of each as well


@footprint.register(spaces.OneOf)
@footprint.register(spaces.Tuple)
def _(space: spaces.OneOf[Any] | spaces.Tuple[Any]) -> int:
    return 1_000 + sum(map(footprint, space.spaces))


@footprint.register(spaces.Dict)
def _(space: spaces.Dict) -> int:
    return 1_000 + sum(map(footprint, space.spaces.values()))
