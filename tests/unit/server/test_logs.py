"""The log of a server in a user's script: its handlers get it all, and one that is stuck holds nobody up for long."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import wait_until

from remote_gym import RemoteEnvironment
from remote_gym.server import logs

LONG = "x" * 10_000


class Handler(logging.Handler):
    """Keeps what it gets; may be held."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[str] = []
        self.threads: set[str] = set()
        self.free = threading.Event()
        self.free.set()

    def emit(self, record: logging.LogRecord) -> None:
        assert self.free.wait(30.0)
        self.got.append(record.getMessage())
        self.threads.add(threading.current_thread().name)


@pytest.fixture
def handler(monkeypatch: pytest.MonkeyPatch) -> Iterator[Handler]:
    for one in logs.LOGGERS.values():  # as if no other test had a server
        monkeypatch.setattr(one, "filters", [])
    monkeypatch.setattr(logs, "_servers", 0)
    monkeypatch.setattr(logs, "_aside", None)
    logger = logging.getLogger("remote_gym.server")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logs.begin()
    yield handler
    handler.free.set()
    logs.end()
    logger.removeHandler(handler)
    logger.setLevel(level)


SERVER = logging.getLogger("remote_gym.server")


def test_whoever_logs_waits_for_quick_handlers(handler: Handler) -> None:
    for number in range(100):
        SERVER.info("line %d", number)
        assert handler.got[-1] == f"line {number}"
    assert handler.threads == {"remote_gym log"}
    SERVER.debug("not at this level")
    assert len(handler.got) == 100


def test_a_handler_that_is_stuck_holds_nobody_up(handler: Handler) -> None:
    handler.free.clear()
    began = time.monotonic()
    count = 3 * logs.MAX_KEPT_BYTES // len(LONG)
    for _ in range(count):
        SERVER.info("%s", LONG)
    assert time.monotonic() - began < 10.0, "and not a tenth of a second for each"
    handler.free.set()
    SERVER.info("after")
    dropped_line = r"\d+ lines of the log were dropped"
    wait_until(lambda: handler.got and re.match(dropped_line, handler.got[-1]), 20.0, "the last line")
    dropped = int(handler.got[-1].split()[0])
    assert dropped + handler.got.count(LONG) + handler.got.count("after") == count + 1
    SERVER.info("as ever")
    assert handler.got[-1] == "as ever"


def test_environments_leave_room_for_the_server(handler: Handler) -> None:
    environments = logging.getLogger("remote_gym.worker")
    level = environments.level
    environments.addHandler(handler)
    environments.setLevel(logging.INFO)
    try:
        handler.free.clear()
        for _ in range(2 * logs.MAX_KEPT_BYTES // len(LONG)):
            environments.info("%s", LONG)
        SERVER.error("worker %d was lost", 3)
        handler.free.set()
        wait_until(lambda: "worker 3 was lost" in handler.got, 20.0, "the server's own line")
    finally:
        environments.removeHandler(handler)
        environments.setLevel(level)


def test_a_handler_that_raises_or_logs_itself_is_no_end(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    emit = handler.emit

    def odd(record: logging.LogRecord) -> None:
        if record.msg == "raise":
            raise RuntimeError("a handler's own")
        emit(record)
        if record.msg == "first":
            SERVER.info("second")

    monkeypatch.setattr(handler, "emit", odd)
    for text in ("raise", "first", "last"):
        SERVER.info(text)
    assert handler.got == ["first", "second", "last"]


def test_with_the_last_server_all_is_as_before(handler: Handler) -> None:
    logs.begin()
    logs.end()
    SERVER.info("one is left")
    assert handler.threads == {"remote_gym log"}
    logs.end()
    assert not any(one.filters for one in logs.LOGGERS.values())
    SERVER.info("none")
    assert threading.current_thread().name in handler.threads
    logs.begin()


def test_a_child_of_a_fork_handles_its_own(handler: Handler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs.os, "getpid", lambda: -1)
    SERVER.info("in the child")
    assert handler.threads == {threading.current_thread().name}


SCRIPT = """
import logging, sys
import gymnasium as gym
from remote_gym import create_remote_environment_server

class Chatty(gym.Wrapper):
    def step(self, action):
        print("x" * 3_000)
        return self.env.step(action)

def create_environment():
    return Chatty(gym.make("CartPole-v1"))

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    args = {"entrypoint": __file__}
    with create_remote_environment_server(args, url="unix:" + sys.argv[1], num_workers=1) as server:
        print("ready", flush=True)
        sys.stdin.read()
"""


def test_a_script_whose_output_nobody_reads_serves_on(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen([sys.executable, str(path), str(tmp_path / "socket")], **pipes) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            with RemoteEnvironment(f"unix:{tmp_path}/socket", reconnect_timeout_seconds=20.0) as env:
                env.reset(seed=1)
                for step in range(200):  # 600 kB: far above what a pipe takes
                    if env.step(step % 2)[2]:
                        env.reset()
            _, log = process.communicate(timeout=30.0)
            assert process.returncode == 0
            assert log.count(b"x" * 3_000) == 200, "whoever reads at last gets it all"
        finally:
            process.kill()
