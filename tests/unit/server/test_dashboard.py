"""The parent's side of the dashboard: a port, a link, a process as long as the server runs, and another if it dies."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
from asking import fetched
from conftest import ServeProcess, ServerFactory
from helpers import lives, wait_until

from remote_gym.errors import MisuseError
from remote_gym.server import dashboard as module
from remote_gym.server.dashboard import Dashboard, hosts

needs_the_extra = pytest.mark.skipif(
    any(module.importlib.util.find_spec(name) is None for name in module.LIBRARIES),
    reason="the extra dashboard is not installed",
)


def get(link: str, path: str | None = None) -> int:
    """Return the status of what the link leads to, or `path` where it does."""
    split = urlsplit(link)
    return fetched(split.port or 0, path or f"{split.path}?{split.query}").status


def child_of(parent: int) -> psutil.Process | None:
    for process in psutil.Process(parent).children():
        if any("remote_gym.dashboard.main" in word for word in process.cmdline()):
            return process
    return None


@needs_the_extra
@pytest.mark.parametrize("grpc_only", [False, True])
def test_the_link_opens_the_page_and_the_end_of_the_server_is_its_end(serve: ServerFactory, grpc_only: bool) -> None:
    server = serve(num_workers=1, dashboard_port=0, grpc_only=grpc_only)
    link = server.dashboard_link
    assert link is not None
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{43}", link)
    assert get(link) == 200
    assert get(link, "/") == 401
    assert get(link, "/?token=wrong") == 403
    assert server.unix_address is None  # the dashboard's own socket is its own
    child = child_of(os.getpid())
    assert child is not None
    server.stop()
    assert not lives(child.pid)
    with socket.create_server(("127.0.0.1", urlsplit(link).port or 0)):
        pass  # the port is free


def test_without_it_nothing_is_started(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    assert server.dashboard_link is None
    assert child_of(os.getpid()) is None


@needs_the_extra
def test_one_that_dies_has_a_successor_with_the_same_link(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PAUSE_SECONDS", 0.01)
    server = serve(num_workers=1, dashboard_port=0)
    assert server.dashboard_link is not None
    assert get(server.dashboard_link) == 200
    child = child_of(os.getpid())
    assert child is not None
    child.kill()
    assert get(server.dashboard_link) == 200  # it waits for the successor
    assert "another one is started in its place" in caplog.text
    assert server.dashboard_link.rpartition("=")[2] not in caplog.text  # the token


@needs_the_extra
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_it_lives_no_longer_than_serve(serve_process: Callable[..., ServeProcess], end: signal.Signals) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", "--dashboard-port", "0")
    found = wait_until(
        lambda: re.search(r"in a browser on this machine:\n +(http://\S+)\n", served.log), what="the link"
    )
    assert get(found[1]) == 200
    child = child_of(served.process.pid)
    assert child is not None
    served.process.send_signal(end)
    served.process.wait(20.0)
    wait_until(lambda: not lives(child.pid))


@needs_the_extra
def test_the_log_for_machines_has_the_link_too(serve_process: Callable[..., ServeProcess]) -> None:
    served = serve_process("CartPole-v1", "--num-workers", "1", "--dashboard-port", "0", "--log-format", "json")
    assert wait_until(lambda: re.search(r'"dashboard": "(http://127\.0\.0\.1:\d+/\?token=[^"]+)"', served.log))


@needs_the_extra
def test_a_taken_port_is_named(serve: ServerFactory) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=rf"127\.0\.0\.1:{port}.*for the dashboard"):
            serve(num_workers=1, dashboard_port=port)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dashboard_url": "0.0.0.0"}, "ssh -L"),
        ({"dashboard_url": "unix:/tmp/x"}, "a browser needs a host"),
        ({"dashboard_admin": True, "admin_socket": None}, "takes an admin_socket"),
    ],
)
def test_what_would_be_unsafe_or_of_no_use_is_refused(serve: ServerFactory, options: Any, said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        serve(num_workers=1, dashboard_port=0, **options)


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MisuseError, match=r'starlette and uvicorn: pip install "remote-gym-pool\[dashboard\]"'):
        Dashboard("127.0.0.1", 0, False)


@needs_the_extra
def test_off_the_machine_it_warns(caplog: pytest.LogCaptureFixture) -> None:
    made = Dashboard("0.0.0.0", 0, False)
    assert "travels in plaintext" in caplog.text
    assert made.link.startswith(f"http://{socket.gethostname()}:")
    made.close()
    made.close()


def test_what_the_page_may_be_called() -> None:
    assert hosts("127.0.0.1") == ["localhost", "127.0.0.1", "::1"]
    assert hosts("127.0.0.2")[-1] == "127.0.0.2"
    assert hosts("Box.example")[-1] == "box.example"
    assert hosts("0.0.0.0")[-1] == socket.gethostname().lower()


def test_the_module_needs_no_library() -> None:
    code = "import sys; sys.modules['uvicorn'] = sys.modules['starlette'] = None; import remote_gym.server.dashboard"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
