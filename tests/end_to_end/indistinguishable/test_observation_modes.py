"""Environments whose observation spaces differ, batched as `SyncVectorEnv` batches them."""

from __future__ import annotations

import copy
import os
import pickle
import signal
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from helpers import wait_until
from sameness import assert_same
from toys import UNEVEN, uneven

from remote_gym import EnvironmentRaised, MisuseError, RemoteVectorEnv

TOYS = "toys:uneven"


@pytest.fixture
def address(serve: ServerFactory) -> str:
    """Of a server whose environments are numbered from 0: their spaces depend on it."""
    return serve(TOYS, num_workers=2, allow_client_kwargs=["kind"]).address


def local(kind: str, num_envs: int, **options: Any) -> SyncVectorEnv:
    return SyncVectorEnv([partial(uneven, env_id, kind) for env_id in range(num_envs)], **options)


def remote(address: Any, kind: str, num_envs: int, **options: Any) -> RemoteVectorEnv:
    return RemoteVectorEnv(address, num_envs=num_envs, remote_args={"entrypoint_kwargs": {"kind": kind}}, **options)


def assert_equal_runs(ours: RemoteVectorEnv, theirs: SyncVectorEnv) -> None:
    assert ours.observation_space == theirs.observation_space
    assert ours.single_observation_space == theirs.single_observation_space
    assert ours.action_space == theirs.action_space
    assert_same(ours.reset(seed=1), theirs.reset(seed=1))
    theirs.action_space.seed(2)
    for _ in range(8):
        actions = theirs.action_space.sample()
        stepped = ours.step(actions)
        assert_same(stepped, theirs.step(actions))
        assert stepped[0] in ours.observation_space
    ours.observation_space.seed(3)
    theirs.observation_space.seed(3)
    assert_same(ours.observation_space.sample(), theirs.observation_space.sample())


@pytest.mark.parametrize("kind", [kind for kind in UNEVEN if "in common" not in kind])
@pytest.mark.parametrize("num_envs", [1, 5])
def test_different(address: str, kind: str, num_envs: int) -> None:
    theirs = local(kind, num_envs, observation_mode="different")
    with remote(address, kind, num_envs, observation_mode="different") as ours:
        assert ours.observation_mode == "different"
        assert_equal_runs(ours, theirs)
        assert pickle.loads(pickle.dumps(ours)).observation_mode == "different"
    theirs.close()


def test_given(address: str) -> None:
    given = spaces.Box(-9, 9, (5, 2), np.float64), spaces.Box(-9, 9, (2,), np.float64)
    theirs = local("boxes", 5, observation_mode=copy.deepcopy(given))
    with remote(address, "boxes", 5, observation_mode=given) as ours:
        assert ours.observation_space is given[0] and ours.single_observation_space is given[1]
        assert_equal_runs(ours, theirs)
        with pickle.loads(pickle.dumps(ours)) as again:
            assert again.single_observation_space == given[1]
    theirs.close()


@pytest.mark.parametrize("num_envs", [2, 5])  # in one worker, or in both
@pytest.mark.parametrize(
    "kind, mode, text",
    [
        ("boxes", "same", "sub-environments observation spaces are not equivalent"),
        ("nothing in common but the kind", "different", "all Box.low shape to be equal"),
        ("nothing in common", "different", "all spaces to be of the same type"),
        ("nothing in common", "given", "do not share a common shape and dtype"),
    ],
)
def test_what_differs_too_much_is_refused_as_locally(
    address: str, kind: str, mode: Any, text: str, num_envs: int
) -> None:
    if mode == "given":
        mode = spaces.Box(0, 1, (num_envs, 2)), spaces.Box(0, 1, (2,))
    with pytest.raises((RuntimeError, ValueError, TypeError), match=text) as theirs:
        local(kind, num_envs, observation_mode=mode)
    ours = remote(address, kind, num_envs, observation_mode=mode)
    with ours, pytest.raises(EnvironmentRaised, match=text) as caught:
        ours.reset()
    assert isinstance(caught.value, theirs.type)
    assert pickle.loads(pickle.dumps(caught.value)).env_index == caught.value.env_index == 1


def test_given_spaces_of_another_shape(address: str) -> None:
    given = spaces.Box(0, 1, (2, 7)), spaces.Box(0, 1, (7,))
    with pytest.raises(RuntimeError):
        local("boxes", 2, observation_mode=given)
    with remote(address, "boxes", 2, observation_mode=given) as ours:
        with pytest.raises(RuntimeError, match="has not the shape and dtype") as caught:
            ours.reset()
        assert isinstance(caught.value, MisuseError)


def test_several_servers(serve: ServerFactory) -> None:
    servers = [serve(TOYS, num_workers=1, allow_client_kwargs=["kind"]) for _ in range(2)]
    addresses = [server.address for server in servers]
    with remote(addresses, "boxes", 4, observation_mode="different") as ours:
        each = [uneven(env_id, "boxes").observation_space for env_id in (0, 1, 0, 1)]
        assert ours.observation_space == gym.vector.utils.batch_differing_spaces(each)
        assert ours.reset(seed=1)[0] in ours.observation_space
    wait_until(lambda: not any(server.statistics()["envs"] for server in servers), what="that their env_ids are free")
    with remote(addresses, "boxes", 2) as ours:  # each server's own are equal
        assert ours.reset(seed=1)[0].shape == (2, 2)


def test_servers_that_differ_too_much(serve: ServerFactory) -> None:
    addresses = [serve(TOYS, {"kind": kind}, num_workers=1).address for kind in ("boxes", "discretes", "tuples")]
    for mode, error in (("same", RuntimeError), ("different", TypeError)):
        with RemoteVectorEnv(addresses, num_envs=3, observation_mode=mode) as ours:
            with pytest.raises(error, match=r"equivalent|same type") as caught:
                ours.reset()
            assert isinstance(caught.value, MisuseError)


def test_keys_in_another_order_are_not_mixed_up(address: str) -> None:
    for num_envs in (2, 4):
        ours = remote(address, "equal but for their order in common", num_envs)
        with ours, pytest.raises(EnvironmentRaised, match="keys of its observation space in another order"):
            ours.reset()


def test_after_a_loss_they_are_the_same(serve: ServerFactory) -> None:
    server = serve(TOYS, num_workers=2, allow_client_kwargs=["kind"])
    with remote(server.address, "boxes", 4, observation_mode="different") as ours:
        space = ours.observation_space
        ours.reset(seed=1)
        os.kill(ours.call("pid")[3], signal.SIGKILL)
        with pytest.warns(UserWarning, match="were lost"):
            wait_until(lambda: ours.step(np.zeros(4, np.int64))[3].any())
        for _ in range(8):
            assert ours.step(np.zeros(4, np.int64))[0] in space
