"""The file that says where a server is: there while it takes new sessions, and nobody else's is touched."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ServeProcess, ServerFactory
from helpers import HOSTILE, wait_until
from hostile import ACTIONS

from remote_gym import MisuseError, RemoteVectorEnv, create_remote_environment_server
from remote_gym.server.announced import Announcement, check_path, said_elsewhere


def test_it_is_there_while_the_server_is(tmp_path: Path, serve: ServerFactory) -> None:
    path = tmp_path / "servers" / "a"
    path.parent.mkdir()
    server = serve(num_workers=1, announce=path)
    assert path.read_text() == f"{server.address}\n" and os.listdir(path.parent) == ["a"]
    with RemoteVectorEnv(f"file:{path.parent}", num_envs=2) as envs:
        envs.reset(seed=1)
    server.stop()
    assert not path.exists()


def test_it_goes_before_what_runs_has_ended(tmp_path: Path, serve_process: Callable[..., ServeProcess]) -> None:
    """Whoever looks while a server drains does not find it."""
    path = tmp_path / "a"
    kwargs = json.dumps({"notes": str(tmp_path)})
    served = serve_process(str(HOSTILE), "--kwargs", kwargs, "--num-workers", "1", "--announce", str(path))
    with RemoteVectorEnv(served.address) as envs:
        envs.reset(seed=1)
        envs.step_async([ACTIONS["gated"]])
        served.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not path.exists(), 20.0)
        assert served.process.poll() is None
        (tmp_path / "open").touch()
        envs.step_wait()
    assert served.process.wait(20.0) == 0


def test_who_is_stopped_at_once_removes_it(tmp_path: Path, serve_process: Callable[..., ServeProcess]) -> None:
    path = tmp_path / "a"
    served = serve_process("CartPole-v1", "--num-workers", "1", "--announce", str(path))
    assert path.read_text() == f"{served.address}\n"
    served.process.send_signal(signal.SIGTERM)
    served.process.send_signal(signal.SIGINT)
    served.process.wait(20.0)
    assert not path.exists()


def test_what_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a"
    killed = Announcement(str(path), "127.0.0.1:5")
    check_path(str(path))
    here = Announcement(str(path), "127.0.0.1:6")
    killed.withdraw()
    assert path.read_text() == "127.0.0.1:6\n"
    here.withdraw()
    here.withdraw()
    assert list(tmp_path.iterdir()) == []


def test_all_addresses_are_said_as_the_machine() -> None:
    name = socket.gethostname()
    assert said_elsewhere("0.0.0.0:5") == said_elsewhere("[::]:5") == f"{name}:5"
    assert said_elsewhere("10.0.0.2:5") == "10.0.0.2:5" and said_elsewhere("unix:/x") == "unix:/x"


def test_what_is_something_else_is_not_touched(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.write_text("to buy\nbread\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    for path, error in ((notes, FileExistsError), (folder, FileExistsError), (tmp_path / "no" / "a", OSError)):
        with pytest.raises(error, match=f"cannot announce the server in '{path}'"):
            create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, announce=path)
    assert notes.read_text() == "to buy\nbread\n"
    with pytest.raises(MisuseError, match="announce must be the path of a file"):
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, announce="")
    (empty := tmp_path / "empty").touch()
    check_path(str(empty))  # as mktemp makes one


def test_a_file_that_cannot_be_removed_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder := tmp_path / "servers").mkdir()
    here = Announcement(str(folder / "a"), "127.0.0.1:6")
    moved = folder.rename(tmp_path / "moved")
    folder.write_text("a file where the folder was")
    here.withdraw()
    assert "still announces this server" in caplog.text and (moved / "a").exists()
