"""The file of tokens is changed as a whole, by one at a time, and its rights are kept, or narrower."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from remote_gym.cli.token_lines import add_line, edited, read_file, without
from remote_gym.errors import MisuseError


def test_lines() -> None:
    assert add_line("", "a") == "a\n"
    assert add_line("a", "b") == add_line("a\n", "b") == "a\nb\n"
    assert without("# a\na 1\nab 2\n  a 3\n", "a") == ("# a\nab 2\n", 2)
    assert without("", "a") == ("", 0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_its_owners_alone(tmp_path: Path) -> None:
    path, before = tmp_path / "tokens", os.umask(0)
    try:
        with edited(str(path)) as file:
            assert file.text == ""
            assert mode(path) == 0o600
            file.text = "a\n"
    finally:
        os.umask(before)
    assert (path.read_text(), mode(path), os.listdir(tmp_path)) == ("a\n", 0o600, ["tokens"])


@pytest.mark.parametrize(("old", "new"), [(0o600, 0o600), (0o640, 0o640), (0o666, 0o660)])
def test_the_group_keeps_its_right(tmp_path: Path, old: int, new: int) -> None:
    path = tmp_path / "tokens"
    path.touch()
    path.chmod(old)
    with edited(str(path)) as file:
        file.text = "a\n"
    assert mode(path) == new


def test_an_error_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("a\n")

    def fail() -> None:
        with edited(str(path)) as file:
            file.text = "b\n"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (path.read_text(), os.listdir(tmp_path)) == ("a\n", ["tokens"])


def test_who_reads_meanwhile_sees_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text("old\n")
    with path.open() as open_already, edited(str(path)) as file:
        file.text = "new\n"
        assert path.read_text() == "old\n"
    del open_already
    assert path.read_text() == "new\n"


def test_nothing_that_several_add_is_lost(tmp_path: Path) -> None:
    path = str(tmp_path / "tokens")

    def add(number: int) -> None:
        for turn in range(10):
            with edited(path) as file:
                file.text = add_line(file.text, f"{number}-{turn}")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = Path(path).read_text().splitlines()
    assert sorted(lines) == sorted(f"{number}-{turn}" for number in range(4) for turn in range(10))


def test_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(MisuseError, match=r"there is no .*remote-gym tokens add"):
        read_file(str(tmp_path / "no"))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(MisuseError, match="is no text"):
        read_file(str(tmp_path / "binary"))
