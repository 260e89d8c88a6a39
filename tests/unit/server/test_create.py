"""Arguments of a server are refused before anything is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.processes import usable_cores
from remote_gym.server import create
from remote_gym.server.create import create_remote_environment_server, entrypoint_text


@pytest.mark.parametrize(
    ("args", "options", "text"),
    [
        ({}, {}, "entrypoint"),
        ({"entrypoint": "CartPole-v1", "other": 1}, {}, "other"),
        ({"entrypoint": "CartPole-v1"}, {"num_workers": 0}, "num_workers"),
        ({"entrypoint": "CartPole-v1"}, {"url": "0.0.0.0"}, "without TLS"),
    ],
)
def test_what_is_wrong_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, args: dict[str, Any], options: dict[str, Any], text: str
) -> None:
    monkeypatch.setattr(create, "RemoteEnvironmentServer", lambda *_: pytest.fail("it was started"))
    with pytest.raises(MisuseError, match=text):
        create_remote_environment_server(args, **options)


def test_what_is_left_out_has_its_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "RemoteEnvironmentServer", lambda *arguments: arguments)
    made: Any = create_remote_environment_server({"entrypoint": "CartPole-v1"})
    settings, endpoints, *_ = made
    assert settings.num_workers == usable_cores() >= 1
    assert (endpoints.host, endpoints.port, endpoints.metrics_port) == ("127.0.0.1", 56765, None)


@pytest.mark.parametrize("entrypoint", ["envs/mine.py", Path("envs/mine.py"), Path("envs") / ".." / "envs" / "mine.py"])
def test_a_file_has_its_whole_path_from_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entrypoint: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert entrypoint_text(entrypoint) == str(tmp_path / "envs" / "mine.py")


@pytest.mark.parametrize("entrypoint", ["CartPole-v1", "module:function", "module:Id-v0", None, 3])
def test_what_is_no_file_stays_as_it_is(entrypoint: Any) -> None:
    assert entrypoint_text(entrypoint) is entrypoint
