"""A folder of one's own, wherever there is room for one."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from remote_gym.server import private_folder
from remote_gym.server.private_folder import make_private_folder


def test_it_is_where_temporary_files_go_and_this_users_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="rg-", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        before = os.umask(0)
        try:
            made = make_private_folder()
        finally:
            os.umask(before)
        assert os.path.dirname(made) == short
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o700


def test_a_path_that_is_too_long_for_a_socket_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = make_private_folder()
    os.rmdir(made)
    assert os.path.dirname(made) == "/tmp"


def test_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr(private_folder, "SHORT_PARENTS", ("/none",))
    with pytest.raises(OSError, match=r"set TMPDIR to one of yours: '/nowhere': No such file or directory; '/none': "):
        make_private_folder()

    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(OSError, match=r"yours: '/none': "):
        make_private_folder()
