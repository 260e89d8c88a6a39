"""Child side: a picture of an environment, for who looks on: rendered, made small, and packed as a PNG file.

PNG (W3C, third edition) is a few lines with zlib, so no library for images is needed here.
"""

from __future__ import annotations

import struct
import zlib
from functools import partial
from typing import Any, Callable, NamedTuple

import numpy as np
import numpy.typing as npt

from remote_gym.ipc.commands import Picture
from remote_gym.texts import encodable, printable
from remote_gym.worker.results import text_of

MAX_PICTURE_BYTES = 4 * 2**20
"""Of a file."""

FINEST = 4
"""Pixels to a side whose mean becomes one; of more, some are left out: the time of a mean rises with all of them."""

LEVEL = 1
"""Of zlib: what renderers draw has large plain areas, and a higher one takes several times as long."""

MAX_SAID_CHARACTERS = 400

_COLOURS = {1: 0, 3: 2, 4: 6}
"""Channels -> PNG's colour type: grey, RGB, RGBA."""

Pixels = npt.NDArray[np.uint8]


class Shown(NamedTuple):
    """What a picture is made of.

    Attributes:
        env: Whose `render_mode` is looked at.
        render: Renders.
    """

    env: Any
    render: Callable[[], Any]


def picture(shown: Shown, max_width: int) -> Picture:
    """Render and return the picture, at most `max_width` pixels wide; or why there is none. Raises nothing."""
    try:
        mode = shown.env.render_mode
        if (why := _unfit(mode)) is not None:
            return _missing(why)
        pixels = _pixels(shown.render())
        if isinstance(pixels, str):
            return _missing(f"render mode {mode!r:.40} {pixels}")
        small = scaled(pixels, max_width)
        data = png(small)
    except BaseException as error:
        said = text_of(partial(str, error), "no message: its __str__")
        name = type(error).__name__
        return _missing(f"rendering raised {name}: {said}")
    if len(data) > MAX_PICTURE_BYTES:
        return _missing(f"the picture has {len(data):,} bytes, {MAX_PICTURE_BYTES:,} at most: ask for a smaller one")
    return Picture(data, small.shape[1], small.shape[0], "", 0)


def _missing(why: str) -> Picture:
    return Picture(b"", 0, 0, printable(encodable(why), MAX_SAID_CHARACTERS), 0)


def _unfit(mode: Any) -> str | None:
    if mode is None:
        return "the environment was made without a render mode: pass render_mode='rgb_array'"
    if mode == "human":
        return "render mode 'human' draws in a window of its own: make it with 'rgb_array'"
    if isinstance(mode, str) and mode.endswith("_list"):
        return f"render mode {mode!r:.40} gives away all frames since the last time, which its user waits for"
    return None


def _pixels(rendered: Any) -> Pixels | str:
    """Return what was rendered as (height, width, channels), or why it is no picture."""
    if not isinstance(rendered, np.ndarray):
        return f"gives {type(rendered).__name__:.80}, no array"
    pixels = rendered[..., None] if rendered.ndim == 2 else rendered
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in _COLOURS or not pixels.size:
        return f"gives {rendered.dtype} of shape {rendered.shape}, no picture of uint8"
    return pixels


def scaled(pixels: Pixels, max_width: int) -> Pixels:
    """Return `pixels`, (height, width, channels), a whole number of times smaller: `max_width` wide at most."""
    factor = -(-pixels.shape[1] // max_width)
    stride = max(1, factor // FINEST)
    if stride > 1:
        pixels = pixels[::stride, ::stride]
        factor = -(-pixels.shape[1] // max_width)
    if factor <= 1:
        return pixels
    height, width = (max(1, side // factor) * factor for side in pixels.shape[:2])
    if pixels.shape[0] < height:  # flat, and wide
        return pixels[:, ::factor]
    total = np.zeros((height // factor, width // factor, pixels.shape[2]), np.uint16)
    for row in range(factor):
        for column in range(factor):
            total += pixels[row:height:factor, column:width:factor]
    total //= factor * factor
    return total.astype(np.uint8)


def png(pixels: Pixels) -> bytes:
    """Return `pixels`, (height, width, 1, 3 or 4) uint8, as a PNG file."""
    height, width, channels = pixels.shape
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each begins with its filter: none
    rows[:, 1:] = pixels.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOURS[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), LEVEL)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
