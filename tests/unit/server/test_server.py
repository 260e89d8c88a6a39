"""The life of a server: it starts, says what it is, and stops once; a failed start leaves nothing."""

from __future__ import annotations

import threading

import pytest

from remote_gym import RemoteGymError, create_remote_environment_server
from remote_gym.server.sessions import Sessions


def loops() -> int:
    return sum(thread.name == "remote_gym server" for thread in threading.enumerate())


def test_a_server_stops_once_and_says_so() -> None:
    before = loops()
    with create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=1) as server:
        assert loops() == before + 1
        assert server.address == f"127.0.0.1:{server.port}"
        assert "CartPole-v1, running" in repr(server)
        assert server.statistics()["workers"] == 1
        assert not server.wait_for_termination(0.01)
    server.stop()
    assert server.wait_for_termination(0.0)
    assert "stopped" in repr(server)
    assert loops() == before
    with pytest.raises(RemoteGymError, match="has stopped"):
        server.statistics()


def test_a_start_that_fails_leaves_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    before = loops()

    async def fail(_self: Sessions, _probe: bool) -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(Sessions, "start", fail)
    with pytest.raises(RemoteGymError, match="1 worker processes could not be started: no room"):
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=1)
    assert loops() == before
