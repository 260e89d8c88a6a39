"""Images as PNG: what other libraries read is what was written, and what is made smaller loses no thin line."""

from __future__ import annotations

import numpy as np
import pytest

from remote_gym.png import encode_png, shrunk

cv2 = pytest.importorskip("cv2")


@pytest.mark.parametrize("shape", [(400, 600, 3), (7, 5, 3), (1, 1, 3), (1, 9, 3)])
def test_others_read_the_same_pixels(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    read = cv2.imdecode(np.frombuffer(encode_png(image), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(read[..., ::-1], image)  # OpenCV has blue first


def test_a_picture_that_does_not_lie_in_one_piece() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
    assert encode_png(image[::2, ::-1]) == encode_png(image[::2, ::-1].copy())


def test_flat_pictures_are_small() -> None:
    assert len(encode_png(np.full((400, 600, 3), 255, np.uint8))) < 8_000


def test_each_pixel_is_the_mean_of_those_it_stands_for() -> None:
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    small = shrunk(image, 3, 2)
    assert small.shape == (2, 3, 3)
    assert small.dtype == np.uint8
    np.testing.assert_array_equal(small[0, 0], image[:2, :2].mean(axis=(0, 1)).astype(np.uint8))
    assert shrunk(image, 6, 4) is image


@pytest.mark.parametrize("size", [(1, 1), (240, 160), (599, 399), (7, 400)])
def test_a_thin_line_stays_and_nothing_overflows(size: tuple[int, int]) -> None:
    image = np.full((400, 600, 3), 255, np.uint8)
    assert (shrunk(image, *size) == 255).all()
    image[301] = 0
    assert (shrunk(image, *size) < 255).any()
