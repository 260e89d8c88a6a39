"""A server whose output nobody reads: it goes on, and says what it has dropped."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import wait_until

from remote_gym import RemoteEnvironment
from remote_gym.cli.unread import ENVIRONMENTS_LOGGER, MAX_QUEUED_BYTES, LineFormatter, UnreadHandler, Writer

CHATTY = """
import sys
import gymnasium as gym

class Chatty(gym.Wrapper):
    def step(self, action):
        print("x" * 3_000)
        print("y" * 3_000, file=sys.stderr)
        return self.env.step(action)

def create_environment():
    return Chatty(gym.make("CartPole-v1"))
"""


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def fill(writer: Writer, share: float = 1.0) -> int:
    """Put lines until they have been dropped for certain; return how many."""
    count = 0
    while count * 1_001 < 3 * MAX_QUEUED_BYTES:  # one queue's worth may be in the hands of the thread
        writer.put(f"{count:>1000}\n", share)
        count += 1
    return count


def read_all(descriptor: int, writer: Writer) -> bytes:
    got = bytearray()

    def read() -> None:
        while not got.endswith(b"END\n"):
            got.extend(os.read(descriptor, 2**20))

    reader = threading.Thread(target=read)
    reader.start()
    writer.flush(20.0)
    writer.put("END\n")
    reader.join(20.0)
    return bytes(got).removesuffix(b"END\n")


def test_what_is_read_arrives_in_order(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1])
    for number in range(100):
        writer.put(f"{number}\n")
    assert read_all(pipe[0], writer) == "".join(f"{number}\n" for number in range(100)).encode()


@pytest.mark.parametrize("blocking", [True, False])
def test_what_is_not_read_is_dropped_and_counted(pipe: tuple[int, int], blocking: bool) -> None:
    os.set_blocking(pipe[1], blocking)
    writer = Writer(pipe[1])
    count = fill(writer)
    writer.flush(0.01)  # which does not wait for ever
    text = read_all(pipe[0], writer).decode()
    lines = text.splitlines()
    dropped = [int(found[1]) for line in lines if (found := re.match(r"(\d+) lines of the log were dropped", line))]
    numbers = [int(line) for line in lines if line.strip().isdigit()]
    assert dropped and sum(dropped) + len(numbers) == count
    assert numbers == sorted(numbers)
    assert len(text) < 3 * MAX_QUEUED_BYTES


def test_the_servers_own_words_have_room_beside_those_of_environments(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1])
    handler = UnreadHandler(writer)
    log = logging.Logger("remote_gym.server")
    log.addHandler(handler)
    environments = logging.Logger(ENVIRONMENTS_LOGGER)
    environments.addHandler(handler)
    for number in range(3 * MAX_QUEUED_BYTES // 1_000):
        environments.info("%s", f"{number:>1000}")
    log.error("worker %d was lost", 3)
    log.error("worker %d was lost", "three")  # which does not fit, and raises nothing
    text = read_all(pipe[0], writer).decode()
    assert "worker 3 was lost" in text
    assert "could not be formatted" in text
    assert "lines of the log were dropped" in text


@pytest.mark.parametrize("end", ["read", "write", "both"])
def test_a_closed_pipe_is_no_error(end: str) -> None:
    read, write = os.pipe()
    writer = Writer(write)
    if end in ("read", "both"):
        os.close(read)
    if end in ("write", "both"):
        os.close(write)
    writer.put("one\n")
    writer.flush(10.0)
    writer.put("two\n")
    writer.flush(10.0)
    for descriptor, name in ((read, "read"), (write, "write")):
        if end not in (name, "both"):
            os.close(descriptor)


# Whole servers


@contextlib.contextmanager
def served(
    tmp_path: Path, prefix: str = "", suffix: str = "", **options: int
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run ``remote-gym serve`` by a shell; gives the shell's process, which becomes the server, and the address."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    path = tmp_path / "server.sock"
    serve = f"{sys.executable} -m remote_gym serve {tmp_path}/chatty.py --num-workers 1 --url unix:{path}"
    process = subprocess.Popen(["sh", "-c", f"exec {prefix} {serve} {suffix}"], **options)
    try:
        yield process, f"unix:{path}"
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def play(address: str) -> None:
    with RemoteEnvironment(address, connect_timeout_seconds=60.0) as env:
        env.reset(seed=1)
        for step in range(300):
            if env.step(step % 2)[2]:
                env.reset()


def wait_for_socket(process: subprocess.Popen[bytes], address: str) -> None:
    def is_there() -> bool:
        assert process.poll() is None
        return Path(address.removeprefix("unix:")).exists()

    wait_until(is_there, 30.0, "the socket")


PIPE = subprocess.PIPE


@pytest.mark.parametrize(
    ("how", "suffix", "options"),
    [
        ("never read", "", {"stdout": PIPE, "stderr": subprocess.STDOUT}),
        ("apart, never read", "", {"stdout": PIPE, "stderr": PIPE}),
        ("reader closed", "", {"stdout": PIPE, "stderr": PIPE}),
        ("closed from the start", ">&- 2>&-", {}),
        ("all closed", "<&- >&- 2>&-", {}),
        ("disk full", ">/dev/full 2>&1", {}),
        ("hangup", "", {"stdout": PIPE, "stderr": PIPE}),
    ],
)
def test_a_server_goes_on_and_ends_in_order(tmp_path: Path, how: str, suffix: str, options: dict[str, int]) -> None:
    with served(tmp_path, "nohup" if how == "hangup" else "", suffix, **options) as (process, address):
        if how == "reader closed":
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            process.stderr.close()
        wait_for_socket(process, address)
        if how == "hangup":
            process.send_signal(signal.SIGHUP)
        play(address)
        assert process.poll() is None
        process.terminate()
        assert process.wait(15.0) == 0


@pytest.mark.parametrize(
    ("message", "lines"),
    [
        ("plain", "INFO: plain"),
        ("", "INFO: "),
        ("one\nINFO: two\n\nthree", "INFO: one\n    INFO: two\n    \n    three"),
        ("red \x1b[31m\r\tINFO: x", "INFO: red \\x1b[31m\\r\tINFO: x"),
        ("x" * 10_000, "INFO: " + "x" * 10_000),
    ],
)
def test_a_record_cannot_pass_for_two(message: str, lines: str) -> None:
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "%s", (message,), None)
    assert LineFormatter("%(levelname)s: %(message)s").format(record) == lines
