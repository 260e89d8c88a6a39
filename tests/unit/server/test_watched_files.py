"""A file that is read again when it has changed: how it may change, and what holds while it cannot be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.server import watched_files
from remote_gym.server.watched_files import MAX_BYTES, WatchedFile, lines


class Told:
    """What a file has told."""

    def __init__(self, path: Path) -> None:
        self.texts: list[str | None] = []
        self.file = WatchedFile("the_file", path, self.take, lambda: self.texts.append(None))

    def take(self, text: str) -> list[str]:
        self.texts.append(text)
        return ["line 1: no"] if text == "wrong" else []

    def look(self) -> str | None:
        self.file.refresh()
        return self.texts[-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "file").write_text("one")
    return tmp_path / "file"


def test_it_is_read_again_when_it_changes_and_not_else(path: Path) -> None:
    told = Told(path)
    assert [told.look(), told.look()] == ["one", "one"]
    assert told.texts == ["one"]
    path.write_text("another")
    assert told.look() == "another"
    (path.parent / "new").write_text("anothen")  # of the same size
    os.replace(path.parent / "new", path)
    assert told.look() == "anothen"
    assert len(told.texts) == 3


def test_a_link_that_leads_elsewhere_now(path: Path, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("two")
    (tmp_path / "link").symlink_to(path)
    told = Told(tmp_path / "link")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to(tmp_path / "other")
    assert told.look() == "two"


def test_it_is_the_same_wherever_the_process_goes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    told = Told(Path("file"))
    monkeypatch.chdir("/")
    path.write_text("two")
    assert told.look() == "two"


@pytest.mark.parametrize("spoil", ["folder", "pipe", "bytes", "size", "mode"])
def test_what_cannot_be_read_changes_nothing_and_is_told_once(
    path: Path, spoil: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(path)
    if spoil == "folder":
        path.unlink()
        path.mkdir()
    elif spoil == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif spoil == "bytes":
        path.write_bytes(b"\xff\xfe\xfd")
    elif spoil == "size":
        path.write_bytes(b"x" * (MAX_BYTES + 1))
    else:
        path.write_text("theirs")
        path.chmod(0o666)
    assert [told.look(), told.look()] == ["one", "one"]
    assert len([record for record in caplog.records if "what it said before holds" in record.getMessage()]) == 1
    with pytest.raises(MisuseError, match="the_file="):
        Told(path)
    if spoil == "folder":
        path.rmdir()
    elif spoil == "pipe":
        path.unlink()
    path.write_text("two")
    path.chmod(0o600)
    assert told.look() == "two"


def test_it_is_gone_when_it_has_been_for_a_while(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(watched_files.time, "monotonic", lambda: clock[0])
    told = Told(path)
    path.unlink()
    assert told.look() == "one"
    clock[0] += watched_files.MISSING_SECONDS / 2
    path.write_text("one")  # an editor has written it anew
    assert told.look() == "one"
    path.unlink()
    assert told.look() == "one"
    clock[0] += watched_files.MISSING_SECONDS
    assert [told.look(), told.look()] == [None, None]
    assert told.texts.count(None) == 1
    path.write_text("back")
    assert told.look() == "back"


def test_what_is_wrong_is_an_error_at_first_and_told_later(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    told = Told(path)
    path.write_text("wrong")
    assert told.look() == "wrong"
    assert "line 1: no" in caplog.text
    with pytest.raises(MisuseError, match="line 1: no"):
        Told(path)


@pytest.mark.parametrize("nothing", [None, "", 3, Path("/nowhere/at/all")])
def test_no_file_at_all(nothing: Any) -> None:
    with pytest.raises(MisuseError, match="the_file="):
        WatchedFile("the_file", nothing, lambda _: [], lambda: None)


def test_lines_that_say_something() -> None:
    assert lines("\n a b # c\n#\n\td\r\n") == [(2, "a b"), (4, "d")]
