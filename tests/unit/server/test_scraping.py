"""HTTP connections of the metrics: few at once, and none for long; who scrapes gets through."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from helpers import wait_until

from remote_gym.server import scraping
from remote_gym.server.scraping import ScrapeServer


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"figures"]


@pytest.fixture
def server() -> Iterator[ScrapeServer]:
    running = ScrapeServer("127.0.0.1", 0, application)
    running.start()
    yield running
    running.close()


def scrape(server: ScrapeServer) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics", timeout=10.0) as answer:
        return answer.read()  # type: ignore[no-any-return]


def dial(server: ScrapeServer, said: bytes = b"GET /metrics HTTP/1.1\r\n") -> socket.socket:
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=5.0)
    client.sendall(said)
    return client


def threads() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_who_asks_is_answered(server: ScrapeServer) -> None:
    assert scrape(server) == b"figures"
    wait_until(lambda: not server._open, what="its end")


def test_there_are_few_at_once_and_the_oldest_goes(server: ScrapeServer) -> None:
    with contextlib.ExitStack() as stack:
        first, *others = [stack.enter_context(dial(server)) for _ in range(3 * scraping.MAX_CONNECTIONS)]
        assert first.recv(1_000) == b"", "which has asked for nothing whole"
        assert scrape(server) == b"figures"
        assert len(server._open) <= scraping.MAX_CONNECTIONS
        wait_until(lambda: threads() <= scraping.MAX_CONNECTIONS, what="the ends of threads")
        others[-1].sendall(b"\r\n")
        assert b"figures" in b"".join(iter(lambda: others[-1].recv(1_000), b""))


def test_who_takes_too_long_is_closed_also_byte_by_byte(server: ScrapeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scraping, "DEADLINE_SECONDS", 0.5)
    with dial(server, b"") as client, contextlib.suppress(ConnectionError):
        began = time.monotonic()
        client.settimeout(0.05)
        while True:
            client.sendall(b"x")
            assert time.monotonic() - began < 5.0
            with contextlib.suppress(TimeoutError):
                if not client.recv(1):
                    break
    assert scrape(server) == b"figures"


def test_a_port_that_is_taken(server: ScrapeServer) -> None:
    with pytest.raises(OSError):
        ScrapeServer("127.0.0.1", server.server_port, application)


def test_closing_ends_all() -> None:
    server = ScrapeServer("127.0.0.1", 0, application)
    server.start()
    with dial(server) as client:
        wait_until(lambda: bool(server._open), what="the connection")
        server.close()
        assert client.recv(1_000) == b""
    wait_until(lambda: not threads(), what="the ends of threads")


def test_closing_what_was_not_started_frees_the_port() -> None:
    server = ScrapeServer("127.0.0.1", 0, application)
    server.close()
    ScrapeServer("127.0.0.1", server.server_port, application).close()
