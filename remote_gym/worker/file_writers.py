"""Child side: wrappers that write files, whose own methods and attributes a client must not reach unless listed.

Gymnasium's `RecordVideo` has public names that choose the folder and the name of what it writes. What the wrapper has
as every environment has it, `step` or `render`, stays reachable: when to record is then decided by who has hosted it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from remote_gym.gym import Wrapper

FILE_WRITERS = frozenset({"RecordVideo", "RecordVideoV0", "VecVideoRecorder", "VideoRecorder"})
"""Classes, by name: of Gymnasium in all its versions and of Stable-Baselines3, which are not imported for this. What is
derived from them is one, too."""

OWN = frozenset({"video_folder", "name_prefix", "start_recording", "stop_recording"})
"""Their names, for environments in other processes, whose wrappers cannot be looked at."""


def refuse_file_writers(env: Any, name: str) -> None:
    """Refuse `name` where it is a file-writing wrapper that has it, of those around an environment.

    Raises:
        AttributeError: It is; says what the server's owner would have to say.
    """
    if name == "env" or hasattr(Wrapper, name):  # every wrapper has it
        return
    for layer in _layers(env):
        if hasattr(layer, name):
            if _writes_files(type(layer)):
                raise _refusal(type(layer).__name__, name)
            return


def refuse_file_writers_of(vector: Any, name: str) -> None:
    """Do the same for the environments of a vector environment.

    Raises:
        AttributeError: As above.
    """
    envs = getattr(vector.unwrapped, "envs", None)
    if isinstance(envs, (list, tuple)):
        for env in envs:
            refuse_file_writers(env, name)
    elif name in OWN and hasattr(vector, "call"):
        raise _refusal("a wrapper", name)


def _refusal(owner: str, name: str) -> AttributeError:
    return AttributeError(
        f"{name!r} is of {owner}, which writes files, and cannot be reached by clients of this server: its owner can "
        f"allow it by listing it among the names that can be called and read, with --allow-call (allow_call=)"
    )


def _layers(env: Any) -> Iterator[Any]:
    while True:
        yield env
        if not isinstance(env, Wrapper):
            return
        env = env.env


def _writes_files(kind: type[Any]) -> bool:
    return any(base.__name__ in FILE_WRITERS for base in kind.__mro__)
