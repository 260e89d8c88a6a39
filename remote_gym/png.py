"""No I/O: images as PNG files (W3C, third edition): a few lines with zlib, so that no library for images is needed."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""(height, width, channels): grey, RGB or RGBA."""

COLOURS = {1: 0, 3: 2, 4: 6}
"""Channels -> PNG's colour type: grey, RGB, RGBA."""

LEVEL = 1
"""Of zlib: what renderers draw has large plain areas, and a higher one takes several times as long."""

_UP = 2  # the filter that stores the difference to the pixel above


def encode_png(pixels: Pixels) -> bytes:
    """Return `pixels` as the bytes of a PNG file."""
    height, width, channels = pixels.shape
    image = pixels.reshape(height, width * channels)
    lines = np.empty((height, 1 + width * channels), np.uint8)
    lines[:, 0] = _UP
    lines[0, 1:] = image[0]
    np.subtract(image[1:], image[:-1], out=lines[1:, 1:])  # modulo 256, as the filter has it
    header = struct.pack(">IIBBBBB", width, height, 8, COLOURS[channels], 0, 0, 0)
    data = zlib.compress(lines.tobytes(), LEVEL)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def shrunk(pixels: Pixels, width: int, height: int) -> Pixels:
    """Return `pixels` made smaller: each is the mean of those it stands for, so that thin lines stay."""
    return _averaged(_averaged(pixels, 0, height), 1, width)


def _averaged(pixels: Pixels, axis: int, size: int) -> Pixels:
    """Return `size` pixels along `axis`, each the mean of equally many neighbours, which may overlap."""
    old = pixels.shape[axis]
    if size >= old:
        return pixels
    each = -(-old // size)
    firsts = np.arange(size) * (old - each) // max(1, size - 1)
    total = np.zeros((*pixels.shape[:axis], size, *pixels.shape[axis + 1 :]), np.uint16 if each <= 257 else np.uint32)
    for at in range(each):
        total += pixels.take(firsts + at, axis)
    mean: Pixels = (total // each).astype(np.uint8)
    return mean
