"""Trainer process: the id ``remote_gym/Remote-v0`` for `gymnasium.make` and `gymnasium.make_vec`.

Imported with the package, so that ``gymnasium.make("remote_gym:remote_gym/Remote-v0", url=...)`` works unaided. Entry
points are functions, not the classes: Gymnasium reads a class's `metadata` before it makes the object, and a remote
environment's is not known before it has dialled. The hosted environment carries its own TimeLimit and checkers, so none
are added here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

if TYPE_CHECKING:
    from remote_gym import RemoteEnvironment, RemoteVectorEnv

REMOTE_ID = "remote_gym/Remote-v0"


def register() -> None:
    """Register `REMOTE_ID`; doing so twice is fine."""
    if REMOTE_ID not in gymnasium.registry:
        gymnasium.register(
            REMOTE_ID,
            entry_point="remote_gym.registration:make_environment",
            vector_entry_point="remote_gym.registration:make_vector_environment",
            disable_env_checker=True,
            order_enforce=False,
        )


def make_environment(url: str | None = None, **kwargs: Any) -> RemoteEnvironment:
    """Return a `RemoteEnvironment`; the arguments are its own."""
    from remote_gym import RemoteEnvironment

    return RemoteEnvironment(url, **kwargs)


def make_vector_environment(num_envs: int = 1, url: str | None = None, **kwargs: Any) -> RemoteVectorEnv:
    """Return a `RemoteVectorEnv`; the arguments are its own."""
    from remote_gym import RemoteVectorEnv

    return RemoteVectorEnv(url, num_envs=num_envs, **kwargs)
