"""Render modes of `RemoteEnvironment`. SDL's dummy driver stands in for a screen."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory

from remote_gym import MisuseError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.client.rendering import BACKGROUND, GAP

pygame = pytest.importorskip("pygame")


@pytest.fixture(autouse=True)
def no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def shown() -> np.ndarray:
    """Return what the window shows, as an image: (height, width, 3) uint8."""
    return np.transpose(pygame.surfarray.array3d(pygame.display.get_surface()), (1, 0, 2))


def test_rgb_array_is_the_local_frame(serve: ServerFactory) -> None:
    server = serve("Acrobot-v1")
    with RemoteEnvironment(server.address, render_mode="rgb_array") as remote:
        local = gym.make("Acrobot-v1", render_mode="rgb_array")
        remote.reset(seed=1), local.reset(seed=1)
        for action in (0, 2, 1):
            remote.step(action), local.step(action)
            np.testing.assert_array_equal(remote.render(), local.render())
        local.close()


def test_human_shows_every_state_and_closes_its_window(serve: ServerFactory) -> None:
    server = serve("toys:FunctionEnv")
    with RemoteEnvironment(server.address, render_mode="human") as env:
        assert env.render_mode == "human"
        env.reset()
        assert (shown() == 0).all()
        for step in (1, 2):
            env.step(0)
            assert (shown() == step).all()
            assert env.render() is None
        assert shown().shape == (4, 4, 3)
    assert not pygame.display.get_init()
    env.close()


@pytest.mark.parametrize("num_envs, rows, columns", [(1, 1, 1), (2, 1, 2), (3, 2, 2), (7, 3, 3)])
def test_human_shows_many_side_by_side(serve: ServerFactory, num_envs: int, rows: int, columns: int) -> None:
    server = serve("toys:FunctionEnv")
    with RemoteVectorEnv(server.address, num_envs=num_envs, render_mode="human") as envs:
        envs.reset()
        side = 4 + GAP  # of a tile with the gap beyond it
        assert shown().shape == (rows * side - GAP, columns * side - GAP, 3)
        envs.step(np.zeros(num_envs, np.int64))
        assert envs.render() == (None,) * num_envs
        for index in range(rows * columns):
            row, column = divmod(index, columns)
            tile = shown()[side * row :, side * column :][:4, :4]
            assert (tile == (1 if index < num_envs else BACKGROUND)).all()
        title = server.address if num_envs == 1 else f"{server.address}, envs 0-{num_envs - 1}"
        assert pygame.display.get_caption()[0] == title
    assert not pygame.display.get_init()


def test_human_needs_frames(serve: ServerFactory) -> None:
    server = serve("FrozenLake-v1", {"render_mode": "ansi"})
    with RemoteEnvironment(server.address, render_mode="human") as env, pytest.raises(MisuseError, match="'rgb_array'"):
        env.reset()


def test_no_window_without_human(serve: ServerFactory) -> None:
    with RemoteEnvironment(serve("CartPole-v1").address) as env:
        env.reset()
        assert env._remote._window is None


COUNTED = """
from toys import FunctionEnv

class Counted(FunctionEnv):
    renders = 0

    def render(self):
        self.renders += 1
        return super().render()

create_environment = Counted
"""


def test_frames_are_made_only_on_demand(serve: ServerFactory, tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(COUNTED)
    server = serve(str(tmp_path / "counted.py"))
    with RemoteEnvironment(server.address, render_mode="rgb_array") as env:
        env.reset()
        env.step(0)
        assert env.get_wrapper_attr("renders") == 0
        env.render()
        assert env.get_wrapper_attr("renders") == 1
