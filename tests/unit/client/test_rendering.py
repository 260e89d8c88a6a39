"""Render mode "human": what a server calls a frame is looked at, paced and tiled; nothing opens a window here."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from remote_gym import MisuseError, ProtocolError
from remote_gym.client import rendering
from remote_gym.client.rendering import MAX_PIXELS, Window, tiled


@pytest.mark.parametrize(
    "frame",
    [None, 5, "text", [], [np.zeros((4, 4, 3), np.uint8)], np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8),
     np.zeros((4, 4, 3)), np.zeros((4, 4, 9), np.uint8), np.zeros((100_000, 1, 3), np.uint8),
     np.array([[[None] * 3]], object)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("many", [False, True])
def test_frames_to_show(frame: Any, many: bool) -> None:
    frames = rendering._Frames(lambda: (frame, frame) if many else frame, "rgb_array", {})
    with pytest.raises(ProtocolError):
        frames.render()


def test_frames_of_another_size() -> None:
    images = iter([np.zeros((4, 4, 3), np.uint8), np.zeros((400, 400, 3), np.uint8)])
    frames = rendering._Frames(lambda: next(images), "rgb_array", {})
    frames.render()
    with pytest.raises(ProtocolError, match="now comes"):
        frames.render()
    with pytest.raises(ProtocolError):
        rendering._Frames(lambda: (), "rgb_array_list", {}).render()


@pytest.mark.parametrize(
    "said_fps, fps",
    [(30, 30), (np.int64(5), 5), (1e-9, 0.1), (0, 30), (-1, 30), (float("nan"), 30), (float("inf"), 30),
     ("fast", 30), (None, 30), (10**400, 1000), ([1], 30)],
)  # fmt: skip
def test_the_pace_of_showing(said_fps: Any, fps: float) -> None:
    metadata = {"render_fps": said_fps, "render_modes": 5}
    assert rendering._Frames(lambda: None, "rgb_array", metadata).metadata == {"render_fps": fps, "render_modes": []}


def image(value: int, shape: tuple[int, int] = (2, 3)) -> Any:
    return np.full((*shape, 3), value, np.uint8)


@pytest.mark.parametrize("mode", [None, "human", "ansi", "rgb_arrays"])
def test_there_must_be_frames(mode: str | None) -> None:
    with pytest.raises(MisuseError, match=f"its render mode is {mode!r}"):
        Window(lambda: image(1), mode, {})


def test_a_window_that_never_opened_closes_twice() -> None:
    window = Window(lambda: image(1), "rgb_array", {})
    window.close()
    window.close()


def test_frames_are_passed_on() -> None:
    frame = image(7)
    assert rendering._Frames(lambda: frame, "rgb_array", {}).render() is frame


def test_of_a_list_the_last_frame_is_shown() -> None:
    (shown,) = rendering._Frames(lambda: [image(1), image(2)], "rgb_array_list", {}).render()
    assert (shown == 2).all()


@pytest.mark.parametrize("count, rows, columns", [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 3), (9, 3, 3)])
def test_many_lie_side_by_side_row_after_row(count: int, rows: int, columns: int) -> None:
    shown = rendering._Frames(lambda: tuple(map(image, range(1, count + 1))), "rgb_array", {}).render()
    assert shown.shape == (2 * rows, 3 * columns, 3)
    numbers = shown[::2, ::3, 0].ravel().tolist()
    assert numbers == [*range(1, count + 1), *[0] * (rows * columns - count)]


def test_many_large_frames_fit_a_screen() -> None:
    whole = tiled([image(number, (400, 600)) for number in range(64)])
    assert max(whole.shape) <= MAX_PIXELS and whole.shape[2] == 3
    assert len(np.unique(whole)) == 64
