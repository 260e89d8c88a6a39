"""Who looks on does no harm: hostile requests are refused by name, others' sessions stay unseen, and steps go on."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import numpy as np
import pytest
from conftest import ServerFactory

from remote_gym import RemoteVectorEnv
from remote_gym.client.watching import FrameRequest, Frames, watch
from remote_gym.figures import WatchRequest
from remote_gym.server import watching
from remote_gym.wire.watching import MAX_WATCH_BYTES, WATCH_METHOD, pack_watch


def ended(address: str, request: bytes) -> tuple[grpc.StatusCode, str]:
    """Return how a call with `request` ends that must not yield anything."""
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_stream(WATCH_METHOD)(request, timeout=20.0)
        with pytest.raises(grpc.RpcError) as caught:
            list(call)
    error: Any = caught.value
    return error.code(), error.details()


@pytest.mark.parametrize(
    ("request_", "word"),
    [
        (b"\xff" * 100, "malformed"),
        (b"\x22\x10" + bytes(MAX_WATCH_BYTES), "at most"),
        (pack_watch(WatchRequest(1e-9)), "period_seconds"),
        (pack_watch(WatchRequest(float("inf"))), "period_seconds"),
        (pack_watch(WatchRequest(frames=[FrameRequest(bytes(16), 0)] * 1_000)), "at most"),
        (pack_watch(WatchRequest(frames=[FrameRequest(bytes(16), 0, 2**31)])), "max_width"),
        (pack_watch(WatchRequest(sessions=[b"x"])), "session"),
    ],
)
def test_hostile_requests_are_refused_by_name(serve: ServerFactory, request_: bytes, word: str) -> None:
    server = serve(num_workers=1)
    code, detail = ended(server.address, request_)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert word in detail


def test_too_many_streams_are_refused(serve: ServerFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_WATCHERS", 2)
    server = serve(num_workers=1)
    with watch(server.address) as one, watch(server.address) as other:
        next(one)
        next(other)
        code, detail = ended(server.address, pack_watch(WatchRequest()))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "2 streams" in detail


def test_frames_of_everything_that_is_not_there(serve: ServerFactory) -> None:
    server = serve(num_workers=1, frames=True)
    with RemoteVectorEnv(server.address, num_envs=1, render_mode="rgb_array") as envs:
        envs.reset(seed=1)
        with watch(server.address) as looking:
            own = next(looking).sessions[0].id  # type: ignore[union-attr]
        wanted = [FrameRequest(bytes([number]) * 16, number) for number in range(40)]
        wanted += [FrameRequest(own, 2**32 - 1), FrameRequest(own, 1), FrameRequest(own, 0, 4_096)]
        with watch(server.address, frames=wanted, frames_only=True) as looking:
            told: dict[FrameRequest, str] = {}
            for seen in looking:
                assert isinstance(seen, Frames)
                told.update({FrameRequest(one.session, one.env, 0): one.missing for one in seen.frames})
                if len(told) == len(wanted):
                    break
        assert told.pop(FrameRequest(own, 0, 0)) == ""
        assert all(told.values())
        envs.step(np.ones(1, np.int64))


def test_a_watcher_that_does_not_read_holds_nobody_up(serve: ServerFactory) -> None:
    server = serve(num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=4) as envs, grpc.insecure_channel(server.address) as channel:
        envs.reset(seed=1)
        calls: list[Any] = [
            channel.unary_stream(WATCH_METHOD)(pack_watch(WatchRequest(0.1)), timeout=30.0) for _ in range(8)
        ]
        for _ in range(300):
            envs.step(envs.action_space.sample())
        assert next(itertools.islice(calls[0], 0, 1))
        for call in calls:
            call.cancel()
    assert server.statistics()["env_steps"] == 1_200


def test_what_an_environment_says_as_it_dies_is_one_printable_line_each(serve: ServerFactory, tmp_path: Any) -> None:
    (tmp_path / "dying.py").write_text(
        "import os, sys, gymnasium as gym\n"
        "class Dying(gym.Wrapper):\n"
        "    def step(self, action):\n"
        "        print('<script>\\x1b[31mred</script>', flush=True)\n"
        "        os._exit(3)\n"
        "def create_environment():\n"
        "    return Dying(gym.make('CartPole-v1'))\n"
    )
    server = serve(str(tmp_path / "dying.py"), num_workers=1)
    with RemoteVectorEnv(server.address, num_envs=1) as envs, watch(server.address, period_seconds=0.1) as looking:
        envs.reset(seed=1)
        with pytest.warns(match="exit code 3"):
            envs.step(np.ones(1, np.int64))
        losses: Any = ()
        while not losses:
            losses = next(looking).losses  # type: ignore[union-attr]
        (loss,) = losses
        assert loss.reason == "exit code 3"
        assert loss.output.isprintable()
        assert "<script>\\x1b[31mred</script>" in loss.output
