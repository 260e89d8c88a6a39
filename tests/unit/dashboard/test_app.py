"""Which address is answered by what, behind the gate; and what changes something, and for whom."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra dashboard is not installed")

from asking import OURS, Answer, ask, asked
from staged import Stage, identity

from remote_gym.dashboard import owner
from remote_gym.dashboard.app import MAX_PICTURES, MAX_VIEWERS, TOKEN_HEADER, Dashboard
from remote_gym.dashboard.settings import Settings, Watched
from remote_gym.errors import RemoteGymError

SERVERS = (Watched("a:1", "a:1", ("/run/a.admin",)), Watched("b:1", "b:1"))
TILE = f"0.{identity(0).hex()}.0"


def made(admin: bool = False, stage: Stage | None = None) -> tuple[Dashboard, str]:
    """Return a dashboard, and the cookie of who has entered."""
    dashboard = Dashboard(Settings(SERVERS, "token", admin=admin), (stage or Stage()).ask)
    return dashboard, asked(dashboard.app, "/?token=token").cookie


def got(path: str) -> Answer:
    dashboard, cookie = made()
    return asked(dashboard.app, path, cookie=cookie)


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/", "text/html"), ("/main.js", "text/javascript"), ("/style.css", "text/css"), ("/icon.svg", "image/svg+xml")],
)
def test_the_page_is_there(path: str, kind: str) -> None:
    answer = got(path)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["/ask.html", "/__init__.py", "/../settings.py", "/%2e%2e/settings.py", "/page", "/index.html/x"]
)
def test_nothing_else_is(path: str) -> None:
    assert got(path).status == 404


def test_everything_the_page_names_is_there() -> None:
    """Of its own origin, and without a line of script or style in the page."""
    page = got("/").body.decode()
    for name in re.findall(r'(?:src|href)="([^"#]+)"', page):
        assert got(name).status == 200, name
    for script in ("main.js", "frames.js", "table.js", "stream.js"):
        text = got(f"/{script}").body.decode()
        for name in re.findall(r'from "([^"]+)"', text):
            assert got(name).status == 200, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
    assert "http" not in page
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", page)


@pytest.mark.parametrize(
    "path",
    [
        "/views?sort=evil", "/views?rows=0", "/views?rows=501", "/views?rows=x", "/views?find=" + "x" * 101,
        "/tiles?tile=nonsense", f"/tiles?tile={TILE}&width=5", f"/tiles?tile={TILE}&width=x",
        f"/tiles?tile={TILE}&period=nan", f"/tiles?tile=7{TILE[1:]}",
        "/tiles?" + "&".join(f"tile=0.{identity(0).hex()}.{env}" for env in range(65)),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_by_name(path: str) -> None:
    answer = got(path)
    assert answer.status == 400
    assert answer.body


async def begun(dashboard: Dashboard, path: str, cookie: str) -> tuple[asyncio.Task[Any], asyncio.Queue[bytes]]:
    """Open a stream and return what comes of it."""
    pieces: asyncio.Queue[bytes] = asyncio.Queue()
    name, _, query = path.partition("?")
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "path": name, "query_string": query.encode(),
        "headers": [(b"host", b"127.0.0.1:8000"), (b"cookie", cookie.encode())], "root_path": "", "scheme": "http",
        "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 1), "asgi": {"spec_version": "2.3"},
    }  # fmt: skip
    asking = asyncio.Event()

    async def receive() -> Any:
        if not asking.is_set():
            asking.set()
            return {"type": "http.request", "body": b"", "more_body": False}
        return await asyncio.Future()  # for ever

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            assert (b"content-type", b"text/event-stream; charset=utf-8") in message["headers"]
        else:
            pieces.put_nowait(message["body"])

    return asyncio.create_task(dashboard.app(scope, receive, send)), pieces  # type: ignore[arg-type]


@pytest.mark.parametrize(("path", "most"), [("/views", MAX_VIEWERS), (f"/tiles?tile={TILE}", MAX_PICTURES)])
def test_as_many_streams_as_there_may_be_and_no_more(path: str, most: int) -> None:
    dashboard, cookie = made()

    async def main() -> None:
        open_ = [await begun(dashboard, path, cookie) for _ in range(most)]
        for _, pieces in open_:
            await asyncio.wait_for(pieces.get(), 10.0)
        answer = await ask(dashboard.app, path, cookie=cookie)
        assert (answer.status, answer.headers["content-type"]) == (503, "text/plain; charset=utf-8")
        task, _ = open_.pop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        again, pieces = await begun(dashboard, path, cookie)
        await asyncio.wait_for(pieces.get(), 10.0)
        dashboard.close()
        done, waiting = await asyncio.wait([again, *(one for one, _ in open_)], timeout=10.0)
        assert not waiting
        assert all(one.exception() is None for one in done)

    asyncio.run(main())


def changed(path: str, body: Any, admin: bool = True, token: bool = True, **headers: str) -> Answer:
    dashboard, cookie = made(admin)
    sent = {name.replace("-", "_"): value for name, value in OURS.items()}
    if token:
        sent[TOKEN_HEADER.replace("-", "_")] = "token"
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return asked(dashboard.app, path, "POST", data, **{**sent, "cookie": cookie, **headers})


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the owner's socket would have been told."""
    told: list[Any] = []
    monkeypatch.setattr(owner, "end", lambda *arguments: told.append(("end", *arguments)))
    monkeypatch.setattr(owner, "drain", lambda *arguments: told.append(("drain", *arguments)))
    return told


def test_the_page_changes_what_its_owner_lets_it(done: list[Any]) -> None:
    assert changed("/end", {"server": 0, "session": "abcd"}).status == 200
    assert changed("/drain", {"server": 0}).status == 200
    assert done == [("end", ("/run/a.admin",), "abcd"), ("drain", ("/run/a.admin",))]


@pytest.mark.parametrize("path", ["/end", "/drain"])
@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"admin": False}, 403),
        ({"token": False}, 403),
        ({"x_remote_gym": "wrong"}, 403),
        ({"cookie": ""}, 401),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": ""}, 403),
        ({"host": "evil.example"}, 421),
    ],
)
def test_nobody_else_changes_anything(done: list[Any], path: str, options: Any, status: int) -> None:
    assert changed(path, {"server": 0, "session": "abcd"}, **options).status == status
    assert done == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", {"server": 2}, {"server": -1}, {"server": "0"}, {"server": None}, b"x" * 5_000, b"[" * 900],
)
def test_nonsense_changes_nothing(done: list[Any], body: Any) -> None:
    assert changed("/drain", body).status == 400
    assert done == []


def test_nothing_is_changed_by_a_visit(done: list[Any]) -> None:
    dashboard, cookie = made(admin=True)
    assert asked(dashboard.app, "/drain", cookie=cookie).status == 405
    assert done == []


def test_a_server_that_refuses_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise RemoteGymError("there is no session 'abcd'")

    monkeypatch.setattr(owner, "end", refuse)
    answer = changed("/end", {"server": 0, "session": "abcd"})
    assert (answer.status, answer.body) == (409, b"there is no session 'abcd'\n")


@pytest.mark.parametrize("admin", [False, True])
def test_the_cookie_alone_looks_and_gets_nothing_that_changes_anything(done: list[Any], admin: bool) -> None:
    """Browsers send it to whoever listens at another port of this host, and that need be no browser."""
    dashboard = Dashboard(Settings(SERVERS, "the-token", admin=admin), Stage().ask)
    cookie = asked(dashboard.app, "/?token=the-token").cookie

    async def main() -> str:
        task, pieces = await begun(dashboard, "/views", cookie)
        first = (await asyncio.wait_for(pieces.get(), 10.0)).decode()
        dashboard.close()
        await asyncio.wait_for(task, 10.0)
        return first + "".join(piece.decode() for piece in (pieces.get_nowait() for _ in range(pieces.qsize())))

    told = asyncio.run(main())
    about = json.loads(re.findall("data: (.*)", told)[0])
    assert about == {"admin": admin}  # what the page shows buttons by, and nothing that they send
    assert "the-token" not in told
    headers = {name.replace("-", "_"): value for name, value in OURS.items()}
    for shown in ("", cookie, cookie.partition("=")[2], "True"):
        sent = {**headers, "cookie": cookie, TOKEN_HEADER.replace("-", "_"): shown}
        assert asked(dashboard.app, "/drain", "POST", b'{"server": 0}', **sent).status == 403
    assert done == []
