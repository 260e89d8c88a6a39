"""Trainer process: what a server says of the agents of its environments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gymnasium import Space

from remote_gym import MisuseError, ProtocolError
from remote_gym.agents import AGENTS, About, read_about

LOST = "remote_gym"
"""The info key of an environment whose worker was lost."""


def about_of(envs: Any) -> About:
    """Return what the server said of its agents; dials if that was not done yet.

    Raises:
        MisuseError: It hosts something else.
        ProtocolError: What it said is malformed.
    """
    said = envs.metadata.get(AGENTS)
    if said is None:
        raise MisuseError(
            f"{envs!r} is no PettingZoo environment: the server's entrypoint must return a ParallelEnv, or an AECEnv "
            f"that becomes one; for a Gymnasium environment use RemoteEnvironment or RemoteVectorEnv"
        )
    return read_about(said)


def shared(hosted: Any, keys: Sequence[Any], numbers: Sequence[int]) -> list[Space[Any]]:
    """Return the agents' spaces out of a Dict of all: one object for those that share one where they are hosted."""
    try:
        first: dict[int, Any] = {}
        return [first.setdefault(number, hosted[key]) for key, number in zip(keys, numbers, strict=True)]
    except KeyError as error:
        raise ProtocolError(f"there is no space of the agent {error!s:.80}") from error
