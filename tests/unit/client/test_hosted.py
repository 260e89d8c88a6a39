"""What one server hosts: dialled on first need, read, opened anew after a loss, closed once."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError
from helpers import settings, wait_until
from malicious import ACTION, OBSERVATION, MaliciousServer, opened

from remote_gym import ConnectError, ProtocolError, SessionLost, values
from remote_gym.client.hosted import Hosted, read_told
from remote_gym.messages import Close, Open
from remote_gym.spaces import describe


@pytest.fixture
def server() -> Iterator[MaliciousServer]:
    server = MaliciousServer()
    yield server
    server.close()


def hosted(server: MaliciousServer, num_envs: int = 2) -> Hosted:
    ours = settings(url=server.address, num_envs=num_envs)
    return Hosted(ours, ours.addresses[0])


def asked(server: MaliciousServer) -> list[type]:
    return [kind for kind in server.seen if kind in (Open, Close)]


# What it tells


def test_what_is_told() -> None:
    spec = gym.spec("CartPole-v1")
    message = opened(
        3,
        metadata=values.pack({"render_fps": 7}),
        spec_json=spec.to_json(),
        render_mode="rgb_array",
        hosted_vector=True,
    )
    told = read_told(message, 3)
    assert (told.observation_space, told.action_space) == (OBSERVATION, ACTION)
    assert told.metadata == {"render_fps": 7}
    assert told.spec is not None and told.spec.id == "CartPole-v1"
    assert (told.render_mode, told.is_vector) == ("rgb_array", True)


def test_what_is_not_told() -> None:
    told = read_told(opened(1), 1)
    assert (told.metadata, told.spec, told.render_mode, told.is_vector) == ({}, None, None, False)


def test_batched_spaces() -> None:
    observation, action = read_told(opened(3), 3).batched(3)
    assert observation == spaces.Box(-1, 1, (3, 2), np.float32)
    assert action == spaces.MultiDiscrete([2, 2, 2])


def test_metadata_is_a_dict() -> None:
    with pytest.raises(ProtocolError, match="metadata of type list"):
        read_told(opened(1, metadata=values.pack([1])), 1)


def test_spaces_fit_into_memory() -> None:
    with pytest.raises(ProtocolError, match=r"a space that takes .* for 1000000 environments"):
        read_told(opened(1, observation_space=describe(spaces.Box(-1, 1, (1_000,), np.float32))), 1_000_000)


# The session on it


def test_it_is_dialled_on_first_need(server: MaliciousServer) -> None:
    ours = hosted(server)
    assert ours.known is None and not server.seen
    assert ours.told.observation_space == OBSERVATION
    assert ours.known is ours.told and ours.session is ours.session
    assert asked(server) == [Open]
    ours.close()


def test_it_closes_once_and_for_all(server: MaliciousServer) -> None:
    ours = hosted(server)
    told = ours.told
    ours.close()
    ours.close()
    assert asked(server) == [Open, Close]
    assert ours.told is told, "what was told stays known"
    with pytest.raises(ClosedEnvironmentError):
        _ = ours.session


def test_it_is_never_dialled_once_closed(server: MaliciousServer) -> None:
    ours = hosted(server)
    ours.close()
    with pytest.raises(ClosedEnvironmentError):
        _ = ours.told
    assert not server.seen


def test_the_session_ends_with_its_owner(server: MaliciousServer) -> None:
    ours = hosted(server)
    _ = ours.session
    del ours
    gc.collect()
    wait_until(lambda: asked(server) == [Open, Close], what="the session is closed")


def test_a_share_is_asked_for(server: MaliciousServer) -> None:
    counts = []
    server.answers[Open] = lambda message, n: [(counts.append(message.num_envs), opened(n))[1]]
    ours = hosted(server, num_envs=5)
    ours.share(3)
    _ = ours.session
    ours.close()
    assert counts == [3]


def test_a_session_that_cannot_be_read_is_closed(server: MaliciousServer) -> None:
    server.answers[Open] = lambda _, n: [opened(n, metadata=b"\xc1")]
    ours = hosted(server)
    with pytest.raises(ProtocolError, match="sent what the contract does not allow"):
        _ = ours.session
    assert asked(server) == [Open, Close] and ours.known is None


def test_opening_anew_takes_another_session(server: MaliciousServer) -> None:
    ours = hosted(server)
    first = ours.session
    ours.reopen()
    assert ours.session is not first
    assert asked(server) == [Open, Open, Close]
    ours.close()
    assert asked(server) == [Open, Open, Close, Close]


def test_opening_anew_takes_no_other_spaces(server: MaliciousServer) -> None:
    ours = hosted(server)
    first, told = ours.session, ours.told
    server.answers[Open] = lambda _, n: [opened(n, action_space=describe(spaces.Discrete(3)))]
    with pytest.raises(SessionLost, match="now hosts environments with other spaces"):
        ours.reopen()
    assert ours.session is first and ours.told is told
    ours.close()


def test_its_workers_are_counted_without_a_session(server: MaliciousServer) -> None:
    assert hosted(server).num_workers() == 2
    assert not server.seen


def test_nobody_is_there() -> None:
    ours = settings(url="localhost:1", connect_timeout_seconds=0.3)
    with pytest.raises(ConnectError, match="localhost:1"):
        _ = Hosted(ours, ours.addresses[0]).session
