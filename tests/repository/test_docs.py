"""Every snippet of the pages in `docs` runs, page by page, in order, against real servers.

A `python` block is executed in the page's own namespace; one that begins with a comment ``# name.py`` is also written
to that file. A `console` block is run line by line; ``remote-gym serve`` stays until the end of the page. `text` blocks
are for people.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import remote_gym
from remote_gym.errors import RemoteGymError

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = {"text", "{toctree}", "{include}", "{eval-rst}"}
RUN = {"python", "console"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def here(snippet: str, ports: dict[str, int]) -> str:
    """Return `snippet` with addresses that work on this machine, and only on it."""
    free = [(theirs, str(ours)) for theirs, ours in ports.items()]
    for theirs, ours in (*free, ("farm.example", "localhost"), ("0.0.0.0", "127.0.0.1")):
        snippet = snippet.replace(theirs, ours)
    return snippet


class Page:
    """A page that is being followed, in a folder of its own."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._namespace: dict[str, Any] = {"__name__": "__main__"}

    def python(self, source: str) -> None:
        if name := re.match(r"# (\w+\.py)\n", source):
            (self._folder / name[1]).write_text(source)
        exec(compile(source, "<docs>", "exec"), self._namespace)

    def console(self, source: str) -> None:
        for line in source.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "remote-gym", f"no idea how to run {line!r}"
            command = [sys.executable, "-m", "remote_gym", *arguments]
            if arguments[0] == "serve":
                self._serve(command)
            else:
                done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, timeout=100)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"

    def _serve(self, command: list[str]) -> None:
        process = subprocess.Popen(
            command, cwd=self._folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        assert process.stdout is not None
        self._stack.callback(process.stdout.close)
        assert process.stdout.readline().startswith("remote-gym ready on "), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_snippets(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ports = {"56765": free_port(), "9464": free_port()}  # of the environments, of the metrics
    with contextlib.ExitStack() as stack:
        follow = Page(tmp_path, stack)
        for language, source in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in RUN:
                getattr(follow, language)(here(source, ports))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert {language for language, _ in blocks} <= RUN | PROSE
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks)


def test_promises_name_tests_that_exist() -> None:
    named = re.findall(r"`(tests/[^`]+)`", (ROOT / "docs" / "promises.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    for name in named:
        path, _, function = name.partition("::")
        source = (ROOT / path).read_text(encoding="utf-8")
        assert not function or f"def {function}(" in source, name


def test_reference_names_every_public_name() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for name in set(remote_gym.__all__) - {"__version__"}:
        value = getattr(remote_gym, name)
        is_error = isinstance(value, type) and issubclass(value, RemoteGymError)  # the module is taken as a whole
        assert is_error or re.search(rf"remote_gym\.{name}\b", text), name
