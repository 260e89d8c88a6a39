"""Frames in a notebook's output hinder nobody: a step whose rendering kills the worker is returned all the same."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ServerFactory
from helpers import wait_until

from remote_gym import MisuseError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.client import inline

FRAGILE = """
    import os
    import numpy as np
    import gymnasium as gym

    class Fragile(gym.Wrapper):
        metadata = {"render_modes": ["rgb_array"]}
        steps = 0

        def step(self, action):
            self.steps += 1
            return self.env.step(action)

        def render(self):
            if os.path.exists("fatal"):
                os.remove("fatal")
                os._exit(3)
            return np.full((4, 6, 3), self.steps, np.uint8)

    def create_environment(render_mode=None):
        return Fragile(gym.make("CartPole-v1", render_mode=render_mode))
"""

Pictures = list[int]


@pytest.fixture
def pictures(monkeypatch: pytest.MonkeyPatch) -> Pictures:
    """Stand in for a notebook's page; gather how many steps the first environment had taken in each picture."""
    shown: Pictures = []

    class Page:
        def display(self, data: Any, **_options: Any) -> Page:
            return self

        def update(self, data: Any, **_options: Any) -> None:
            pass

    def picture(images: Any, rows: Any) -> Any:
        shown.append(int(images[rows[0]][0, 0, 0]))
        return np.zeros((2, 2, 3), np.uint8)

    monkeypatch.setattr(inline, "notebook", Page)
    monkeypatch.setattr(inline, "picture", picture)
    monkeypatch.setattr(inline, "MAX_SHARE", 1.0)
    return shown


@pytest.fixture
def address(serve: ServerFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fragile.py").write_text(textwrap.dedent(FRAGILE))
    return serve("fragile.py", num_workers=1).address


def step_until(step: Callable[[], Any], pictures: Pictures, count: int) -> Any:
    """Step until there are `count` pictures, and return the last step's result."""
    deadline = time.monotonic() + 30.0
    while True:
        result = step()
        if len(pictures) >= count:
            return result
        assert time.monotonic() < deadline


def until_due(watched: Any) -> None:
    """Wait until the next step is to bring a picture."""
    wait_until(lambda: time.monotonic() > watched._due, 30.0)


def test_each_picture_is_of_the_state_just_stepped_to(address: str, pictures: Pictures) -> None:
    with RemoteVectorEnv(address, num_envs=3, render_mode="rgb_array", autoreset_mode="Disabled") as envs:
        watched = envs.watch(rows=2, fps=60)
        assert pictures == []
        envs.reset(seed=1)
        assert pictures == [0]
        for steps in range(1, 6):
            until_due(watched)
            envs.step(np.zeros(3, np.int64))
            assert pictures[-1] == steps
        watched.stop()
        until_due(watched)
        envs.step(np.zeros(3, np.int64))
        assert pictures[-1] == 5


def test_a_worker_that_dies_of_rendering_costs_what_it_always_does(address: str, pictures: Pictures) -> None:
    with RemoteVectorEnv(address, num_envs=2, render_mode="rgb_array", autoreset_mode="SameStep") as envs:
        envs.reset(seed=1)
        watched = envs.watch(fps=60)
        assert pictures == [0]
        Path("fatal").touch()
        until_due(watched)
        _, rewards, _, truncations, infos = envs.step(np.zeros(2, np.int64))
        assert (rewards == 1).all() and not truncations.any(), "the step itself was done"
        assert pictures == [0]
        with pytest.warns(UserWarning, match="were lost"):
            _, _, _, truncations, infos = envs.step(np.zeros(2, np.int64))
        assert truncations.all(), "a loss is never silent"
        assert "remote_gym" in infos
        step_until(lambda: envs.step(np.zeros(2, np.int64)), pictures, 2)


def test_who_sends_and_receives_gets_frames_with_the_steps(address: str, pictures: Pictures) -> None:
    with RemoteVectorEnv(address, num_envs=4, batch_size=2, render_mode="rgb_array", render_with_step=True) as envs:
        envs.watch(fps=60)
        envs.async_reset(seed=1)

        def turn() -> None:
            infos = envs.recv()[4]
            envs.send(np.zeros(2, np.int64), infos["env_id"])

        step_until(turn, pictures, 4)
        envs.recv(everything=True)


def test_one_environment(address: str, pictures: Pictures) -> None:
    with RemoteEnvironment(address, render_mode="rgb_array") as env:
        env.reset(seed=1)
        env.watch(fps=60)
        step_until(lambda: env.step(0), pictures, 3)
        assert pictures[0] == 0 and sorted(pictures) == pictures


def test_what_cannot_be_watched(address: str, pictures: Pictures) -> None:
    with RemoteVectorEnv(address, num_envs=2) as envs, pytest.raises(MisuseError, match="render mode is None"):
        envs.watch()
    with (
        RemoteVectorEnv(address, num_envs=4, batch_size=2, render_mode="rgb_array") as envs,
        pytest.raises(MisuseError, match="render_with_step=True"),
    ):
        envs.watch()
    with RemoteVectorEnv(address, num_envs=2, render_mode="rgb_array") as envs:
        envs.reset()
        envs.step_async(np.zeros(2, np.int64))
        with pytest.raises(Exception, match="step_wait"):
            envs.watch()
        envs.step_wait()
