"""The terminal: colours where there is one, both spellings of flags, and what a typo may have meant."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from remote_gym.cli.terminal import RED, did_you_mean, has_colours, hyphens, paint, say

FLAGS = ["--num-workers", "--num-envs", "--port", "--probe", "-p"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("--num-worker", "; did you mean --num-workers?"),
        ("--num", "; did you mean --num-workers or --num-envs?"),
        ("--prot", "; did you mean --port or --probe?"),
        ("--xyzzy", ""),
        ("-x", ""),
    ],
)
def test_what_a_typo_may_have_meant(word: str, meant: str) -> None:
    assert did_you_mean(word, FLAGS) == meant


def test_underscores_of_flags_are_hyphens_and_nothing_else_changes() -> None:
    given = ["serve", "a_b.py", "--server_certificate", "my_file.pem", '--kwargs={"a_b": 1}', "--", "--not_a_flag"]
    assert hyphens(given) == [
        "serve", "a_b.py", "--server-certificate", "my_file.pem", "--kwargs={\"a_b\": 1}", "--", "--not_a_flag",
    ]  # fmt: skip


def seen_in_a_terminal(**variables: str) -> str:
    """Return what the command writes to a terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", **variables}
    environment = {name: value for name, value in environment.items() if name != "NO_COLOR" or value}
    command = [sys.executable, "-m", "remote_gym", "sevre"]
    subprocess.run(command, stderr=theirs, stdout=subprocess.DEVNULL, env=environment, timeout=30)
    os.close(theirs)
    seen = b""
    try:
        while part := os.read(ours, 4096):
            seen += part
    except OSError:  # Linux: the other side is closed
        pass
    os.close(ours)
    return seen.decode()


def test_a_terminal_has_colours_unless_it_is_told_not_to() -> None:
    error = "remote-gym: error:"
    assert f"\x1b[31m{error}\x1b[0m there is no command" in seen_in_a_terminal(NO_COLOR="")
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb", "NO_COLOR": ""}):
        seen = seen_in_a_terminal(**variables)
        assert f"{error} there is no command" in seen
        assert "\x1b[31m" not in seen


def test_what_is_no_terminal_has_none() -> None:
    assert paint("words", RED, io.StringIO()) == "words"
    assert not has_colours(None)


def test_a_line_for_a_stderr_that_is_gone_is_lost(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    say("lost")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as broken:
        monkeypatch.setattr(sys, "stderr", broken)
        say("lost")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), broken.fileno())  # what is still buffered goes there
    assert "lost" not in "".join(capfd.readouterr())
