"""What several tests of looking on need: the server's loop, its settings, and a reader of PNG files."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np

from remote_gym import RemoteEnvironmentServer
from remote_gym.pool import Timeouts
from remote_gym.server.settings import Settings


def on_loop(server: RemoteEnvironmentServer, coroutine: Any) -> Any:
    """Return what `coroutine` returns on the event loop of `server`."""
    return server._call(coroutine, 20.0)


def server_settings() -> Settings:
    """What a server needs to be told."""
    return Settings("CartPole-v1", {}, 1, None, None, 10, 3, 1_000, 1.0, Timeouts(), None)


def decoded(data: bytes) -> Any:
    """Return the pixels of a PNG file as `worker.pictures` writes them, checked chunk by chunk."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    chunks, at = {}, 8
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    width, height, depth, colour, *_ = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    channels = {0: 1, 2: 3, 6: 4}[colour]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, 1 + width * channels)
    assert depth == 8
    assert not rows[:, 0].any()
    return rows[:, 1:].reshape(height, width, channels)
