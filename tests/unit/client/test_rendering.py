"""Render mode "human": what a server calls a frame is looked at, paced, tiled and shown. SDL's dummy driver stands in
for a screen of 1024 x 768."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from remote_gym import MisuseError, ProtocolError
from remote_gym.client.rendering import BACKGROUND, GAP, Grid, Images, Window, pace, start


@pytest.fixture
def pygame(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    module = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    yield module
    module.display.quit()


def image(value: int, size: tuple[int, int] = (3, 2)) -> Any:
    return np.full((*size[::-1], 3), value, np.uint8)


def window(*frames: Any, title: str = "some title") -> Window:
    """Return one that shows `frames` one after the other, again and again."""
    return Window(itertools.cycle(frames).__next__, "rgb_array", {"render_fps": 1000}, title)


# What a server calls a frame


@pytest.mark.parametrize(
    "frame",
    [None, 5, "text", [], [np.zeros((4, 4, 3), np.uint8)], np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8),
     np.zeros((4, 4, 3)), np.zeros((4, 4, 9), np.uint8), np.zeros((100_000, 1, 3), np.uint8),
     np.array([[[None] * 3]], object)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("many", [False, True])
def test_frames_to_show(frame: Any, many: bool) -> None:
    with pytest.raises(ProtocolError):
        Images(lambda: (frame, frame) if many else frame, "rgb_array").fetch()


def test_frames_of_another_size() -> None:
    images = Images(itertools.cycle([image(1), image(1, (400, 400))]).__next__, "rgb_array")
    images.fetch()
    with pytest.raises(ProtocolError, match="now comes"):
        images.fetch()
    with pytest.raises(ProtocolError):
        Images(lambda: (), "rgb_array_list").fetch()


def test_frames_are_not_copied_without_need() -> None:
    frame = image(7)
    assert Images(lambda: frame, "rgb_array").fetch() == (frame,)
    turned = np.arange(18).reshape(3, 2, 3).swapaxes(0, 1)
    (contiguous,) = Images(lambda: turned, "rgb_array").fetch()
    assert contiguous.flags.c_contiguous and contiguous.dtype == np.uint8 and (contiguous == turned).all()


def test_of_a_list_the_last_frame_is_shown() -> None:
    (shown,) = Images(lambda: [image(1), image(2)], "rgb_array_list").fetch()
    assert (shown == 2).all()


@pytest.mark.parametrize(
    "said_fps, fps",
    [(30, 30), (np.int64(5), 5), (1e-9, 0.1), (0, 30), (-1, 30), (float("nan"), 30), (float("inf"), 30),
     ("fast", 30), (None, 30), (10**400, 1000), ([1], 30)],
)  # fmt: skip
def test_the_pace_of_showing(said_fps: Any, fps: float) -> None:
    assert pace(said_fps) == fps


@pytest.mark.parametrize("mode", [None, "human", "ansi", "rgb_arrays", "depth_array"])
def test_there_must_be_frames(mode: str | None) -> None:
    with pytest.raises(MisuseError, match=f"its render mode is {mode!r}"):
        Window(lambda: image(1), mode, {}, "")


# Where they lie


@pytest.mark.parametrize("count, rows, columns", [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 3), (9, 3, 3)])
def test_many_lie_side_by_side_with_gaps(count: int, rows: int, columns: int) -> None:
    grid = Grid(count, 3, 2)
    size = grid.window((1000, 1000))
    assert size == (columns * 3 + (columns - 1) * GAP, rows * 2 + (rows - 1) * GAP)
    tile, corners = grid.fit(size)
    assert tile == (3, 2)
    every = [(column * (3 + GAP), row * (2 + GAP)) for row in range(rows) for column in range(columns)]
    assert corners == every[:count]


@pytest.mark.parametrize("count", [1, 2, 5, 9, 64, 100])
@pytest.mark.parametrize("image_size", [(600, 400), (160, 210), (5000, 30), (16_384, 16_384)])
def test_a_window_fits_the_screen_and_keeps_proportions(count: int, image_size: tuple[int, int]) -> None:
    grid = Grid(count, *image_size)
    size = grid.window((1200, 700))
    assert size[0] <= 1200 and size[1] <= 700
    (width, height), corners = grid.fit(size)
    assert height == 1 or abs(width / height / (image_size[0] / image_size[1]) - 1) < 0.1
    assert width <= image_size[0] and height <= image_size[1]
    assert all(0 <= x <= size[0] - width and 0 <= y <= size[1] - height for x, y in corners)


def test_in_another_window_they_lie_in_the_middle() -> None:
    assert Grid(1, 60, 40).fit((200, 80)) == ((120, 80), [(40, 0)])
    assert Grid(1, 60, 40).fit((60, 100)) == ((60, 40), [(0, 30)])
    tile, corners = Grid(10_000, 60, 40).fit((1, 1))  # which no window can hold
    assert tile == (1, 1) and len(corners) == 10_000


# The window


def shown(pygame: Any) -> Any:
    """Return what the window shows: (height, width, 3) uint8."""
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)


def test_it_shows_every_frame_and_closes(pygame: Any) -> None:
    one = window(image(1), image(2), title="an id\n, a server\0")
    for value in (1, 2, 1):
        one.show()
        np.testing.assert_array_equal(shown(pygame), image(value))
    assert pygame.display.get_caption()[0] == r"an id\n, a server\x00"
    one.close()
    assert not pygame.display.get_init()
    one.close()


def test_what_is_too_large_is_averaged_rather_than_left_out(pygame: Any) -> None:
    frame = image(255, (1800, 1200))
    frame[601] = 0  # a thin line, as the one that CartPole's cart runs on
    many = window((frame,) * 4)
    many.show()
    height, width, _ = shown(pygame).shape
    assert 0.75 * 768 < height <= 0.9 * 768 and 0.8 * 1024 < width <= 0.9 * 1024
    column = shown(pygame)[: height // 2 - GAP, width // 4, 0]
    assert column.min() < 220 and column.max() > 250
    assert tuple(shown(pygame)[height // 2, width // 4]) == BACKGROUND
    many.close()


def test_a_resized_window_is_filled(pygame: Any) -> None:
    one = window(image(9))
    one.show()
    pygame.display.set_mode((30, 40), pygame.RESIZABLE)  # what becomes of it when somebody drags its corner
    one.show()
    assert (shown(pygame)[10:30] == 9).all() and (shown(pygame)[:10] == BACKGROUND).all()
    one.close()


def test_the_button_that_closes_it(pygame: Any) -> None:
    one = window(image(1))
    other = window(image(2), title="other")
    pygame.display.init()
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    other.show()  # does not end for what was asked of a window before it
    assert shown(pygame).shape == (2, 3, 3)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    other.show()
    assert shown(pygame).shape == (1, 1, 3)  # hidden
    other.show()
    assert [event.type for event in pygame.event.get(pygame.QUIT)] == [pygame.QUIT]  # a script can read it, too
    one.show()
    assert shown(pygame).shape == (2, 3, 3)
    one.close()


def test_after_another_has_ended_pygame_it_opens_again(pygame: Any) -> None:
    one = window(image(1))
    one.show()
    pygame.quit()  # as a local environment's `close` does
    one.show()
    assert (shown(pygame) == 1).all()
    one.close()


def test_the_window_of_the_process_is_of_who_showed_last(pygame: Any) -> None:
    first, second = window(image(1)), window(image(2, (5, 5)), title="second")
    first.show()
    second.show()
    assert shown(pygame).shape == (5, 5, 3) and pygame.display.get_caption()[0] == "second"
    first.close()
    assert pygame.display.get_init()
    first.show()
    assert shown(pygame).shape == (2, 3, 3) and pygame.display.get_caption()[0] == "some title"
    second.close()
    first.close()
    assert not pygame.display.get_init()


def test_a_window_that_never_opened_closes_twice() -> None:
    one = window(image(1))
    one.close()
    one.close()


# Without a screen, without pygame, at the end


def test_without_a_screen(pygame: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pygame.display.init()
    monkeypatch.delenv("SDL_VIDEODRIVER")  # SDL has fallen back to what shows nothing, and nobody has asked for it
    with pytest.raises(MisuseError, match=r"no screen here .*dummy.*set DISPLAY.*RecordVideo"):
        start(pygame)
    assert not pygame.display.get_init()
    monkeypatch.setenv("SDL_VIDEODRIVER", "no such driver")
    with pytest.raises(MisuseError, match=r"no screen here .*no such driver"):
        start(pygame)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")  # whoever asks for it gets it
    start(pygame)


def test_without_pygame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match="pip install pygame"):
        window(image(1)).show()


SCRIPT = """
import sys, time
import numpy as np
from remote_gym.client.rendering import Window
assert "pygame" not in sys.modules
window = Window(lambda: np.zeros((4, 4, 3), np.uint8), "rgb_array", {}, "title")
window.show()
print("shown", flush=True)
"""


@pytest.mark.parametrize("last, returncode", [("", 0), ("window.close()", 0), ("sys.stdin.read()", -signal.SIGTERM)])
def test_nothing_is_printed_at_the_end(pygame: Any, last: str, returncode: int) -> None:
    """Also if nobody closes the window; and SIGTERM ends the process, which SDL would take for a button."""
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT + last], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"shown\n"
        if returncode:
            process.terminate()
        assert process.stdout.read() == b"" and process.stderr.read() == b""
        assert process.wait() == returncode
