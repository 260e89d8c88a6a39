"""Every snippet of the pages in `docs` runs, page by page, in order, against real servers.

A `python` block is executed in the page's own namespace; one that begins with a comment ``# name.py`` is also written
to that file, and so is a `toml` block. A `console` block is run line by line; ``remote-gym serve`` stays until the end
of the page. `text` blocks are for people.
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

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
BLOCK = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROSE = {"text", "{toctree}", "{include}", "{literalinclude}", "{eval-rst}"}
RUN = {"python", "console", "toml"}


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).with_suffix("").as_posix()


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

    def toml(self, source: str) -> None:
        name = re.match(r"# ([\w-]+\.toml)\n", source)
        assert name, "which file is it?"
        (self._folder / name[1]).write_text(source)

    def console(self, source: str) -> None:
        for line in source.replace("\\\n", "").splitlines():
            line = re.sub(r"(?<=--seconds )\d+", "2", line)  # of a measurement: it works as well, and tells less
            program, *arguments = shlex.split(line)
            assert program == "remote-gym", f"no idea how to run {line!r}"
            command = [sys.executable, "-m", "remote_gym", *arguments]
            if arguments[0] == "serve" and "--show-settings" not in arguments:
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


def follow(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run all snippets of a page, in `folder`."""
    monkeypatch.chdir(folder)
    ports = {"56765": free_port(), "9464": free_port()}  # of the environments, of the metrics
    with contextlib.ExitStack() as stack:
        followed = Page(folder, stack)
        for language, source in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language in RUN:
                getattr(followed, language)(here(source, ports))


def is_run_elsewhere(page: Path) -> bool:
    """Whether a page needs a library of its own: that of a trainer runs in tests/trainers, the other in tests/farm."""
    return page.parent.name == "trainers" or name_of(page) == "how-to/ray"


@pytest.mark.parametrize("page", [page for page in PAGES if not is_run_elsewhere(page)], ids=name_of)
def test_snippets(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follow(page, tmp_path, monkeypatch)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = BLOCK.findall(text)
    assert {language for language, _ in blocks} <= RUN | PROSE
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(blocks)


def test_pages_name_tests_that_exist() -> None:
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    named = {name for page in pages for name in re.findall(r"`(tests/[^`]+\.py[^`]*)`", page)}
    assert len(named) > 10
    for name in named:
        path, _, function = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not function or f"def {function}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_reference_names_every_public_name() -> None:
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    for name in set(remote_gym.__all__) - {"__version__"}:
        assert re.search(rf"remote_gym\.(errors\.)?{name}\b", text), name


def test_every_page_is_in_the_index_of_its_folder() -> None:
    for page in PAGES:
        above = page.parent.parent if page.stem == "index" else page.parent
        if page != DOCS / "index.md":
            listed = (above / "index.md").read_text(encoding="utf-8").splitlines()
            assert page.relative_to(above).with_suffix("").as_posix() in listed, page


LINK = re.compile(r"""\]\(([^)\s]+)\)|\b(?:src|srcset|href)="([^"]+)\"""")


def anchors(page: Path) -> set[str]:
    """Return what links may name in `page`: its headings, as a repository's web pages and Sphinx name them."""
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, *sorted(ROOT.glob("*.md"))], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Pages, pictures and headings; also where Sphinx does not build them: on a repository's web pages."""
    prose = BLOCK.sub("", page.read_text(encoding="utf-8"))
    for target in (markdown or html for markdown, html in LINK.findall(prose)):
        if not target.startswith("https://"):
            path, _, anchor = target.partition("#")
            other = page.parent / path if path else page
            assert other.exists(), target
            assert not anchor or anchor in anchors(other), target


def test_a_picture_has_two_themes() -> None:
    """What is light has a dark one beside it, which differs in nothing but its colours."""
    pictures = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "images").glob("*.svg")}
    drawn = {name: re.sub(r"#[0-9a-f]{6}\b", "COLOUR", text) for name, text in pictures.items()}
    assert "overview-light.svg" in drawn
    for name, drawing in drawn.items():
        light, dark = (re.sub(r"-(light|dark)\.svg$", f"-{theme}.svg", name) for theme in ("light", "dark"))
        assert drawn[light] == drawn[dark] == drawing
        assert pictures[light] != pictures[dark]


CLIENT_WITHOUT_POSIX = """
import os, select, sys

for module in ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"):
    sys.modules[module] = None
for module, names in ((os, "eventfd fork killpg register_at_fork"), (select, "epoll poll")):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)

import gymnasium
import numpy as np
from gymnasium.vector import SyncVectorEnv
from remote_gym import RemoteVectorEnv

for transport in ("direct", "grpc"):
    remote = RemoteVectorEnv(sys.argv[1], num_envs=2, transport=transport)
    local = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    np.testing.assert_array_equal(remote.reset(seed=3)[0], local.reset(seed=3)[0])
    for _ in range(50):
        actions = local.action_space.sample()
        for theirs, ours in zip(remote.step(actions)[:4], local.step(actions)[:4]):
            np.testing.assert_array_equal(theirs, ours)
    remote.close()
    local.close()
"""


def test_a_client_needs_nothing_that_only_posix_has() -> None:
    """What the page on platforms says of clients, as far as Linux can tell."""
    with remote_gym.create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=1) as server:
        command = [sys.executable, "-c", CLIENT_WITHOUT_POSIX, server.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


SOURCES = [path for path in (ROOT / "remote_gym").rglob("*.py") if not path.stem.endswith("_pb2")]


def test_pages_that_are_named_exist() -> None:
    """In comments and docstrings, of tests and benchmarks too: nothing cites a page that is not here."""
    folders = ("remote_gym", "protos", "tests", "benchmarks", "exploration", "chores")
    kinds = {".py", ".md", ".proto"}
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in kinds]
    assert len(sources) > 200
    for path in [*sources, *ROOT.glob("*.md"), ROOT / "tox.ini"]:
        text = path.read_text(encoding="utf-8")
        for named in re.findall(r"\bdocs/[\w/-]+\.md\b", text):
            assert (ROOT / named).exists(), f"{path} names {named}"
        assert not re.search(r"\b[A-Z]{5,}(?:\.md)? §", text), f"{path} cites a section of a page that is not here"


def test_reference_names_every_logger() -> None:
    text = (DOCS / "reference" / "logs-and-variables.md").read_text(encoding="utf-8")
    told = set(re.findall(r"^\| `(remote_gym\.\w+)` \|", text, re.MULTILINE))
    sources = [path.read_text(encoding="utf-8") for path in SOURCES]
    assert told == {name for source in sources for name in re.findall(r'getLogger\("([\w.]+)"\)', source)}
    assert not [source for source in sources if re.search(r'getLogger\((?!")', source)]  # no name that a grep misses


def test_reference_names_every_environment_variable() -> None:
    text = (DOCS / "reference" / "logs-and-variables.md").read_text(encoding="utf-8")
    for path in SOURCES:
        for name in re.findall(r"\bREMOTE_GYM_[A-Z_]+[A-Z]\b", path.read_text(encoding="utf-8")):
            assert f"`{name}`" in text, f"{path} reads {name}"
