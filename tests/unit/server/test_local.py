"""The server of one trainer, as a process: its one line, and its end with standard input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CODE = "import sys; from remote_gym.server.local import main; main(sys.argv[1])"


def started(**asked: Any) -> subprocess.Popen[str]:
    asked = {"args": {"entrypoint": "CartPole-v1"}, "num_workers": 1, **asked}
    command = [sys.executable, "-c", CODE, json.dumps(asked)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_it_says_when_it_listens_and_ends_with_its_input(tmp_path: Path) -> None:
    socket = tmp_path / "s"
    with started(url=f"unix:{socket}") as process:
        assert process.stdin is not None and process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert socket.is_socket()
        process.stdin.close()
        assert process.wait(10.0) == 0
        assert process.stdout.read() == ""
    assert not socket.exists()


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"num_workers": 0}, "num_workers must be a positive integer, got 0"),
        ({"args": {"entrypoint": ""}}, "default_args['entrypoint'] must name what to host"),
        ({"url": "unix:/no/such/folder/s"}, "No such file or directory"),
    ],
)
def test_it_says_in_one_line_why_it_cannot(tmp_path: Path, asked: dict[str, Any], why: str) -> None:
    with started(**{"url": f"unix:{tmp_path / 's'}", **asked}) as process:
        out, _ = process.communicate(timeout=20.0)
    assert out.startswith("failed ") and why in out
    assert out.count("\n") == 1
