"""Looking on over a real connection: snapshots joined of their parts, pictures, and whatever ends it, in words."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from conftest import Certificates, ServerFactory

from remote_gym import ConnectError, ProtocolError, RefusedError, RemoteVectorEnv
from remote_gym.client.watching import FrameRequest, Frames, Snapshot, Watching, watch
from remote_gym.errors import MisuseError
from remote_gym.figures import ServerFigures, SessionFigures, WatchReply
from remote_gym.server import watching as server_watching
from remote_gym.server.tokens import Token, digest_of, new_token


def next_snapshot(looking: Watching) -> Snapshot:
    for seen in looking:
        if isinstance(seen, Snapshot):
            return seen
    raise AssertionError("it was closed")


def test_figures_rise_over_tls(serve: ServerFactory, certificates: Certificates) -> None:
    server = serve(num_workers=1, server_credentials_paths=certificates.server)
    paths = {"client_credentials_paths": certificates.client}
    with (
        RemoteVectorEnv(server.address, num_envs=3, **paths) as envs,
        watch(server.address, period_seconds=0.1, **paths) as looking,
    ):
        envs.reset(seed=1)
        before = next_snapshot(looking).server.totals
        envs.step(envs.action_space.sample())
        while next_snapshot(looking).server.totals.env_steps != before.env_steps + 3:
            pass


def test_pictures_come_beside_snapshots(serve: ServerFactory) -> None:
    server = serve("toys:create", {"toy": "counter"}, num_workers=1, frames=True)
    with RemoteVectorEnv(server.address, num_envs=1, render_mode="rgb_array") as envs:
        envs.reset(seed=1)
        with watch(server.address, period_seconds=0.1) as looking:
            (session,) = next_snapshot(looking).sessions
        wanted = [FrameRequest(session.id, 0, 16)]
        with watch(server.address, period_seconds=0.1, frames=wanted) as looking:
            kinds = set()
            while len(kinds) < 2:
                seen = next(looking)
                kinds.add(type(seen))
                if isinstance(seen, Frames):
                    assert seen.frames[0].data.startswith(b"\x89PNG")
        with watch(server.address, frames=wanted, frames_only=True) as looking:
            assert isinstance(next(looking), Frames)


def test_a_killed_worker_is_told_with_its_reason(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=1) as envs, watch(server.address, period_seconds=0.1) as looking:
        envs.reset(seed=1)
        while not (workers := next_snapshot(looking).workers):  # the first one was made before there was a session
            pass
        (worker,) = workers
        os.kill(worker.process, signal.SIGKILL)
        killed = time.monotonic()
        while not (losses := next_snapshot(looking).losses):
            pass
        assert time.monotonic() - killed < 2.0
        assert "SIGKILL" in losses[0].reason
        assert losses[0].process == worker.process


def test_the_end_of_the_server_is_told(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with watch(server.address) as looking:
        next(looking)
        server.stop()
        with pytest.raises(ConnectError, match="watching has ended"):
            list(looking)
        with pytest.raises(ConnectError):
            next(looking)


def test_refusals_by_name(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_watching, "MAX_WATCHERS", 1)
    server = serve(num_workers=1)
    with watch(server.address) as looking:
        next(looking)
        with watch(server.address) as other, pytest.raises(RefusedError, match="watches by 1") as refused:
            next(other)
        assert refused.value.limit == "principal_watchers"
    with watch(server.address, period_seconds=1e6) as other, pytest.raises(MisuseError, match="period_seconds"):
        next(other)


def test_a_name_is_a_tokens(serve: ServerFactory, certificates: Certificates, tmp_path: Path) -> None:
    tokens = {"ada": new_token(), "bob": new_token()}
    file = tmp_path / "tokens"
    file.write_text("".join(f"{Token(name, digest_of(text), None)}\n" for name, text in tokens.items()))
    server = serve(num_workers=1, server_credentials_paths=certificates.server, token_file=file, operators=["bob"])
    paths = certificates.client
    with watch(server.address, client_credentials_paths=paths) as looking, pytest.raises(RefusedError, match="token"):
        next(looking)
    seen = {}
    with RemoteVectorEnv(server.address, num_envs=1, client_credentials_paths=paths, token=tokens["ada"]) as envs:
        envs.reset(seed=1)
        for name, token in tokens.items():
            with watch(server.address, client_credentials_paths=paths, token=token) as looking:
                snapshot = next_snapshot(looking)
                seen[name] = snapshot.server.is_operator, [one.principal for one in snapshot.sessions]
    assert seen == {"ada": (False, ["ada"]), "bob": (True, ["ada"])}


def test_closing_from_another_thread_ends_who_waits(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    looking = watch(server.address, period_seconds=60.0)
    next(looking)
    closing = threading.Timer(0.1, looking.close)
    closing.start()
    with pytest.raises(StopIteration):
        next(looking)
    closing.join()
    looking.close()


def test_several_servers_are_not_one() -> None:
    with pytest.raises(MisuseError, match="one server"):
        watch(["localhost:1", "localhost:2"])  # type: ignore[arg-type]


def test_nobody_there() -> None:
    with pytest.raises(ConnectError):
        watch("127.0.0.1:1", connect_timeout_seconds=0.5)


class Said:
    """A call whose replies are known."""

    def __init__(self, *replies: WatchReply) -> None:
        self._replies = list(replies)

    def next(self) -> WatchReply | None:
        return self._replies.pop(0) if self._replies else None


def hearing(*replies: WatchReply) -> Watching:
    looking = Watching.__new__(Watching)
    looking._address, looking._parts = "there:1", []
    looking._call = Said(*replies)  # type: ignore[assignment]
    return looking


def test_parts_make_one_snapshot() -> None:
    one, other = SessionFigures(b"1"), SessionFigures(b"2")
    looking = hearing(WatchReply(1.0, ServerFigures(), [one], more=True), WatchReply(1.0, sessions=[other]))
    (seen,) = looking
    assert isinstance(seen, Snapshot)
    assert seen.sessions == [one, other]


@pytest.mark.parametrize(
    "replies", [[WatchReply(sessions=[SessionFigures()])], [WatchReply(0.0, ServerFigures(), more=True)] + [
        WatchReply(more=True)] * 2_000]
)  # fmt: skip
def test_a_server_that_breaks_the_contract(replies: list[WatchReply]) -> None:
    with pytest.raises(ProtocolError, match="no part"):
        list(hearing(*replies))
