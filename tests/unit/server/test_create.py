"""Arguments of a server are refused before anything is started."""

from __future__ import annotations

from typing import Any

import pytest

from remote_gym.errors import MisuseError
from remote_gym.server import create
from remote_gym.server.create import create_remote_environment_server, default_num_workers


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
    assert settings.num_workers == default_num_workers() >= 1
    assert (endpoints.host, endpoints.port, endpoints.metrics_port) == ("127.0.0.1", 56765, None)
