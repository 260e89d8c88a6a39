"""Completion in real shells: what is typed into a terminal, Tab included, and the command line that comes of it."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pty
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROMPT = "READY>"
SECONDS = 20.0

pytestmark = pytest.mark.skipif(importlib.util.find_spec("shtab") is None, reason="shtab is not installed")

START = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}
LOAD = {
    "bash": "source {file}",
    "zsh": "fpath=({file.parent} $fpath); autoload -Uz compinit; compinit -D -u",
}


class Terminal:
    """A shell that somebody types into."""

    def __init__(self, shell: str, folder: Path) -> None:
        environment = {**os.environ, "PS1": PROMPT, "TERM": "dumb", "HOME": str(folder), "HISTFILE": ""}
        self._ours, theirs = pty.openpty()
        self._process = subprocess.Popen(
            START[shell], stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self._unread = ""
        self.read_until(PROMPT)

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def read_until(self, text: str) -> str:
        """Return what is shown up to `text`; what comes after it is for the next call."""
        deadline = time.monotonic() + SECONDS
        while text not in self._unread:
            readable, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"no {text!r} in {self._unread!r}"
            self._unread += os.read(self._ours, 4096).decode(errors="replace")
        seen, _, self._unread = self._unread.partition(text)
        return seen + text

    def run(self, line: str) -> None:
        self.type(f"{line}; echo 'DO''NE'\n")
        self.read_until("DONE")
        self.read_until(PROMPT)

    def close(self) -> None:
        os.close(self._ours)
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module", params=["bash", "zsh"])
def terminal(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "my_environment.py").touch()
    (folder / "certificates").mkdir()
    (folder / "certificates" / "ca.pem").touch()
    command = [sys.executable, "-m", "remote_gym", "completion", request.param]
    script = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    (folder / "functions").mkdir()
    file = folder / "functions" / "_remote-gym"
    file.write_text(script)
    with contextlib.closing(Terminal(request.param, folder)) as opened:
        opened.run(LOAD[request.param].format(file=file))
        opened.run("remote-gym() { echo \"GOT[$*]\"; }")  # fmt: skip
        yield opened


@pytest.mark.parametrize(
    ("typed", "got"),
    [
        ("remote-gym ser\tCartPole-v1", "serve CartPole-v1"),
        ("remote-gym check-\tlocalhost", "check-connection localhost"),
        ("remote-gym ses\tlocalhost", "sessions localhost"),
        ("remote-gym serve CartPole-v1 --num-w\t3", "serve CartPole-v1 --num-workers 3"),
        ("remote-gym serve --no-pr\tCartPole-v1", "serve --no-probe CartPole-v1"),
        ("remote-gym serve my_e\t--port 0", "serve my_environment.py --port 0"),
        ("remote-gym serve x --root-c\tcertificates/ca\t", "serve x --root-certificate certificates/ca.pem"),
        ("remote-gym serve x --vectorization-mode v\t", "serve x --vectorization-mode vector_entry_point"),
        ("remote-gym bench x --kw\t'{}'", "bench x --kwargs {}"),
        ("remote-gym completion z\t", "completion zsh"),
    ],
)  # fmt: skip
def test_tab(terminal: Terminal, typed: str, got: str) -> None:
    for keys in typed.replace("\t", "\t\0").split("\0"):
        terminal.type(keys)
    terminal.type("\n")
    seen = terminal.read_until("GOT[") + terminal.read_until("]")
    terminal.read_until(PROMPT)
    assert seen.endswith(f"GOT[{got}]")
