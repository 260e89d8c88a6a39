"""Dashboard process, on its event loop: pictures of the environments that one page shows.

Each page has calls of its own, one to each server that it shows environments of, with those alone and without figures;
they end with the page. Servers make them; what comes is looked at, since an environment may have written it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from remote_gym.dashboard.settings import Watched
from remote_gym.dashboard.view import TEXT, number_or_none, session_key
from remote_gym.dashboard.watchers import Ask, Watcher
from remote_gym.figures import (
    MAX_FRAMES,
    MAX_PERIOD_SECONDS,
    MAX_WIDTH,
    MIN_PERIOD_SECONDS,
    MIN_WIDTH,
    Frame,
    FrameRequest,
)
from remote_gym.texts import printable

MAX_TILES = MAX_FRAMES
MAX_BYTES = 4 * 2**20
"""Of one picture; servers send none that is larger."""

MAX_PIXELS = 2**22
"""Of one picture, which a browser has in memory with four bytes for each, however small it travels."""

KIND = "image/png"
_HEAD = struct.Struct(">8sI4sII")  # signature, then the chunk IHDR: length, name, width, height (RFC 2083)

_KEY = re.compile(r"(\d{1,4})\.([0-9a-f]{32})\.(\d{1,6})")


class Tile(NamedTuple):
    """An environment that is shown.

    Attributes:
        server: Its server's number.
        session: The id of its session.
        env: Its index there.
    """

    server: int
    session: bytes
    env: int

    @property
    def key(self) -> str:
        """What the page calls it."""
        return f"{session_key(self.server, self.session)}.{self.env}"


def tile(key: str) -> Tile:
    """Return what a page calls `key`.

    Raises:
        ValueError: It is none.
    """
    found = _KEY.fullmatch(key)
    if found is None:
        raise ValueError("a tile is SERVER.SESSION.ENV")
    return Tile(int(found[1]), bytes.fromhex(found[2]), int(found[3]))


class Tiles:
    """What one page shows. All methods are called on the event loop."""

    def __init__(
        self, watched: Sequence[Watched], ask: Ask, wanted: Iterable[Tile], width: int, period_seconds: float
    ) -> None:
        """Ask for nothing yet.

        Raises:
            ValueError: There are too many, or a server is not there, or a number is out of its range.
        """
        self._wanted: dict[int, list[Tile]] = {}
        for one in dict.fromkeys(wanted):
            self._wanted.setdefault(one.server, []).append(one)
        if sum(map(len, self._wanted.values())) > MAX_TILES:
            raise ValueError(f"a page shows {MAX_TILES} environments at most")
        if not set(self._wanted) <= set(range(len(watched))):
            raise ValueError("there is no such server")
        if not MIN_WIDTH <= width <= MAX_WIDTH:
            raise ValueError(f"width is from {MIN_WIDTH} to {MAX_WIDTH}")
        if not MIN_PERIOD_SECONDS <= period_seconds <= MAX_PERIOD_SECONDS:
            raise ValueError(f"period is from {MIN_PERIOD_SECONDS:g} to {MAX_PERIOD_SECONDS:g}")
        self._watched, self._ask, self._width, self._period_seconds = watched, ask, width, period_seconds
        self._pending: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Event()

    @contextlib.contextmanager
    def looking(self) -> Iterator[asyncio.Event]:
        """Ask for pictures meanwhile; gives what is set when some have come."""
        loop = asyncio.get_running_loop()
        watchers = []
        for number, wanted in self._wanted.items():
            arguments = {
                "frames": [FrameRequest(one.session, one.env, self._width) for one in wanted],
                "frame_period_seconds": self._period_seconds,
                "frames_only": True,
            }
            watcher = Watcher(self._ask, self._watched[number], arguments)
            watcher.start(
                lambda reply, number=number: loop.call_soon_threadsafe(self._told, number, reply.frames),  # type: ignore[misc]
                lambda error, wanted=wanted: loop.call_soon_threadsafe(self._lost, wanted, error),  # type: ignore[misc]
            )
            watchers.append(watcher)
        try:
            yield self._changed
        finally:
            for watcher in watchers:
                watcher.close()

    def taken(self) -> list[dict[str, Any]]:
        """Return the newest of each environment that has come since the last time."""
        pending, self._pending = self._pending, {}
        return list(pending.values())

    def _told(self, number: int, frames: Iterable[Frame]) -> None:
        wanted = self._wanted[number]
        for frame in frames:
            if (shown := Tile(number, frame.session, frame.env)) in wanted:
                self._pending[shown.key] = {"tile": shown.key, **picture(frame)}
        self._changed.set()

    def _lost(self, wanted: Iterable[Tile], error: str) -> None:
        for shown in wanted:
            self._pending[shown.key] = {"tile": shown.key, "missing": printable(error, TEXT)}
        self._changed.set()


def picture(frame: Frame) -> dict[str, Any]:
    """Return a frame as a page takes it: `image` and its `type`, or why it is `missing`; and the episode so far."""
    episode = {
        "return": number_or_none(frame.episode_return),
        "length": frame.episode_length,
    }
    if frame.missing:
        return {"missing": printable(frame.missing, TEXT), **episode}
    size = _size(frame.data)
    if frame.content_type != KIND or size is None:
        return {"missing": "what came is no picture", **episode}
    if size[0] * size[1] > MAX_PIXELS or len(frame.data) > MAX_BYTES:
        return {"missing": f"the picture is too large: {size[0]:,} by {size[1]:,} pixels", **episode}
    image = base64.b64encode(frame.data).decode("ascii")
    return {"type": KIND, "image": image, "width": size[0], "height": size[1], **episode}


def _size(data: bytes) -> tuple[int, int] | None:
    """Return width and height of a PNG as a browser will make it; None: this is none."""
    if len(data) < _HEAD.size:
        return None
    signature, _, name, width, height = _HEAD.unpack_from(data)
    return (width, height) if signature == b"\x89PNG\r\n\x1a\n" and name == b"IHDR" else None
