"""What one open page is told: views and pictures as events; nothing queues up, and nothing outlives the page."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from helpers import wait_until
from staged import Stage, identity

from remote_gym.dashboard import streams as module
from remote_gym.dashboard.fleet import Fleet
from remote_gym.dashboard.settings import Watched
from remote_gym.dashboard.streams import event, pictures, views
from remote_gym.dashboard.tiles import Tile, Tiles
from remote_gym.dashboard.view import Viewer

SERVERS = (Watched("a:1", "a:1"),)


def read(data: bytes) -> tuple[str, Any]:
    """Return the name and the data of what is one event."""
    lines = data.decode().removeprefix("retry: 1000\n\n").split("\n")
    assert lines[2:] == ["", ""], lines
    return lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))


def test_an_event_is_two_lines_whatever_is_in_it() -> None:
    name, data = read(event("view", {"text": "a\n\nevent: evil\r\ndata: \u2028"}))
    assert (name, data) == ("view", {"text": "a\n\nevent: evil\r\ndata: \u2028"})


def test_a_number_that_json_lacks_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="JSON"):
        event("view", float("nan"))


def test_a_page_is_told_about_itself_then_what_it_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_SECONDS", 0.01)
    stage = Stage(period_seconds=0.02)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        stream = views(fleet, Viewer(), {"admin": None})
        assert read(await anext(stream)) == ("about", {"admin": None})
        rates = 0
        while rates < 5:
            name, shown = read(await anext(stream))
            assert name == "view"
            rates += sum(len(row["curves"]["rate"]) for row in shown["servers"] if row["up"])
        await stream.aclose()
        assert fleet.viewers == 0
        fleet.close()

    asyncio.run(main())


def test_a_page_that_reads_slowly_gets_what_holds_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MIN_SECONDS", 0.01)
    stage = Stage(period_seconds=0.002)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        stream = views(fleet, Viewer(), {})
        await anext(stream)
        await anext(stream)
        (_, record), *_ = fleet.servers
        await asyncio.sleep(0.2)
        seen = record.rates.count
        _, shown = read(await anext(stream))
        (row,) = shown["servers"]
        assert len(row["curves"]["rate"]) >= min(seen - 5, 50)  # all of it in one event
        fleet.close()

    asyncio.run(main())


def test_a_silent_stream_says_something_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.02)
    stage = Stage(period_seconds=100.0)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        stream = views(fleet, Viewer(), {})
        said = [await anext(stream) for _ in range(6)]
        assert said.count(b":\n\n") >= 2
        fleet.close()

    asyncio.run(main())


def test_streams_end_with_the_process() -> None:
    stage = Stage(period_seconds=0.01)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        one = views(fleet, Viewer(), {})
        other = pictures(fleet, Tiles(SERVERS, stage.ask, [Tile(0, identity(0), 0)], 100, 0.5))
        await anext(one)
        await anext(one)
        await anext(other)
        fleet.close()
        assert [piece async for piece in one] == []
        async for piece in other:
            assert piece.startswith(b"event: tile")
        wait_until(lambda: all(call.closed.is_set() for _, _, call in stage.calls))

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_pictures_come_as_they_are_made() -> None:
    stage, wanted = Stage(period_seconds=0.01), Tile(0, identity(0), 0)

    async def main() -> None:
        fleet = Fleet(SERVERS, stage.ask, 1.0)
        stream = pictures(fleet, Tiles(SERVERS, stage.ask, [wanted], 100, 0.5))
        assert await anext(stream) == b"retry: 1000\n\n"
        seen = [read(await anext(stream)) for _ in range(3)]
        assert all((name, shown["tile"]) == ("tile", wanted.key) for name, shown in seen)
        assert [shown["length"] for _, shown in seen] == sorted({shown["length"] for _, shown in seen})
        await stream.aclose()
        fleet.close()

    asyncio.run(main())
