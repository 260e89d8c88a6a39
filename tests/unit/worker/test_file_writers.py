"""Wrappers that write files: what chooses folders and names is not reached, what every environment has is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from gymnasium.wrappers import RecordVideo, TimeLimit

from remote_gym.worker.file_writers import refuse_file_writers, refuse_file_writers_of

OWN = ("video_folder", "name_prefix", "start_recording", "stop_recording", "episode_trigger")


class Recorder(RecordVideo):
    """Derived, and so one as well."""


def recorded(folder: Path, kind: type[Any] = RecordVideo) -> Any:
    env = gymnasium.make("CartPole-v1", render_mode="rgb_array")
    folder = folder / str(len(list(folder.iterdir())))  # a recorder warns of one that is there
    return kind(env, str(folder), episode_trigger=lambda _number: False, disable_logger=True)


@pytest.mark.parametrize("kind", [RecordVideo, Recorder])
@pytest.mark.parametrize("around", [lambda env: env, lambda env: TimeLimit(env, 9)])
def test_what_is_the_recorders_own_is_refused(tmp_path: Path, kind: type[Any], around: Any) -> None:
    env = around(recorded(tmp_path, kind))
    for name in OWN:
        with pytest.raises(AttributeError, match=f"{name!r} is of {kind.__name__}, which writes files.*--allow-call"):
            refuse_file_writers(env, name)
    for name in ("step", "reset", "render", "close", "gravity", "spec", "env", "unwrapped", "render_mode", "no_such"):
        refuse_file_writers(env, name)


def test_an_environments_own_attribute_of_such_a_name_is_its_own() -> None:
    class Camera(gymnasium.Wrapper[Any, Any, Any, Any]):
        video_folder = "nowhere"

    refuse_file_writers(Camera(gymnasium.make("CartPole-v1")), "video_folder")


def test_the_outermost_one_has_it(tmp_path: Path) -> None:
    class Camera(gymnasium.Wrapper[Any, Any, Any, Any]):
        video_folder = "nowhere"

    refuse_file_writers(Camera(recorded(tmp_path)), "video_folder")


def test_of_a_vector_environment_each_is_looked_at(tmp_path: Path) -> None:
    envs: Any = SyncVectorEnv([lambda: recorded(tmp_path), lambda: recorded(tmp_path)])
    with pytest.raises(AttributeError, match="writes files"):
        refuse_file_writers_of(envs, "start_recording")
    refuse_file_writers_of(envs, "gravity")
    envs.close()


def test_in_other_processes_the_name_says_it() -> None:
    envs: Any = AsyncVectorEnv([lambda: gymnasium.make("CartPole-v1")])
    with pytest.raises(AttributeError, match="writes files"):
        refuse_file_writers_of(envs, "start_recording")
    refuse_file_writers_of(envs, "gravity")
    envs.close()
