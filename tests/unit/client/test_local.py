"""A server of one's own: what may be its entrypoint, its life and its end."""

from __future__ import annotations

import functools
import os
import signal
import stat
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import psutil
import pytest
from helpers import wait_until

from remote_gym.client.local import LocalServer, entrypoint_text
from remote_gym.errors import ConnectError, MisuseError


def make_cartpole() -> Any:
    return gym.make("CartPole-v1")


class Holder:
    def make(self) -> Any:
        """Make nothing."""


@pytest.mark.parametrize("text", ["CartPole-v1", "ale_py:ALE/Pong-v5", "file.py"])
def test_what_a_server_takes_is_taken_as_it_is(text: str) -> None:
    assert entrypoint_text(text) == text
    assert entrypoint_text(Path(text)) == text


def test_a_function_goes_by_its_name() -> None:
    assert entrypoint_text(make_cartpole) == f"{__name__}:make_cartpole"


def within() -> Any:
    def inner() -> None:
        """Do nothing."""

    return inner


@pytest.mark.parametrize(
    "nameless",
    [lambda: None, within(), functools.partial(make_cartpole), Holder().make, 5, None],
    ids=["lambda", "inner", "partial", "method", "int", "None"],
)
def test_what_no_worker_can_import_is_refused(nameless: Any) -> None:
    with pytest.raises(MisuseError, match="cannot be imported by a worker"):
        entrypoint_text(nameless)


def script(monkeypatch: pytest.MonkeyPatch, file: str | None) -> Any:
    main = ModuleType("__main__")
    exec("def make(): pass", main.__dict__)
    if file is not None:
        main.__file__ = file
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main.make


def test_a_function_of_a_script_goes_by_the_name_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert entrypoint_text(script(monkeypatch, str(tmp_path / "train.py"))) == "train:make"


@pytest.mark.parametrize("file", ["train-me.py", "train", "elsewhere/train.py"])
def test_a_function_of_a_script_that_has_no_module_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MisuseError, match="put it in a module"):
        entrypoint_text(script(monkeypatch, str(tmp_path / file)))


def test_a_function_of_an_interactive_session_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisuseError, match="interactive session"):
        entrypoint_text(script(monkeypatch, None))


def processes_of(server: LocalServer) -> list[psutil.Process]:
    process = psutil.Process(server._process.pid)
    return [process, *process.children(recursive=True)]


def test_it_is_reached_by_its_user_alone_and_leaves_nothing() -> None:
    server = LocalServer("CartPole-v1", 1, None)
    path = Path(server.url.removeprefix("unix:"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    processes = processes_of(server)
    assert len(processes) == 2
    server.close()
    server.close()
    assert not path.parent.exists()
    assert not any(process.is_running() for process in processes)


def test_it_ends_with_whoever_drops_it() -> None:
    server = LocalServer("CartPole-v1", 1, None)
    processes = processes_of(server)
    del server
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_a_ctrl_c_is_not_for_it() -> None:
    server = LocalServer("CartPole-v1", 1, None)
    assert os.getpgid(server._process.pid) != os.getpgid(0)
    server.close()


def test_one_that_hangs_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remote_gym.client.local.END_SECONDS", 0.2)
    server = LocalServer("CartPole-v1", 1, None)
    processes = processes_of(server)
    os.kill(server._process.pid, signal.SIGSTOP)
    server.close()
    wait_until(lambda: not any(process.is_running() for process in processes))


def test_what_the_server_refuses_is_told() -> None:
    with pytest.raises(MisuseError, match="num_workers must be a positive integer, got 0"):
        LocalServer("CartPole-v1", 0, None)


def test_one_that_does_not_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # it finds nothing to import
    with pytest.raises(ConnectError, match="ended before it listened"):
        LocalServer("CartPole-v1", 1, None)


def test_a_worker_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    main = ModuleType("__main__")
    main.__spec__ = type("Spec", (), {"name": "remote_gym.worker.main"})()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "__main__", main)
    with pytest.raises(MisuseError, match="no server is created in a worker"):
        LocalServer("CartPole-v1", 1, None)
