"""What environments print: to the server's log, with the env_id, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

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


def test_output_looks_like_a_file_to_libraries() -> None:
    output = LabelledOutput(1, lambda: None)
    assert output.fileno() == 1
    assert not output.isatty()
    assert output.writable()
    assert output.encoding == "utf-8"
    output.flush()
