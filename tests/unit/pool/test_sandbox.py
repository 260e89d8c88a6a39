from __future__ import annotations

import sys
from pathlib import Path

import pytest

from remote_gym.errors import MisuseError
from remote_gym.pool import sandbox
from remote_gym.pool.sandbox import VARIABLES, Sandbox, checked_names, find_bubblewrap


def test_only_variables_of_the_list_and_the_owners_are_there() -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "a",
        "LAB_TOKEN": "b",
        "SSH_AUTH_SOCK": "c",
        "REMOTE_GYM_TOKEN": "d",
        "KEY": "e",
    }
    harmless = {"PATH": "/bin", "LC_ALL": "C", "OMP_NUM_THREADS": "3", "MUJOCO_GL": "egl", "PYTHONPATH": "/x"}
    given = Sandbox(("LAB_TOKEN", "UNSET")).variables({**secrets, **harmless})
    assert given == {**harmless, "LAB_TOKEN": "b"}


def test_the_page_lists_the_variables() -> None:
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "security.md").read_text()
    assert [name for name in VARIABLES if f"`{name}`" not in page] == []


def test_home_is_a_folder_of_its_own_where_there_is_one() -> None:
    assert Sandbox().variables({"HOME": "/home/me"}) == {"HOME": "/home/me"}
    inside = Sandbox(bubblewrap="/usr/bin/bwrap").variables({"HOME": "/home/me", "TMPDIR": "/var/x"})
    assert inside == {"HOME": "/tmp/home", "TMPDIR": "/tmp"}


def test_without_walls_there_is_no_command() -> None:
    assert Sandbox(hidden=("/key.pem",)).command(["/code"], "/") == []


@pytest.mark.parametrize("names", ["A", ["A", ""], ["A=1"], [1]])
def test_names_that_are_none(names: object) -> None:
    with pytest.raises(MisuseError, match="sandbox_env"):
        checked_names(names)  # type: ignore[arg-type]


def test_it_is_looked_for_on_linux_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    assert find_bubblewrap(Sandbox(), sys.executable, [], {}) == ("", "it is for Linux alone")
