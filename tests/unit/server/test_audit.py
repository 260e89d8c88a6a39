"""The audit log: a private file of JSON lines that survives rotation, full disks, and what is put in its place."""

from __future__ import annotations

import json
import logging
import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from helpers import wait_until

from remote_gym.server import audit as module
from remote_gym.server.audit import AppendedFile, AuditLog


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_appended_to_a_file_of_the_owners(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    before = os.umask(0)
    try:
        for number in range(2):
            log = AuditLog(str(path))
            log.tell({"event": "opened", "principal": "a\nb\ud800", "number": number, "nothing": None})
            log.close()
            log.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = lines(path)
    assert [line.pop("time")[-1] for line in told] == ["Z", "Z"]
    assert told == [{"event": "opened", "principal": "a\nb\\ud800", "number": number} for number in range(2)]


@pytest.mark.parametrize("away", ["moved", "removed", "replaced"])
def test_rotation_loses_nothing(tmp_path: Path, away: str) -> None:
    path, old = tmp_path / "audit", tmp_path / "audit.1"
    log = AuditLog(str(path))
    log.tell({"event": "first"})
    wait_until(lambda: path.read_text(), what="the first line")
    if away == "removed":
        path.unlink()
    else:
        path.rename(old)
    if away == "replaced":  # as logrotate's create does
        path.touch(0o640)
    log.tell({"event": "second"})
    log.close()
    assert [line["event"] for line in lines(path)] == ["second"]
    if away != "removed":
        assert [line["event"] for line in lines(old)] == ["first"]
    assert stat.S_IMODE(path.stat().st_mode) == (0o640 if away == "replaced" else 0o600)


def test_what_cannot_be_written_is_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "audit"
    log = AuditLog(str(path))
    path.unlink()
    folder.rename(tmp_path / "away")
    for number in range(3):
        log.tell({"event": "lost", "number": number})
    wait_until(lambda: log._lost == 3, what="three lines that nobody reads")
    (tmp_path / "away").rename(folder)
    log.tell({"event": "later"})
    log.close()
    assert [(line["event"], line.get("lines")) for line in lines(path)] == [("lost", 3), ("later", None)]
    complaints = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(complaints) == 1
    assert "cannot be written: No such file or directory" in complaints[0].getMessage()


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendedFile(str(tmp_path / "audit"))
    write = os.write
    monkeypatch.setattr(module.os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    with pytest.raises(OSError, match="No space left"):
        file.append("first")
    monkeypatch.setattr(module.os, "write", write)
    file.append("second")
    file.close()
    assert (tmp_path / "audit").read_text() == "fir\nsecond\n"


def test_a_disk_that_hangs_holds_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    append = AppendedFile.append

    def slowly(file: AppendedFile, line: str) -> None:
        assert go.wait(30.0)
        append(file, line)

    monkeypatch.setattr(module, "MAX_WAITING_BYTES", 1_000)
    monkeypatch.setattr(AppendedFile, "append", slowly)
    log = AuditLog(str(tmp_path / "audit"))
    for number in range(100):
        log.tell({"event": "one", "number": number})
    go.set()
    wait_until(lambda: not log._waiting, what="the disk")
    log.tell({"event": "last"})
    log.close()
    told = lines(tmp_path / "audit")
    missing = sum(line["lines"] for line in told if line["event"] == "lost")
    assert missing > 50
    assert missing + sum(line["event"] == "one" for line in told) == 100
    assert told[-1]["event"] == "last"


def test_a_file_that_others_write_to_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "audit").touch()
    (tmp_path / "audit").chmod(0o662)
    with pytest.raises(OSError, match=r"the audit log .*others than its owner may write to it \(mode 662\)"):
        AuditLog(str(tmp_path / "audit"))


def test_another_users_file_proves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "audit").touch(0o600)
    if os.geteuid() == 0:
        os.chown(tmp_path / "audit", 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
    with pytest.raises(OSError, match="it belongs to another user"):
        AuditLog(str(tmp_path / "audit"))


@pytest.mark.parametrize("what", ["folder", "pipe", "nowhere"])
def test_what_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path = path / "audit"
    with pytest.raises(OSError, match=r"the audit log .* cannot be written: "):
        AuditLog(str(path))


def test_a_pipe_that_is_put_in_its_place_holds_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(str(path))
    path.unlink()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log.tell({"event": "one"})
    wait_until(lambda: log._lost == 1, what="the refusal of the pipe")
    os.close(reader)
    path.unlink()
    log.tell({"event": "two"})
    log.close()
    assert [line["event"] for line in lines(path)] == ["lost", "two"]


def test_two_servers_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    logs = [AuditLog(str(path)) for _ in range(2)]
    for number in range(500):
        for log in logs:
            log.tell({"event": "one", "number": number, "text": "x" * 200})
    for log in logs:
        log.close()
    assert len(lines(path)) == 1_000
