"""Frames in a notebook's output: when they are fetched, what is drawn, and how it ends. The page is a list here; what a
kernel makes of it is tested in `tests/notebooks/test_kernel.py`."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import settings

from remote_gym import EnvironmentLost, EnvironmentNeedsReset, EnvironmentRaised, MisuseError, ProtocolError
from remote_gym.client import inline as module
from remote_gym.client.inline import MAX_SIZE, Inline, check_fps, check_watchable, notebook, picture, rows_to_show
from remote_gym.client.rendering import BACKGROUND, GAP

cv2 = pytest.importorskip("cv2")


class FakeDisplay:
    """Takes what IPython would send to the page."""

    def __init__(self) -> None:
        self.shown: list[Any] = []

    def display(self, data: Any, **options: Any) -> Any:
        assert options.pop("raw") and options.pop("display_id", True)
        self.shown.append((data, options["metadata"]))
        return self

    def update(self, data: Any, **options: Any) -> None:
        assert self.shown, "there is nothing to bring up to date"
        self.display(data, **options)

    @property
    def last(self) -> Any:
        return self.shown[-1][0]


class Stage:
    """A watcher, its page, a clock that a test turns, and what frames there are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: Sequence[int] = (0, 1), fps: float = 2.0) -> None:
        self.page, self.now, self.cost = FakeDisplay(), 100.0, 0.0
        self.frames: Any = {row: image(row) for row in rows}
        self.fetches = 0
        monkeypatch.setattr(module, "notebook", lambda: self.page)
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        self.inline = Inline(self.fetch, rows, fps, "some <title>\x1b")

    def fetch(self, rows: Sequence[int]) -> Any:
        self.fetches += 1
        self.now += self.cost
        if isinstance(self.frames, Exception):
            raise self.frames
        return {row: frame for row, frame in self.frames.items() if row in rows}

    def show(self, seconds: float = 0.0) -> int:
        """Let some time pass and a step return; return how many pictures there were so far."""
        self.now += seconds
        self.inline.show()
        return len(self.page.shown)


def image(value: int, width: int = 30, height: int = 20) -> Any:
    return np.full((height, width, 3), 10 * value + 1, np.uint8)


def pixels(data: Any) -> Any:
    read = cv2.imdecode(np.frombuffer(base64.b64decode(data["image/png"]), np.uint8), cv2.IMREAD_COLOR)
    return read[..., ::-1]


# What is seen


def test_the_picture_is_that_of_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, rows=(3, 1))
    stage.show()
    shown = pixels(stage.page.last)
    np.testing.assert_array_equal(shown[:, :30], image(3))
    np.testing.assert_array_equal(shown[:, 30 + GAP :], image(1))
    assert (shown[:, 30 : 30 + GAP] == BACKGROUND).all()
    _, metadata = stage.page.shown[0]
    assert metadata["image/png"] == {
        "alt": r"frames of some <title>\x1b: 2 envs, 3 to 1", "width": 64, "height": 20
    }  # fmt: skip


def test_of_many_it_is_no_larger_than_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    many = {row: image(row % 20, 600, 400) for row in range(64)}
    whole = picture(many, range(64))
    assert whole.shape[1] <= MAX_SIZE[0] and whole.shape[0] <= MAX_SIZE[1]
    assert len(np.unique(whole[..., 0])) == 21, "20 kinds of frames, and gaps"


def test_a_row_without_a_frame_leaves_its_place_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    first = stage.frames.pop(0)
    stage.show()
    assert (pixels(stage.page.last)[:, :30] == BACKGROUND).all()
    stage.frames = {0: first}
    stage.show(1.0)
    shown = pixels(stage.page.last)
    np.testing.assert_array_equal(shown[:, :30], first)
    np.testing.assert_array_equal(shown[:, 30 + GAP :], image(1), "the last one it had")


def test_frames_of_different_shapes_cannot_be_tiled() -> None:
    with pytest.raises(ProtocolError, match="different shapes"):
        picture({0: image(1), 1: image(1, 7, 7)}, (0, 1))


# When


def test_they_come_no_more_often_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fps=2.0)
    assert [stage.show(), stage.show(0.3), stage.show(0.1), stage.show(0.2), stage.show(0.4)] == [1, 1, 1, 2, 2]
    assert stage.fetches == 2, "nobody renders what nobody sees"
    assert stage.inline.shown == 2


def test_at_most_half_of_the_time_is_spent_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, fps=10.0)
    stage.cost = 3.0
    stage.show()
    assert [stage.show(2.9), stage.show(0.2)] == [1, 2]


def test_before_there_is_anything_the_first_one_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.frames = {}
    stage.inline.begin()
    assert "no frames yet" in stage.page.last["text/plain"]
    assert stage.show() == 1
    stage.frames = {0: image(1)}
    assert stage.show() == 2
    assert "image/png" in stage.page.last


# What ends it


@pytest.mark.parametrize(
    "error", [EnvironmentLost("gone", 0, "killed"), EnvironmentNeedsReset("reset it", 0, "", "")], ids=str
)
def test_what_the_stepping_deals_with_is_waited_for(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    stage = Stage(monkeypatch)
    frames, stage.frames = stage.frames, error
    assert stage.show() == 0
    stage.frames = frames
    assert stage.show(1.0) == 1


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({0: None}, "no image to show, but NoneType"),
        ({0: image(1), 1: image(1, 4, 4)}, "different shapes"),
        (EnvironmentRaised("<b>no GPU</b>\x1b[2J", 0, "RuntimeError", ""), r"no frames any more: <b>no GPU</b>\x1b[2J"),
    ],
    ids=range(3),
)
def test_what_cannot_be_shown_says_why_and_hinders_nobody(
    monkeypatch: pytest.MonkeyPatch, broken: Any, said: str
) -> None:
    stage = Stage(monkeypatch)
    stage.frames = broken
    assert stage.show() == 1
    assert said in stage.page.last["text/plain"]
    assert "<b>" not in stage.page.last["text/html"]
    assert stage.inline.stopped
    assert stage.show(10.0) == 1
    assert stage.fetches == 1


def test_it_can_be_stopped_and_shows_nothing_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.show()
    assert repr(stage.inline) == r"<frames of some <title>\x1b: 2 envs, 0 to 1; 1 pictures>"
    stage.inline._ipython_display_()
    stage.inline.stop()
    stage.inline.stop()
    assert stage.show(10.0) == 1
    assert repr(stage.inline).endswith("1 pictures, stopped>")


# What is asked for

NOWHERE = """
import sys
{before}
from remote_gym import MisuseError
from remote_gym.client.inline import notebook
try:
    notebook()
except MisuseError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [("sys.modules['IPython'] = None", "IPython is not installed"), ("", "(this is none|IPython is not installed)")],
)
def test_outside_of_a_notebook_it_says_what_else_there_is(before: str, said: str) -> None:
    code = NOWHERE.format(before=before)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert re.search(f"{said}: use render_mode='human' for a window", done.stdout), done.stdout


def test_in_a_terminal_of_ipython_there_are_no_pictures() -> None:
    pytest.importorskip("IPython")
    code = "from IPython import start_ipython; start_ipython(argv=['--quick', '-c', sys.argv[1]])"
    inner = NOWHERE.format(before="")
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}", inner], capture_output=True, text=True, timeout=60
    )
    assert "this is a terminal" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("rows, shown", [(16, range(5)), (2, range(2)), ([4, 0], [4, 0]), (np.array([1]), [1])])
def test_which_rows(rows: Any, shown: Any) -> None:
    assert list(rows_to_show(rows, 5)) == list(shown)


@pytest.mark.parametrize("rows", [0, -1, True, 1.5, None, [], [0, 0], [5], [-1], "all"])
def test_rows_that_are_none(rows: Any) -> None:
    with pytest.raises(MisuseError, match="rows must be"):
        rows_to_show(rows, 5)


@pytest.mark.parametrize("fps", [0, -1.0, float("nan"), float("inf"), 61, "fast", None])
def test_a_pace_that_is_none(fps: Any) -> None:
    with pytest.raises(MisuseError, match="fps must be"):
        check_fps(fps)
    assert check_fps(np.float32(2.0)) == 2.0


@pytest.mark.parametrize("mode", [None, "ansi", "human", "rgb_array_list"])
def test_there_must_be_frames(mode: str | None) -> None:
    with pytest.raises(MisuseError, match=f"render mode is {mode!r}: make them with render_mode='rgb_array'"):
        check_watchable(mode, settings())


def test_with_a_batch_size_frames_must_travel_with_steps() -> None:
    with pytest.raises(MisuseError, match="needs render_with_step=True"):
        check_watchable("rgb_array", settings(num_envs=4, batch_size=2))
    check_watchable("rgb_array", settings(num_envs=4, batch_size=2, render_with_step=True))
    check_watchable("rgb_array", settings(num_envs=4))


def test_this_is_no_notebook() -> None:
    with pytest.raises(MisuseError, match="in the output of a notebook's cell"):
        notebook()
