"""What a newcomer meets first says what is true: commands, files, environments; and CI runs what anyone can run."""

from __future__ import annotations

import configparser
import re

import pytest
from repository.test_docs import ROOT

DOORS = ["CONTRIBUTING.md", "SECURITY.md", ".github/pull_request_template.md", ".github/ISSUE_TEMPLATE/bug.yml"]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", DOORS)
def test_tox_environments_exist(name: str) -> None:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    for environment in re.findall(r"tox (?:run|devenv) -e ([\w-]+)", text_of(name)):
        assert environment == "py" or f"testenv:{environment}" in tox, environment


@pytest.mark.parametrize("name", DOORS)
def test_files_exist(name: str) -> None:
    for path in re.findall(r"\b(?:remote_gym|tests|docs|benchmarks|chores|protos)/[\w./-]+", text_of(name)):
        assert (ROOT / path.rstrip(".")).exists(), path


def test_the_line_to_change_is_there() -> None:
    """The first exercise of CONTRIBUTING.md."""
    file, old = re.findall(r"In `(\S+)` write `.+?` for `(.+?)`", text_of("CONTRIBUTING.md"))[0]
    assert text_of(file).count(old) == 1


def test_ci_runs_what_anyone_can_run() -> None:
    assert "- run: .ci/run\n" in text_of(".github/workflows/ci.yml")
    assert text_of(".github/workflows/ci.yml").count("- run:") == 1
    assert "tox run\n" in text_of(".ci/run")
