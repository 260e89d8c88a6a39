"""What environments print: to the server's log, with the env_id, and nowhere else."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ServeProcess
from helpers import HOSTILE, wait_until
from hostile import ACTIONS

from remote_gym import EnvironmentLost, RemoteEnvironment, RemoteVectorEnv
from remote_gym.worker.output import MAX_LINE_CHARS, LabelledOutput

WAYS = ("by print", "by stderr", "by descriptor 1", "by a subprocess")


def test_output_goes_to_the_log_with_its_env_id_and_never_to_stdout(serve_process: Callable[..., ServeProcess]) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "2")
    with RemoteVectorEnv(served.address, num_envs=2) as envs:
        _, info = envs.reset()
        envs.step([ACTIONS["talk"]] * 2)
        expected = [f"env {env_id}: {way}" for env_id in info["env_id"] for way in WAYS]
        wait_until(lambda: all(line in served.log for line in expected), 5.0, "the lines in the log")
    served.process.terminate()
    assert served.process.wait(10.0) == 0
    assert served.process.stdout is not None
    assert served.process.stdout.read() == ""


def test_python_output_is_labelled_exactly_within_one_worker(serve_process: Callable[..., ServeProcess]) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "1")
    with RemoteVectorEnv(served.address, num_envs=3) as envs:
        envs.reset()
        envs.step([ACTIONS["talk"]] * 3)
        wait_until(lambda: served.log.count("by stderr") == 3, 5.0, "the lines in the log")
    assert re.findall(r"env (\d): by print", served.log) == ["0", "1", "2"]
    assert re.findall(r"env (\d): by stderr", served.log) == ["0", "1", "2"]


def test_a_megabyte_is_cut_into_lines_and_delays_nothing(serve_process: Callable[..., ServeProcess]) -> None:
    served = serve_process(str(HOSTILE), "--num-workers", "1")
    with RemoteEnvironment(served.address) as env:
        env.reset()
        assert env.step(ACTIONS["babble"])[1] == 1.0
        wait_until(lambda: sum(map(len, re.findall("x{100,}", served.log))) == 1_000_000, 10.0, "the megabyte")
        assert max(map(len, served.log.splitlines())) < 2 * MAX_LINE_CHARS
        with pytest.raises(EnvironmentLost) as caught:
            env.step(ACTIONS["exit_3"])
        assert caught.value.stderr_tail.endswith("about to leave")
        assert len(caught.value.stderr_tail) < 500_000


def test_lines_travel_whole_and_an_unfinished_one_when_the_turn_passes_on() -> None:
    read, write = os.pipe()
    turn: list[tuple[int, int] | None] = [(1, 4)]
    output = LabelledOutput(write, lambda: turn[0])
    print("half", end="", file=output)
    print(" a line\nand", end="", file=output)
    turn[0] = (2, 5)
    print("next", file=output)
    turn[0] = None
    print("nobody's", end="", file=output)
    output.close()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == (
            b"\x1eenv 4 of 1\x1fhalf a line\n\x1eenv 4 of 1\x1fand\n\x1eenv 5 of 2\x1fnext\nnobody's\n"
        )


TALKER = """
import codecs, ctypes, faulthandler, io, logging, os, subprocess, sys, warnings
import gymnasium as gym

def wrap(name):
    setattr(sys, name, io.TextIOWrapper(getattr(sys, name).buffer, encoding="utf-8"))

def set_nonblocking():
    os.set_blocking(1, False)
    print("x" * 1_000_000)

WAYS = {
    "wrap": lambda: wrap("stdout"),
    "wrap both": lambda: (wrap("stdout"), wrap("stderr")),
    "wrap again and again": lambda: [wrap("stdout") for _ in range(5)],
    "wrap detached": lambda: setattr(sys, "stdout", io.TextIOWrapper(sys.stdout.detach(), encoding="utf-8")),
    "codecs": lambda: setattr(sys, "stdout", codecs.getwriter("utf-8")(sys.stdout.buffer)),
    "reconfigure": lambda: sys.stdout.reconfigure(line_buffering=True, encoding="utf-8", errors="strict"),
    "held back": lambda: sys.stdout.reconfigure(write_through=False, line_buffering=False),
    "bytes": lambda: (sys.stdout.buffer.write(b"by bytes\\n"), sys.stdout.buffer.flush()),
    "raw": lambda: (sys.stdout.buffer.raw.write(b"by raw bytes\\n"), sys.stderr.buffer.write(bytearray(b"x"))),
    "attributes": lambda: print(
        sys.stdout.name, sys.stdout.mode, sys.stdout.errors, sys.stdout.encoding, sys.stdout.newlines,
        sys.stdout.line_buffering, sys.stdout.closed, sys.stdout.writable(), sys.stdout.readable(),
        sys.stdout.isatty(), sys.stdout.fileno(), sys.stdout.buffer.name, sys.stdout.buffer.mode, sys.stderr.buffer,
    ),
    "closed": lambda: (sys.stdout.close(), sys.stderr.close()),
    "closed below": lambda: sys.stdout.buffer.close(),
    "descriptors closed": lambda: (os.close(1), os.close(2)),
    "another's": lambda: setattr(sys, "stdout", open(os.devnull, "w")),
    "original": lambda: print("to the original", file=sys.__stdout__),
    "surrogates": lambda: print("\\udcff"),
    "without end": lambda: [print("x" * 100_000, end="", flush=True) for _ in range(10)],
    "not blocking": set_nonblocking,
    "by a subprocess": lambda: subprocess.run("echo a; echo b >&2", shell=True, stdout=sys.stdout),
    "by C": lambda: (ctypes.CDLL(None).printf(b"by C\\n"), ctypes.CDLL(None).fflush(None)),
    "by descriptor": lambda: os.write(1, b"by descriptor\\n"),
    "by logging": lambda: (logging.basicConfig(), logging.warning("logged"), warnings.warn("warned")),
    "faulthandler": lambda: faulthandler.dump_traceback(sys.stderr),
}

class Talker(gym.Wrapper):
    def step(self, action):
        print("stepped", flush=True)
        print("and said so", file=sys.stderr)
        if action == 1:
            sys.__stdout__.close(), sys.__stderr__.close()
        return self.env.step(action)

def create_environment(way):
    if way in WAYS:  # the second environment finds what the first one has left
        WAYS.pop(way)()
    print("made by", way, flush=True)
    return Talker(gym.make("CartPole-v1"))
"""
WAYS_TO_TALK = re.findall(r'^    "(.+?)": ', TALKER, re.MULTILINE)


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("talker") / "talker.py"
    path.write_text(TALKER)
    return str(path)


@pytest.mark.parametrize("way", WAYS_TO_TALK)
def test_whatever_is_done_to_the_streams_raises_nothing_and_is_heard(
    serve: Callable[..., Any], talker: str, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level("INFO", "remote_gym.worker")
    server = serve(talker, {"way": way}, num_workers=1)
    for _ in range(2):
        with RemoteEnvironment(server.address) as env:
            env.reset(seed=1)
            for action in (0, 1, 0):
                env.step(action)
    expected = 0 if way == "another's" else 6

    def heard() -> bool:
        return sum(bool(re.search(r", env \d+: stepped$", line)) for line in list(caplog.messages)) == expected

    wait_until(heard, 10.0, "what was printed")
    wait_until(lambda: sum("and said so" in line for line in list(caplog.messages)) == 6, 10.0, "stderr")


@pytest.mark.parametrize("left", ["None", "closed"])
def test_what_an_environment_leaves_that_takes_nothing_is_not_left_to_others(
    serve: Callable[..., Any], talker: str, caplog: pytest.LogCaptureFixture, left: str
) -> None:
    caplog.set_level("INFO", "remote_gym.worker")
    bad = "None" if left == "None" else "(lambda stream: (stream.close(), stream)[1])(open(os.devnull, 'w'))"
    closing = f"    def close(self):\n        sys.stdout = sys.stderr = {bad}\n\n    def step("
    path = Path(talker).with_name(f"leaves_{left}.py")
    path.write_text(Path(talker).read_text().replace("    def step(", closing))
    server = serve(str(path), {"way": "nothing"}, num_workers=1)
    for _ in range(2):
        with RemoteEnvironment(server.address) as env:
            env.reset(seed=1)
            env.step(0)
    wait_until(lambda: sum("stepped" in line for line in list(caplog.messages)) == 2, 10.0, "what was printed")


def test_what_a_wrapper_holds_back_is_told_to_its_own_session_alone(serve: Callable[..., Any], talker: str) -> None:
    source = Path(talker).read_text().replace("flush=True", "flush=False")
    source = source.replace("return self.env.step(action)", "action == 2 and os._exit(3); return self.env.step(0)")
    path = Path(talker).with_name("whisperer.py")
    path.write_text(source.replace('print("stepped"', 'print("secret" if action == 0 else "mine"'))
    server = serve(str(path), {"way": "wrap"}, num_workers=1)
    with RemoteEnvironment(server.address) as one, RemoteEnvironment(server.address) as other:
        one.reset(seed=1)
        other.reset(seed=1)
        one.step(0)
        other.step(1)
        with pytest.raises(EnvironmentLost) as caught:
            other.step(2)
    assert "mine" in caught.value.stderr_tail
    assert "secret" not in caught.value.stderr_tail


@pytest.mark.parametrize("end", ["closed", "never read"])
def test_no_state_of_the_pipe_raises(end: str) -> None:
    read, write = os.pipe()
    output = LabelledOutput(write, lambda: None)
    if end == "closed":
        os.close(read)
        print("x" * 1_000_000, file=output, flush=True)
        os.close(write)
        print("x" * 1_000_000, file=output, flush=True)
        return
    os.set_blocking(write, False)
    thread = threading.Thread(target=lambda: print("x" * 1_000_000, file=output, flush=True))
    thread.start()
    taken = 0
    while taken < 1_000_000:
        taken += os.read(read, 65_536).count(b"x")
    thread.join(10.0)
    assert taken == 1_000_000
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("text", ["x" * 30_000, "é" * 15_000, "€" * 10_000, "x𝄞" * 6_000])
def test_a_long_line_is_cut_between_characters(text: str) -> None:
    read, write = os.pipe()
    output = LabelledOutput(write, lambda: None)
    for start in range(0, len(text), 5_000):
        output.write(text[start : start + 5_000])
    output.close()
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        got = pipe.read()
    lines = got.decode().split("\n")
    assert "".join(lines) == text
    assert max(len(line.encode()) for line in lines) <= MAX_LINE_CHARS


def test_output_looks_like_a_file_to_libraries() -> None:
    output = LabelledOutput(1, lambda: None)
    assert output.fileno() == 1
    assert not output.isatty()
    assert output.writable()
    assert output.encoding == "utf-8"
    output.flush()
