"""Who may come back, and what the others are told; over the wire, by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory
from faults.holder import attach_to, say
from helpers import wait_until

from remote_gym import RemoteVectorEnv, SessionLost, failpoints
from remote_gym.messages import Attach, Attached, Lost


def ask(envs: RemoteVectorEnv, change: Callable[[Attach], Attach]) -> Any:
    """Attach to the session of `envs` on a stream of our own; return the answer."""
    return say(envs._remote.settings.addresses[0], change(attach_to(envs._remote.fleet.hosted[0].session)))


@pytest.mark.parametrize(
    ("field", "reason"), [("token", "EXPIRED"), ("session_id", "EXPIRED"), ("server_epoch", "SERVER_RESTARTED")]
)
def test_who_does_not_know_the_secret_gets_nothing(serve: ServerFactory, field: str, reason: str) -> None:
    with RemoteVectorEnv(serve().address, num_envs=2) as envs:
        envs.reset(seed=1)

        def spoil(message: Attach) -> Attach:
            right: bytes = getattr(message, field)
            return replace(message, **{field: bytes([right[0] ^ 1]) + right[1:]})

        answer = ask(envs, spoil)
        assert isinstance(answer, Lost) and answer.reason == reason
        envs.step([0, 0])  # and whose session it is does not notice


def test_a_wrong_token_and_no_session_sound_the_same(serve: ServerFactory) -> None:
    with RemoteVectorEnv(serve().address, num_envs=1) as envs:
        envs.reset()
        words = {
            ask(envs, lambda m: replace(m, token=bytes(32))).detail,
            ask(envs, lambda m: replace(m, session_id=bytes(16))).detail,
        }
        assert len(words) == 1


def test_the_newest_attach_wins_and_the_older_client_is_told(serve: ServerFactory) -> None:
    with RemoteVectorEnv(serve().address, num_envs=2) as envs:
        envs.reset()
        assert isinstance(ask(envs, lambda message: message), Attached)
        with pytest.raises(SessionLost, match="FENCED"):
            envs.step([0, 0])


def test_what_ended_is_told_by_its_reason(serve: ServerFactory) -> None:
    server = serve(lease_seconds=0.1)
    with RemoteVectorEnv(server.address, num_envs=1) as envs:
        envs.reset()
        closed = Attach(**vars(attach_to(envs._remote.fleet.hosted[0].session)))
    answer = say(envs._remote.settings.addresses[0], closed)
    assert isinstance(answer, Lost) and answer.reason == "CLOSED"
    with RemoteVectorEnv(server.address, num_envs=1) as envs:
        envs.reset()
        expired = attach_to(envs._remote.fleet.hosted[0].session)
        envs._remote.fleet.hosted[0].session._reader.abort()
        wait_until(lambda: server.statistics()["sessions"] == 0, 5.0, "the end of the lease")
        answer = say(envs._remote.settings.addresses[0], expired)
        assert isinstance(answer, Lost) and answer.reason == "EXPIRED" and "0.1 s" in answer.detail
        with pytest.raises(SessionLost, match="EXPIRED"):
            envs.step([0])


@pytest.mark.parametrize("piece", [1, 2, 3])
def test_a_cut_between_two_parts_of_one_answer(
    serve: ServerFactory, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr("remote_gym.server.scatter.ANSWER_BYTES", 40)  # of rows of 16 bytes, so in parts of two
    monkeypatch.setattr("remote_gym.server.carriers.outlet.BUNDLE_BYTES", 0)
    local = gym.make_vec("CartPole-v1", 6, vectorization_mode="sync")
    server = serve(num_workers=2)
    with RemoteVectorEnv(server.address, num_envs=6) as envs:
        assert np.array_equal(envs.reset(seed=3)[0], local.reset(seed=3)[0])
        actions = np.array([0, 1] * 3)

        def cut() -> None:
            raise ConnectionResetError("cut")

        with failpoints.armed("server.frame.write", cut, first=piece, every=None):
            for _ in range(40):
                for ours, theirs in zip(envs.step(actions)[:4], local.step(actions)[:4], strict=True):
                    assert np.array_equal(ours, theirs)
        assert server.statistics()["attaches"] == 1
