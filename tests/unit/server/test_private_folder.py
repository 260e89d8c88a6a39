"""A folder of one's own, wherever there is room for one."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from remote_gym.server import private_folder
from remote_gym.server.private_folder import PREFIX, PrivateFolder


def test_it_is_where_temporary_files_go_and_this_users_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="rg-", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        before = os.umask(0)
        try:
            made = PrivateFolder()
        finally:
            os.umask(before)
        assert os.path.dirname(made.path) == short
        assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o700
        Path(made.path, "1").touch()
        made.close()
        made.close()
        assert os.listdir(short) == []


def test_a_path_that_is_too_long_for_a_socket_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    long = tmp_path / ("x" * 80)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    made = PrivateFolder()
    made.close()
    assert os.path.dirname(made.path) == "/tmp"


def test_what_a_killed_server_left_is_removed_and_what_is_used_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="rg-", dir="/tmp") as short:
        monkeypatch.setattr(tempfile, "tempdir", short)
        used = PrivateFolder()
        left, young, other = (Path(short, name) for name in (f"{PREFIX}left", f"{PREFIX}young", "another"))
        for folder in (left, young, other):
            folder.mkdir()
            (folder / "1").touch()
        for folder in (left, other, Path(used.path)):
            os.utime(folder, (1.0, 1.0))
        last = PrivateFolder()
        assert set(os.listdir(short)) == {
            os.path.basename(used.path),
            os.path.basename(last.path),
            young.name,
            "another",
        }
        used.close()
        last.close()


def test_nowhere_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    monkeypatch.setattr(private_folder, "SHORT_PARENTS", ("/none",))
    with pytest.raises(OSError, match=r"set TMPDIR to one of yours: '/nowhere': No such file or directory; '/none': "):
        PrivateFolder()

    def nowhere() -> str:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    with pytest.raises(OSError, match=r"yours: '/none': "):
        PrivateFolder()


ENDS_AT_ONCE = """
import os, random, threading
from pathlib import Path
from remote_gym.server.private_folder import PrivateFolder, remove_all

def serve():
    while True:
        folder = PrivateFolder()
        for name in "12":
            try:
                Path(folder.path, name).touch()
            except OSError:
                pass
        folder.close()

servers = [threading.Thread(target=serve, daemon=True) for _ in range(4)]
kept = [PrivateFolder() for _ in range(2)]
for server in servers:
    server.start()
threading.Event().wait(random.uniform(0.0, 0.02))
remove_all()
remove_all()
os._exit(0)
"""


def test_who_ends_at_once_leaves_no_folder_whatever_its_servers_are_at(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="rg-", dir="/tmp") as short:
        for _ in range(10):
            code = subprocess.run(
                [sys.executable, "-c", ENDS_AT_ONCE], env={**os.environ, "TMPDIR": short}, timeout=30.0
            )
            assert code.returncode == 0
            assert os.listdir(short) == []
