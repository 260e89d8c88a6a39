"""Dashboard process, on its event loop: server-sent events: what one open page is told, until it is closed.

https://html.spec.whatwg.org/multipage/server-sent-events.html. Nothing queues up for a page that reads slowly: what is
sent next is what holds then.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from remote_gym.dashboard.fleet import Fleet
from remote_gym.dashboard.tiles import Tiles
from remote_gym.dashboard.view import Viewer, view

MIN_SECONDS = 0.4
"""Between two views of a page: several servers tell theirs one after the other."""

IDLE_SECONDS = 15.0
"""After so long something is sent that says nothing: who has gone is found out."""

RETRY = b"retry: 1000\n\n"
"""How long a browser waits before it comes back, in milliseconds."""

NOTHING = b":\n\n"


def event(name: str, data: Any) -> bytes:
    """Return one event; JSON has no line breaks."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return f"event: {name}\ndata: {text}\n\n".encode()


async def views(fleet: Fleet, viewer: Viewer, about: dict[str, Any]) -> AsyncIterator[bytes]:
    """Yield what a page draws: at first `about` the page itself, then a view whenever a server has told something."""
    yield RETRY + event("about", about)
    with fleet.looking() as changed:
        while not fleet.closed.is_set():
            if not await _is_set(changed):
                yield NOTHING
                continue
            changed.clear()
            yield event("view", view(fleet.servers, viewer))
            await _closing(fleet, MIN_SECONDS)


async def pictures(fleet: Fleet, tiles: Tiles) -> AsyncIterator[bytes]:
    """Yield pictures of the environments that a page shows, or why there are none, as they come."""
    yield RETRY
    with tiles.looking() as changed:
        while not fleet.closed.is_set():
            if not await _is_set(changed):
                yield NOTHING
                continue
            changed.clear()
            for one in tiles.taken():
                yield event("tile", one)


async def _is_set(changed: asyncio.Event) -> bool:
    try:
        await asyncio.wait_for(changed.wait(), IDLE_SECONDS)
    except asyncio.TimeoutError:
        return False
    return True


async def _closing(fleet: Fleet, seconds: float) -> None:
    """Return after `seconds`, or at the process's end."""
    try:
        await asyncio.wait_for(fleet.closed.wait(), seconds)
    except asyncio.TimeoutError:
        return
