"""The process itself, over real sockets: what it tells browsers, and that it ends when it is meant to."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the extra dashboard is not installed")

from asking import fetched, opened

from remote_gym.dashboard.main import MAX_CONNECTIONS
from remote_gym.dashboard.settings import Settings, Watched

PLAYED = """
import socket, sys
sys.path.insert(0, sys.argv[2])
from staged import Stage
from remote_gym.dashboard import main
from remote_gym.dashboard.settings import Settings
main.REQUEST_SECONDS = float(sys.argv[3])
listening = [socket.socket(fileno=int(sys.argv[1]))]
main.run(Settings.from_json(sys.stdin.readline()), listening, main._until_input_ends, Stage().ask)
"""


class Running:
    """A dashboard's process, whose server is played."""

    def __init__(self, listening: socket.socket, request_seconds: float = 60.0) -> None:
        tests = str(Path(__file__).parents[2])
        self.port = listening.getsockname()[1]
        self.process = subprocess.Popen(
            [sys.executable, "-c", PLAYED, str(listening.fileno()), tests, str(request_seconds)],
            stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=[listening.fileno()],
        )  # fmt: skip
        assert self.process.stdin is not None
        self.process.stdin.write(Settings((Watched("a:1", "a:1"),), "secret").to_json() + "\n")
        self.process.stdin.flush()

    def enter(self) -> str:
        return fetched(self.port, "/?token=secret").cookie


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Running(listening, *getattr(request, "param", ()))
        yield made
        if made.process.poll() is None:
            made.process.kill()
            made.process.communicate()


def test_a_page_is_told_what_its_server_tells(running: Running) -> None:
    assert fetched(running.port, "/").status == 401
    assert fetched(running.port, "/views").status == 401
    with opened(running.port, "/views", cookie=running.enter()) as stream:
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
        assert "server" not in stream.headers
        while not (line := stream.readline()).startswith(b'data: {"servers"') or b'"up":true' not in line:
            assert line, "the stream has ended"
    assert len(json.loads(line.removeprefix(b"data: "))["sessions"]["rows"]) == 3


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)  # fmt: skip
def test_what_no_browser_sends_opens_nothing(running: Running, request_: bytes) -> None:
    with socket.create_connection(("127.0.0.1", running.port), 20.0) as asking:
        try:
            asking.sendall(request_)
            said = asking.recv(65_536)
        except ConnectionError:
            said = b""
    assert b" 200 " not in said.partition(b"\r\n")[0]
    assert fetched(running.port, "/").status == 401  # it goes on


ASKED = b"GET /style.css HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize("running", [(0.2,)], indirect=True)
def test_connections_that_bring_no_whole_request_are_ended(running: Running) -> None:
    """As many as there may be at once would keep every page out."""
    halves = [
        b"",
        b"GET / HTTP/1.1\r\n",
        ASKED + b"GET / HT",
        b"POST /enter HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\nContent-Length: 20\r\n\r\ntoken=",
    ]
    with opened(running.port, "/views", cookie=running.enter()) as stream, contextlib.ExitStack() as stack:
        idle = []
        for half in halves * ((MAX_CONNECTIONS - 8) // len(halves)):
            idle.append(stack.enter_context(socket.create_connection(("127.0.0.1", running.port), 20.0)))
            idle[-1].sendall(half)
        for asking in idle:
            with contextlib.suppress(ConnectionResetError):
                while asking.recv(65_536):
                    pass  # to its end
        for _ in range(5):  # what is being answered goes on
            while not (line := stream.readline()).startswith(b"event: view"):
                assert line, "the stream has ended"
    assert fetched(running.port, "/").status == 401


@pytest.mark.parametrize("how", ["input", "SIGTERM"])
def test_it_ends_with_whoever_started_it_streams_and_all(running: Running, how: str) -> None:
    with opened(running.port, "/views", cookie=running.enter()) as stream:
        stream.readline()
        if how == "input":
            assert running.process.stdin is not None
            running.process.stdin.close()
            running.process.stdin = None
        else:
            running.process.send_signal(signal.SIGTERM)
        running.process.wait(10.0)
        while stream.readline():
            pass  # to its end
    assert running.process.communicate()[1] == ""
