"""What all commands that take an environment say of it alike."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from remote_gym.cli.entrypoints import add_entrypoint, check_file
from remote_gym.cli.terminal import UsageError


def test_kwargs_have_one_meaning_under_both_names() -> None:
    parser = argparse.ArgumentParser()
    add_entrypoint(parser)
    assert parser.parse_args(["x"]).entrypoint_kwargs == {}
    for flag in ("--kwargs", "--entrypoint-kwargs"):
        assert vars(parser.parse_args(["x", flag, '{"g": 1}'])) == {"entrypoint": "x", "entrypoint_kwargs": {"g": 1}}


def test_files_that_are_like_it_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "environment.py").touch()
    check_file(str(tmp_path / "environment.py"), "x")
    check_file("module:function", "x")
    with pytest.raises(
        UsageError, match=r"^ENTRYPOINT: '.*/enviroment\.py' does not.*; did you mean /.*/environment\.py\?$"
    ):
        check_file(str(tmp_path / "enviroment.py"), "ENTRYPOINT")
    with pytest.raises(UsageError, match=r"does not exist \(looked for /no/such/folder/x\.py\)$"):
        check_file("/no/such/folder/x.py", "ENTRYPOINT")
