"""A socket file is its owner's alone; sockets and files of others are left alone."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from remote_gym.server.socket_files import OWNER_ONLY, SocketFile, remove_all_files


def make(path: Path) -> SocketFile:
    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))

    return SocketFile(str(path), bind)


def test_it_is_its_owners_and_goes_once(tmp_path: Path) -> None:
    path = tmp_path / "s"
    file = make(path)
    assert stat.S_IMODE(os.stat(path).st_mode) == OWNER_ONLY
    file.remove()
    path.write_text("another's")
    file.remove()
    assert path.read_text() == "another's"


def test_one_of_somebody_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    file = make(path)
    path.rename(tmp_path / "old")
    path.write_text("another's")
    file.remove()
    assert path.read_text() == "another's"


def test_what_a_dead_server_left_is_replaced_and_a_live_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    make(path).remove()
    with socket.socket(socket.AF_UNIX) as live:
        live.bind(str(path))
        live.listen(1)
        with pytest.raises(OSError, match="another server listens there"):
            make(path)
    path.unlink()
    path.write_text("data")
    with pytest.raises(OSError, match="a file is there that is no socket"):
        make(path)


def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(OSError, match="everybody may write"):
        make(folder / "s")


def test_a_bind_that_fails_leaves_the_mask_as_it_was(tmp_path: Path) -> None:
    def bind() -> None:
        raise OSError("no")

    before = os.umask(0o22)
    try:
        with pytest.raises(OSError, match="no"):
            SocketFile(str(tmp_path / "s"), bind)
        assert os.umask(0o22) == 0o22
    finally:
        os.umask(before)


def test_a_process_that_ends_at_once_leaves_none_of_its_own(tmp_path: Path) -> None:
    files = [make(tmp_path / name) for name in ("one", "other")]
    (tmp_path / "another's").touch()
    files[0].remove()
    remove_all_files()
    assert [path.name for path in tmp_path.iterdir()] == ["another's"]
    files[1].remove()
