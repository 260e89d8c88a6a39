"""Pictures: which are asked for, what of them passes, and why there is none."""

from __future__ import annotations

import asyncio
import base64
import math
import struct
from collections.abc import Iterator

import pytest
from helpers import wait_until
from staged import Stage, identity, png

from remote_gym.dashboard.settings import Watched
from remote_gym.dashboard.tiles import MAX_BYTES, MAX_TILES, Tile, Tiles, picture, tile
from remote_gym.errors import ConnectError
from remote_gym.figures import Frame, FrameRequest, Frames

SERVERS = (Watched("a:1", "a:1"), Watched("b:1", "b:1"))
FRAME = Frame(identity(0), 3, "image/png", png(), 6, 4, 12.5, 7, "", 1_700_000_000.0)


class Once:
    """A call that tells one thing."""

    def __init__(self, reply: Frames) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[Frames]:
        yield self._reply

    def close(self) -> None:
        pass


def test_a_tile_is_what_the_page_calls_it() -> None:
    one = Tile(1, identity(5), 7)
    assert tile(one.key) == one


@pytest.mark.parametrize(
    "key",
    ["", "0", "0..1", "0.00.1", f"0.{'g' * 32}.1", f"-1.{'0' * 32}.1", f"0.{'0' * 32}.1\n", f"0.{'0' * 32}.9999999"],
)
def test_what_is_no_tile_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="SERVER"):
        tile(key)


@pytest.mark.parametrize(
    ("wanted", "width", "period", "said"),
    [
        ([Tile(0, identity(0), env) for env in range(MAX_TILES + 1)], 320, 1.0, "64 environments"),
        ([Tile(2, identity(0), 0)], 320, 1.0, "no such server"),
        ([Tile(0, identity(0), 0)], 15, 1.0, "width"),
        ([Tile(0, identity(0), 0)], 4_097, 1.0, "width"),
        ([Tile(0, identity(0), 0)], 320, 0.01, "period"),
        ([Tile(0, identity(0), 0)], 320, math.nan, "period"),
    ],
)
def test_what_no_server_would_take_is_refused(wanted: list[Tile], width: int, period: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Tiles(SERVERS, Stage().ask, wanted, width, period)


def test_each_server_is_asked_for_its_own_and_the_newest_is_kept() -> None:
    stage = Stage(period_seconds=0.01)
    wanted = [Tile(0, identity(0), 0), Tile(0, identity(0), 1), Tile(1, identity(1), 0), Tile(0, identity(0), 1)]

    async def main() -> None:
        tiles = Tiles(SERVERS, stage.ask, wanted, 100, 0.5)
        assert stage.calls == []
        with tiles.looking() as changed:
            seen: dict[str, float] = {}
            while len(seen) < 3 or min(seen.values()) < 5:
                await changed.wait()
                changed.clear()
                taken = tiles.taken()
                assert len({one["tile"] for one in taken}) == len(taken)
                seen.update({one["tile"]: one["return"] for one in taken})
        assert set(seen) == {one.key for one in wanted}

    asyncio.run(main())
    asked = {watched.address: arguments for watched, arguments, _ in stage.calls}
    assert asked["a:1"]["frames"] == [FrameRequest(identity(0), 0, 100), FrameRequest(identity(0), 1, 100)]
    assert asked["b:1"] == {
        "frames": [FrameRequest(identity(1), 0, 100)],
        "frame_period_seconds": 0.5,
        "frames_only": True,
    }
    wait_until(lambda: all(call.closed.is_set() for _, _, call in stage.calls))


def test_pictures_that_nobody_asked_for_are_left_out() -> None:
    stage = Stage(period_seconds=0.01)
    stage.ask = lambda *_: Once(Frames([FRAME, FRAME._replace(env=4)]))  # type: ignore[method-assign]

    async def main() -> None:
        tiles = Tiles(SERVERS, stage.ask, [Tile(0, identity(0), 3)], 100, 0.5)
        with tiles.looking() as changed:
            await changed.wait()
            assert [one["tile"] for one in tiles.taken()] == [Tile(0, identity(0), 3).key]

    asyncio.run(main())


def test_a_call_that_breaks_says_so_in_every_tile() -> None:
    def ask(*_: object) -> Once:
        raise ConnectError("a:1", "nobody listens")

    async def main() -> None:
        tiles = Tiles(SERVERS, ask, [Tile(0, identity(0), env) for env in range(3)], 100, 0.5)
        with tiles.looking() as changed:
            await changed.wait()
            assert len(taken := tiles.taken()) == 3
            assert all("nobody listens" in one["missing"] for one in taken)

    asyncio.run(main())


def test_a_picture_passes_with_its_episode() -> None:
    shown = picture(FRAME)
    assert base64.b64decode(shown["image"]) == FRAME.data
    assert (shown["type"], shown["width"], shown["height"]) == ("image/png", 6, 4)
    assert (shown["return"], shown["length"]) == (12.5, 7)


def bomb(width: int, height: int) -> bytes:
    return png()[:16] + struct.pack(">II", width, height) + png()[24:]


@pytest.mark.parametrize(
    "frame",
    [
        FRAME._replace(content_type="image/svg+xml", data=b"<svg onload='alert(1)'/>"),
        FRAME._replace(content_type="image/png", data=b"<svg onload='alert(1)'/>"),
        FRAME._replace(content_type="text/html"),
        FRAME._replace(data=b""),
        FRAME._replace(data=bomb(65_535, 65_535)),
        FRAME._replace(data=png() + b"x" * MAX_BYTES),
    ],
)
def test_what_is_no_picture_or_would_fill_a_browser_does_not_pass(frame: Frame) -> None:
    shown = picture(frame)
    assert "image" not in shown
    assert shown["missing"]
    assert shown["length"] == 7


def test_why_there_is_none_is_text() -> None:
    shown = picture(FRAME._replace(data=b"", missing="no\x1brender <b>mode</b>" + "x" * 5_000, episode_return=math.nan))
    assert "image" not in shown
    assert shown["missing"].startswith("no\\x1brender <b>mode</b>")
    assert len(shown["missing"]) < 500
    assert shown["return"] is None
