"""The README: its python and console snippets run, in order, against the servers that it starts itself.

Its two commands with tox are what CI runs first; the chores are tox environments that must exist.
"""

from __future__ import annotations

import configparser
import contextlib
import re
import shlex
from pathlib import Path

import pytest
from repository.test_docs import BLOCK, ROOT, Page, free_port

README = (ROOT / "README.md").read_text()


def with_port(snippet: str, port: int) -> str:
    """Return `snippet` with this machine's names and a free port in place of the default one."""
    for host, ours in (("127.0.0.1", "127.0.0.1"), ("farm.example", "localhost")):
        snippet = snippet.replace(f'"{host}"', f'"{ours}:{port}"')
    return snippet


def test_snippets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = 0
    with contextlib.ExitStack() as stack:
        page, port = Page(tmp_path, stack), 0
        for language, block in BLOCK.findall(README):
            if language == "python":
                page.python(with_port(block, port))
                ran += 1
            for line in block.replace("\\\n", "").splitlines() if language == "console" else ():
                if line.startswith("remote-gym serve"):
                    port = free_port()
                    line = line.replace("0.0.0.0", "127.0.0.1") + f" --port {port}"
                if line.startswith("remote-gym"):
                    page.console(line)
                    ran += 1
    assert ran == 9


def test_its_commands_and_chores_exist() -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    named = set(re.findall(r"tox run -e ([\w-]+)", README))
    assert named <= {section.removeprefix("testenv:") for section in tox.sections()} | {"py"}
    described = [section for section in tox.sections() if section.startswith("testenv:")]
    descriptions = [tox[section]["description"] for section in described]
    # tox takes a first word with a colon for the name of an environment, and the rest as said of that one only.
    assert not [text for text in descriptions if re.match(r"[\w{}.!,-]+:", text)]
    assert len({*descriptions, tox["testenv"]["description"]}) == len(descriptions) + 1
    assert "pip install tox && tox run -e demo" in README
    assert "pip install tox && tox run " in README


def test_shell_lines_parse() -> None:
    for language, block in BLOCK.findall(README):
        if language == "console":
            assert all(shlex.split(line) for line in block.replace("\\\n", "").splitlines())
