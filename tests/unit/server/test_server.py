"""The life of a server: it starts, says what it is, and stops once; a failed start leaves nothing."""

from __future__ import annotations

import threading

import pytest
from helpers import wait_until

from remote_gym import RefusedError, RemoteGymError, RemoteVectorEnv, create_remote_environment_server
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


@pytest.mark.parametrize("how", ["the last session ends", "another call", "the time"])
def test_a_server_that_is_to_stop_lets_sessions_go_on_for_some_time(how: str) -> None:
    seconds = 0.3 if how == "the time" else 60.0
    with create_remote_environment_server(
        {"entrypoint": "CartPole-v1"}, port=0, num_workers=1, handover_seconds=seconds
    ) as server:
        with RemoteVectorEnv(server.address) as envs:
            envs.reset(seed=1)
            stopping = threading.Thread(target=server.stop)
            stopping.start()
            wait_until(lambda: server.wait_for_termination(0.0) or server.statistics()["draining"])
            if how != "the time":
                envs.step([0])
                with pytest.raises(RefusedError, match="takes no new sessions"):
                    RemoteVectorEnv(server.address).reset()
            if how == "another call":
                server.stop(0)
            elif how == "the last session ends":
                envs.step([0])
                envs.close()
            stopping.join(30.0)
        assert not stopping.is_alive() and server.wait_for_termination(0.0)


def test_nobody_waits_where_there_is_no_session() -> None:
    server = create_remote_environment_server(
        {"entrypoint": "CartPole-v1"}, port=0, num_workers=1, handover_seconds=600.0
    )
    server.stop()
    assert server.wait_for_termination(0.0)
