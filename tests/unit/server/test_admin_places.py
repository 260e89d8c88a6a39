"""Where an admin socket is: by the port in a folder of the user's alone, or beside the server's own socket."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from remote_gym.server import admin_places
from remote_gym.server.admin_places import candidates, is_shared, place


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runtime"
    folder.mkdir(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return folder


def test_the_runtime_folder_is_the_users(runtime: Path) -> None:
    path = Path(place("127.0.0.1", 1234))
    assert path == runtime / "remote-gym" / "1234.sock"
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert is_shared(str(path))
    assert str(path) == place("localhost", 1234) == candidates("0.0.0.0", 1234)[0]


@pytest.mark.parametrize("runtime_folder", ["", "relative", "/no/such/folder", "open"])
def test_without_one_it_is_among_temporary_files(
    runtime: Path, monkeypatch: pytest.MonkeyPatch, runtime_folder: str
) -> None:
    if runtime_folder == "open":
        runtime.chmod(0o777)
    else:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime_folder)
    assert Path(place("127.0.0.1", 1234)) == runtime.parent / f"remote-gym-{os.geteuid()}" / "1234.sock"


def test_a_service_is_found_from_a_shell(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    of_service = place("127.0.0.1", 1234)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert of_service in candidates("127.0.0.1", 1234)


def test_beside_a_unix_socket(tmp_path: Path) -> None:
    host = f"unix:{tmp_path}/s"
    assert place(host, 0) == f"{tmp_path}/s.admin"
    assert candidates(host, 0) == [place(host, 0)]
    assert not is_shared(place(host, 0))


def test_a_path_that_is_too_long_is_named() -> None:
    with pytest.raises(OSError, match="too long for a socket"):
        place("unix:/" + "x" * 105, 0)


@pytest.mark.parametrize("planted", ["open", "link", "file"])
def test_what_others_may_have_planted_is_not_used(runtime: Path, planted: str) -> None:
    folder = runtime / "remote-gym"
    if planted == "open":
        folder.mkdir()
        folder.chmod(0o770)
    elif planted == "link":
        (runtime / "theirs").mkdir(0o700)
        folder.symlink_to(runtime / "theirs")
    else:
        folder.touch(0o600)
    with pytest.raises(OSError, match="others may enter"):
        place("127.0.0.1", 1234)


def test_another_users_folder_is_not_used(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (runtime / "remote-gym").mkdir(0o700)
    uid = os.geteuid()
    monkeypatch.setattr(admin_places.os, "geteuid", lambda: uid + 1)
    with pytest.raises(OSError, match="belongs to another user"):
        admin_places._private(str(runtime / "remote-gym"))


def test_no_folder_at_all(runtime: Path) -> None:
    (runtime / "remote-gym").mkdir(0o700)
    with pytest.raises(OSError, match="cannot be made: Not a directory"):
        admin_places._private(str(Path(__file__) / "x"))
