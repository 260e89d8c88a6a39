"""Pictures: PNG files that decoders read, made smaller by means; and words where there is none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from looking import decoded

from remote_gym.worker.pictures import Shown, picture, png, scaled


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_file_holds_the_pixels(channels: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, channels), np.uint8)
    assert np.array_equal(decoded(png(pixels)), pixels)


def test_others_read_it(tmp_path: Any) -> None:
    cv2 = pytest.importorskip("cv2")
    pixels = np.random.default_rng(1).integers(0, 256, (5, 7, 3), np.uint8)
    (tmp_path / "one.png").write_bytes(png(pixels))
    assert np.array_equal(cv2.imread(str(tmp_path / "one.png"))[..., ::-1], pixels)


def test_smaller_pixels_are_means() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    means = pixels.reshape(2, 2, 3, 2, 3).mean((1, 3)).astype(np.uint8)
    assert np.array_equal(scaled(pixels, 3), means)
    assert scaled(pixels, 6) is pixels


@pytest.mark.parametrize("shape", [(400, 600), (401, 599), (3, 4_000), (4_000, 3), (1, 1), (2_000, 5_000)])
@pytest.mark.parametrize("width", [16, 100, 320, 4_096])
def test_any_size_becomes_narrow_enough(shape: tuple[int, int], width: int) -> None:
    small = scaled(np.full((*shape, 3), 200, np.uint8), width)
    assert 0 < small.shape[1] <= width
    assert small.shape[0] > 0
    assert (small == 200).all()
    if shape[1] > width:
        assert small.shape[1] > width / 3


class Env:
    def __init__(self, mode: Any, rendered: Any) -> None:
        self.render_mode, self._rendered = mode, rendered

    def render(self) -> Any:
        if isinstance(self._rendered, BaseException):
            raise self._rendered
        return self._rendered


def of(mode: Any, rendered: Any = None, width: int = 320) -> Any:
    env = Env(mode, rendered)
    return picture(Shown(env, env.render), width)


def test_a_picture() -> None:
    made = of("rgb_array", np.full((100, 200, 3), 7, np.uint8), 100)
    assert (made.width, made.height, made.missing) == (100, 50, "")
    assert (decoded(made.data) == 7).all()
    assert of("depth_array", np.zeros((4, 4), np.uint8)).missing == ""


@pytest.mark.parametrize(
    ("mode", "rendered", "word"),
    [
        (None, None, "without a render mode"),
        ("human", None, "window"),
        ("rgb_array_list", [np.zeros((2, 2, 3), np.uint8)], "gives away"),
        ("ansi", "text", "gives str"),
        ("rgb_array", None, "gives NoneType"),
        ("rgb_array", np.zeros((2, 2, 3)), "float64"),
        ("rgb_array", np.zeros((2, 2, 5), np.uint8), "shape"),
        ("rgb_array", np.zeros((0, 2, 3), np.uint8), "shape"),
        ("rgb_array", ValueError("no <display>\n\x1b[31m"), "ValueError: no <display>"),
        ("rgb_array", SystemExit(3), "SystemExit"),
    ],
)
def test_why_there_is_none(mode: Any, rendered: Any, word: str) -> None:
    made = of(mode, rendered)
    assert word in made.missing
    assert made.missing.isprintable()
    assert not made.data


def test_too_large_a_file_is_none() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1_200, 1_500, 3), np.uint8)
    assert "at most" in of("rgb_array", noise, 4_096).missing
