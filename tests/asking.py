"""A browser that is played: requests to an ASGI application, or over a socket, with a browser's headers, or others."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
from collections.abc import Iterator
from typing import Any, NamedTuple

HOST = "127.0.0.1:8000"
OURS = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def cookie(self) -> str:
        return self.headers["set-cookie"].partition(";")[0]


def asked(app: Any, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    """Return the answer; a header's name has underscores here, and an empty one is not sent."""
    return asyncio.run(ask(app, path, method, body, **headers))


async def ask(app: Any, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    sent = {"host": HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}
    path, _, query = path.partition("?")
    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1", "method": method,
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items() if value],
        "client": ("127.0.0.1", 50_000), "server": ("127.0.0.1", 8_000),
    }  # fmt: skip
    told: list[Any] = []
    pieces = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if pieces:
            return pieces.pop()
        return await asyncio.Future()  # for ever

    async def send(message: Any) -> None:
        told.append(message)

    await app(scope, receive, send)
    head = told[0]
    found = {name.decode(): value.decode() for name, value in head["headers"]}
    return Answer(head["status"], found, b"".join(one.get("body", b"") for one in told[1:]))


@contextlib.contextmanager
def opened(port: int, path: str, **headers: str) -> Iterator[http.client.HTTPResponse]:
    """Ask over a socket; gives the answer, of which more may come."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30.0)) as asking:
        asking.request("GET", path, headers={**headers, "connection": "close"})
        with asking.getresponse() as answer:
            yield answer


def fetched(port: int, path: str, **headers: str) -> Answer:
    """Return the whole answer."""
    with opened(port, path, **headers) as answer:
        return Answer(answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read())
