"""Limits of principals: written, read, merged, and what is said of those that are wrong."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remote_gym.cli.configuration import configure
from remote_gym.cli.limits import LIMITS
from remote_gym.cli.options import add_flags
from remote_gym.cli.terminal import Parser


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("alice:envs=512,sessions=8", {"alice": {"envs": 512, "sessions": 8}}),
        ("*:envs=64", {"*": {"envs": 64}}),
        ("alice:envs=1; * : envs = 2, bytes = none", {"alice": {"envs": 1}, "*": {"envs": 2, "bytes": None}}),
        ("*:lease_seconds=2.5,opens_per_minute=0", {"*": {"lease_seconds": 2.5, "opens_per_minute": 0}}),
        ("spiffe://lab/alice:workers=2", {"spiffe://lab/alice": {"workers": 2}}),
        ("Alice of the Lab:envs=3;Alice of the Lab:sessions=1", {"Alice of the Lab": {"envs": 3, "sessions": 1}}),
    ],
)
def test_text_is_read_and_written_again(text: str, value: Any) -> None:
    assert LIMITS.from_text(text) == value
    assert LIMITS.to_text is not None
    assert LIMITS.from_text(LIMITS.to_text(value)) == value
    assert LIMITS.from_toml(text) == value


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("", ""),
        ("alice", ""),
        (":envs=3", "names nobody"),
        ("alice:", "'' is none of sessions=N, envs=N, workers=N, bytes=N, opens_per_minute=N, lease_seconds=N"),
        ("alice:env=3", "'env=3' is none of"),
        ("alice:envs", "'envs' is none of"),
        ("alice:envs=3 8", "envs cannot be '3 8'"),
        ("alice:envs=-1", "envs cannot be '-1'"),
        ("alice:envs=1.5", "envs cannot be '1.5'"),
        ("alice:envs=1,envs=2", "envs stands there twice"),
        ("alice:workers=0", "at least 1"),
        ("alice:lease_seconds=0", "positive"),
        ("alice:lease_seconds=inf", "lease_seconds cannot be 'inf'"),
        ("alice:envs=1;", ""),
    ],
)
def test_what_is_wrong_is_said(text: str, detail: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        LIMITS.argument(text)
    assert str(caught.value).startswith(f"must be {LIMITS.what}, got {text!r}")
    assert detail in str(caught.value)


@pytest.mark.parametrize("value", [3, [], {"alice": 3}, {"alice": {"env": 3}}, {"alice": {"envs": "3"}}, "alice"])
def test_other_toml_is_refused(value: Any) -> None:
    with pytest.raises(ValueError):
        LIMITS.from_toml(value)


def test_a_flag_may_be_given_again() -> None:
    parser = Parser(prog="x")
    add_flags(parser)
    given = ["--limit", "alice:envs=1,sessions=2", "--limit", "*:envs=3", "--limit", "alice:envs=4"]
    assert parser.parse_args(given).limits == {"alice": {"envs": 4, "sessions": 2}, "*": {"envs": 3}}


def test_a_file_has_tables(tmp_path: Path) -> None:
    file = tmp_path / "farm.toml"
    file.write_text('[serve.limits]\nalice = {envs = 512, sessions = "none"}\n"*" = {envs = 64, lease_seconds = 30}\n')
    given = {"alice": {"envs": 512, "sessions": None}, "*": {"envs": 64, "lease_seconds": 30}}
    found = configure({}, {}, str(file))
    assert found.values == {"limits": given}
    shown = next(line for line in found.lines() if line.startswith("limits"))
    assert shown.startswith('limits = "alice:envs=512,sessions=none;*:envs=64,lease_seconds=30"  # limits in ')
    assert configure({}, {"REMOTE_GYM_SERVE_LIMITS": "bob:envs=1"}, str(file)).values == {
        "limits": {"bob": {"envs": 1}}
    }


def test_a_wrong_flag_is_named_and_nothing_is_served(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "remote_gym", "serve", "CartPole-v1", "--limit", "alice:env=3"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "argument --limit: must be limits of principals, such as alice:envs=512,sessions=8" in done.stderr
    assert "('env=3' is none of sessions=N, " in done.stderr
