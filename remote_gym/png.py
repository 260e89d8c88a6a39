"""No I/O: images as PNG (https://www.w3.org/TR/png), by the standard library's zlib; and smaller, by averaging."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

Image = np.ndarray[Any, Any]
"""(height, width, 3) uint8, red, green and blue."""

LEVEL = 1
"""Of zlib: rendered frames are mostly flat, and its higher levels take several times as long for a tenth less."""

_RGB, _UP = 2, 2  # a colour type, and the filter that stores the difference to the pixel above


def encode_png(image: Image) -> bytes:
    """Return `image` as the bytes of a PNG file."""
    height, width, _ = image.shape
    lines = np.empty((height, 1 + 3 * width), np.uint8)
    pixels = image.reshape(height, 3 * width)
    lines[:, 0] = _UP
    lines[0, 1:] = pixels[0]
    np.subtract(pixels[1:], pixels[:-1], out=lines[1:, 1:])  # modulo 256, as the filter has it
    header = struct.pack(">IIBBBBB", width, height, 8, _RGB, 0, 0, 0)
    data = zlib.compress(lines.tobytes(), LEVEL)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def shrunk(image: Image, width: int, height: int) -> Image:
    """Return `image` made smaller: each pixel is the mean of those it stands for, so that thin lines stay."""
    return _averaged(_averaged(image, 0, height), 1, width)


def _averaged(image: Image, axis: int, size: int) -> Image:
    """Return `image` with `size` pixels along `axis`, each the mean of equally many neighbours, which may overlap."""
    old = image.shape[axis]
    if size >= old:
        return image
    each = -(-old // size)
    firsts = np.arange(size) * (old - each) // max(1, size - 1)
    total = np.zeros((*image.shape[:axis], size, *image.shape[axis + 1 :]), np.uint16 if each <= 257 else np.uint32)
    for at in range(each):
        total += image.take(firsts + at, axis)
    return (total // each).astype(np.uint8)
