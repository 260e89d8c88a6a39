"""Dashboard process, on its event loop: which address of the page is answered by what."""

from __future__ import annotations

import asyncio
import json
from importlib.resources import files
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from remote_gym.dashboard import owner
from remote_gym.dashboard.fleet import Fleet
from remote_gym.dashboard.gate import App, Gate
from remote_gym.dashboard.settings import Settings
from remote_gym.dashboard.streams import pictures, views
from remote_gym.dashboard.tiles import Tiles, tile
from remote_gym.dashboard.view import MAX_FIND, MAX_ROWS, SORTS, Viewer
from remote_gym.dashboard.watchers import Ask
from remote_gym.errors import RemoteGymError

MAX_VIEWERS = 16
"""Pages that are open at once, and likewise those that show pictures: servers let each principal watch 16 times."""

MAX_PICTURES = 8

MAX_BODY_BYTES = 1_024

TOKEN_HEADER = "x-remote-gym"
"""Carries the token, when something is to be changed: other programs of this host may have got the cookie."""

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Dashboard:
    """The whole application, behind its gate. `close` ends what runs.

    Attributes:
        app: What a server of HTTP runs.
        fleet: The servers that are looked at.
    """

    def __init__(self, settings: Settings, ask: Ask) -> None:
        """Make it; nothing is asked of a server before somebody looks."""
        self._settings, self._ask = settings, ask
        self._pictures = 0
        self.fleet = Fleet(settings.servers, ask, settings.period_seconds)
        pages = _pages()
        routes = [Route(f"/{name}", _static(body, kind)) for name, (body, kind) in pages.items() if name != "ask.html"]
        routes += [
            Route("/", _static(*pages["index.html"])),
            Route("/views", self._views),
            Route("/tiles", self._tiles),
            Route("/end", self._end, methods=["POST"]),
            Route("/drain", self._drain, methods=["POST"]),
        ]
        asking = Response(pages["ask.html"][0], status_code=401, media_type="text/html")
        self._gate = Gate(Starlette(routes=routes), settings.token, settings.hosts, asking)
        self.app: App = self._gate

    def close(self) -> None:
        """End all streams."""
        self.fleet.close()

    async def _views(self, request: Request) -> Response:
        said = request.query_params
        try:
            viewer = Viewer(said.get("sort", "age"), said.get("find", ""), int(said.get("rows", "50")))
        except ValueError:
            return PlainTextResponse("rows is a whole number\n", 400)
        if viewer.sort not in SORTS or len(viewer.find) > MAX_FIND or not 1 <= viewer.rows <= MAX_ROWS:
            return PlainTextResponse(f"sort is one of {', '.join(SORTS)}; rows is from 1 to {MAX_ROWS}\n", 400)
        if self.fleet.viewers >= MAX_VIEWERS:
            return PlainTextResponse(f"{MAX_VIEWERS} pages are open already\n", 503)
        return _events(views(self.fleet, viewer, {"admin": self._settings.admin}))

    async def _tiles(self, request: Request) -> Response:
        said = request.query_params
        try:
            wanted = [tile(key) for key in said.getlist("tile")]
            tiles = Tiles(
                self._settings.servers, self._ask, wanted, int(said.get("width", "320")),
                float(said.get("period", "0.5")),
            )  # fmt: skip
        except ValueError as error:
            return PlainTextResponse(f"{error}\n", 400)
        if self._pictures >= MAX_PICTURES:
            return PlainTextResponse(f"{MAX_PICTURES} pages show pictures already\n", 503)
        return _events(self._counted(tiles))

    async def _counted(self, tiles: Tiles) -> Any:
        self._pictures += 1
        try:
            async for one in pictures(self.fleet, tiles):
                yield one
        finally:
            self._pictures -= 1

    async def _end(self, request: Request) -> Response:
        return await self._change(request, lambda paths, said: owner.end(paths, str(said.get("session", ""))))

    async def _drain(self, request: Request) -> Response:
        return await self._change(request, lambda paths, _: owner.drain(paths))

    async def _change(self, request: Request, change: Any) -> Response:
        """Have `change` do what a page asks for, where that is allowed; say what became of it."""
        if not self._settings.admin:
            return PlainTextResponse("This dashboard changes nothing: --dashboard-admin lets it.\n", 403)
        if not self._gate.knows(request.headers.get(TOKEN_HEADER)):
            return PlainTextResponse(
                "This tab was opened without the token, which changing something takes: open the link again that "
                "remote-gym has printed.\n", 403,
            )  # fmt: skip
        try:
            said = json.loads(await _body(request))
            server = self._settings.servers[said["server"]] if said["server"] >= 0 else None
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            server = None
        if server is None:
            return PlainTextResponse("There is no such server.\n", 400)
        try:
            await asyncio.to_thread(change, server.admin_sockets, said)
        except RemoteGymError as error:
            return PlainTextResponse(f"{error}\n", 409)
        return JSONResponse({})


def _pages() -> dict[str, tuple[bytes, str]]:
    """Return what the page is made of: bytes and their kind, by name."""
    folder = files("remote_gym.dashboard").joinpath("page")
    found = {one.name: one for one in folder.iterdir()}
    kinds = {name: KINDS.get(f".{name.rpartition('.')[2]}") for name in found}
    return {name: (found[name].read_bytes(), kind) for name, kind in kinds.items() if kind is not None}


def _static(body: bytes, kind: str) -> Any:
    async def answer(_request: Request) -> Response:
        return Response(body, media_type=kind)

    return answer


def _events(stream: Any) -> Response:
    return StreamingResponse(stream, media_type="text/event-stream", headers={"x-accel-buffering": "no"})


async def _body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            raise ValueError("too long")
    return body
