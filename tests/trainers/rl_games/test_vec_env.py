"""`remote_gym.rl_games.VecEnv` as rl_games meets it, beside `SyncVectorEnv`."""

from __future__ import annotations

import importlib
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import ServerFactory
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from rl_games.common import env_configurations, vecenv
from rl_games.common.ivecenv import IVecEnv
from torch.utils._python_dispatch import TorchDispatchMode
from trainers.rl_games.hosted_for_rl_games import ACTIONS, create_environment

from remote_gym import ConnectError, MisuseError, RemoteEnvironmentServer, create_remote_environment_server
from remote_gym.rl_games import VecEnv, moved, register

HOSTED = Path(__file__).with_name("hosted_for_rl_games.py")
NUM_ENVS = 3


@pytest.fixture(scope="module")
def server() -> Iterator[RemoteEnvironmentServer]:
    args: dict[str, Any] = {"entrypoint": str(HOSTED)}
    with create_remote_environment_server(args, port=0, num_workers=2, allow_client_kwargs="*") as server:
        yield server


@pytest.fixture
def remote(server: RemoteEnvironmentServer) -> Iterator[Callable[..., VecEnv]]:
    """Make remote environments of this folder's: ``remote(observations="dict", options={"device": "cpu"})``."""
    made: list[VecEnv] = []

    def make(kind: str = "Hosted", num_envs: int = NUM_ENVS, options: Any = None, **kwargs: Any) -> VecEnv:
        args = {"entrypoint_kwargs": {"kind": kind, **kwargs}}
        made.append(VecEnv(server.address, num_envs=num_envs, remote_args=args, **(options or {})))
        return made[-1]

    yield make
    for envs in made:
        envs.close()


def local(num_envs: int = NUM_ENVS, **kwargs: Any) -> SyncVectorEnv:
    make = [lambda: create_environment(**kwargs)] * num_envs
    return SyncVectorEnv(make, autoreset_mode=AutoresetMode.SAME_STEP)


def as_seen(observation: Any) -> Any:
    """Return what rl_games is to see of what an environment has returned."""
    if isinstance(observation, dict):
        return {key: as_seen(part) for key, part in observation.items()}
    return observation if observation.dtype == np.uint8 else observation.astype(np.float32)


def check_equal(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key, part in theirs.items():
            check_equal(ours[key], part)
    else:
        ours = ours.numpy() if isinstance(ours, torch.Tensor) else ours
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("kind", ["box", "whole", "image", "dict", "asymmetric", "asymmetric, as workers have it"])
def test_observations_as_rl_games_wants_them(remote: Callable[..., VecEnv], kind: str, device: str | None) -> None:
    ours, theirs = remote(observations=kind, options={"device": device, "seed": 4}), local(observations=kind)

    def wanted(observation: Any) -> Any:
        seen = as_seen(observation)
        if kind.startswith("asymmetric"):
            return {"obs": seen["obs"], "states": seen["states" if "states" in seen else "state"]}
        return {"obs": seen} if kind == "dict" else seen

    check_equal(ours.reset(), wanted(theirs.reset(seed=4)[0]))
    ended = 0
    for _ in range(40):
        actions = theirs.action_space.sample()
        given = actions if device is None else torch.from_numpy(actions)
        observations, rewards, dones, infos = ours.step(given)
        expected = theirs.step(actions)
        check_equal(observations, wanted(expected[0]))
        check_equal(rewards, expected[1].astype(np.float32))
        check_equal(dones, expected[2] | expected[3])
        check_equal(infos["time_outs"], expected[3] & ~expected[2])
        assert type(infos["time_outs"]) is (np.ndarray if device is None else torch.Tensor)
        ended += int(np.sum(expected[2] & expected[3]))
    assert ended  # some are both: no time-outs


@pytest.mark.parametrize("kind", ["box", "whole", "image", "dict", "asymmetric"])
def test_spaces_are_of_what_is_delivered(remote: Callable[..., VecEnv], kind: str) -> None:
    envs = remote(observations=kind)
    info, first = envs.get_env_info(), envs.reset()
    assert info["agents"] == envs.get_number_of_agents() == 1
    assert info["value_size"] == 1
    assert info["use_global_observations"] == (kind == "asymmetric")
    if kind == "asymmetric":
        assert info["state_space"].contains(first["states"][0])
        first = first["obs"]
    else:
        assert info["state_space"] is None
    if kind == "dict":
        assert info["observation_space"].contains({key: part[0] for key, part in first["obs"].items()})
    else:
        assert info["observation_space"].contains(first[0])


@pytest.mark.parametrize("kind", ["discrete", "nested"])
def test_spaces_without_networks_are_refused(remote: Callable[..., VecEnv], kind: str) -> None:
    with pytest.raises(MisuseError, match=r"no networks for observations.*FlattenObservation"):
        remote(observations=kind)


@pytest.mark.parametrize("kind", ["box", "discrete", "shifted", "multi", "tuple"])
def test_policies_numbers_become_actions(remote: Callable[..., VecEnv], kind: str) -> None:
    envs = remote(actions=kind)  # it asserts that each action is of its space
    space = envs.get_env_info()["action_space"]
    envs.reset()
    hosted = ACTIONS[kind]
    for _ in range(5):
        if kind == "box":
            assert space == hosted
            actions = np.stack([space.sample() for _ in range(NUM_ENVS)])
            given = actions
        elif kind in ("discrete", "shifted"):
            assert space == gym.spaces.Discrete(3)
            actions = np.random.default_rng(0).integers(3, size=NUM_ENVS)
            given = actions + hosted.start
        else:
            assert type(space) is gym.spaces.Tuple
            assert [part.n for part in space] == [3, 2]
            actions = np.stack([np.array(space.sample()) for _ in range(NUM_ENVS)])
            given = actions + (np.array([0, -1]) if kind == "tuple" else 0)
        *_, infos = envs.step(torch.from_numpy(actions))
        np.testing.assert_array_equal(infos["given"], given.reshape(NUM_ENVS, -1).sum(1))


def test_actions_without_a_policy_are_refused(remote: Callable[..., VecEnv]) -> None:
    with pytest.raises(MisuseError, match="no policy for actions in MultiBinary"):
        remote(actions="binary")


def test_infos_of_a_last_step_stand_in_their_places(remote: Callable[..., VecEnv]) -> None:
    ours, theirs = remote(options={"seed": 1}), local()
    ours.reset()
    theirs.reset(seed=1)
    seen = 0
    for _ in range(60):
        actions = theirs.action_space.sample()
        _, _, dones, infos = ours.step(actions)
        *_, expected = theirs.step(actions)
        for index in np.flatnonzero(dones):
            final = expected["final_info"]
            assert infos["scores"][index] == final["scores"][index] > 0
            assert infos["lives"][index] == final["lives"][index] == 0
            assert expected["lives"][index] > 0  # of the next episode
            assert infos["episode"]["r"][index] == final["scores"][index]
            seen += 1
        for index in np.flatnonzero(~dones):
            assert infos["lives"][index] == expected["lives"][index]
            assert infos["given"][index] == expected["given"][index]
        assert "scores" not in infos or not infos["_scores"][~dones].any()
    assert seen > 10


@pytest.mark.parametrize(("kind", "masks"), [("Masked", "method"), ("Hosted", "info")])
def test_action_masks(remote: Callable[..., VecEnv], kind: str, masks: str) -> None:
    envs = remote(kind, masks=masks, options={"seed": 1})
    envs.reset()
    assert envs.has_action_masks() is True
    steps = np.zeros(NUM_ENVS, int)
    for _ in range(30):
        allowed = envs.get_action_masks()
        assert allowed.dtype == np.bool_
        np.testing.assert_array_equal(allowed, [[True, step % 2 == 0, False] for step in steps])
        _, _, dones, _ = envs.step(np.argmax(allowed * [1, 2, 0], axis=1))
        steps = np.where(dones, 0, steps + 1)


def test_without_action_masks(remote: Callable[..., VecEnv]) -> None:
    envs = remote()
    envs.reset()
    assert envs.has_action_masks() is False
    with pytest.raises(MisuseError, match="the environments have no get_action_mask or action_masks"):
        envs.get_action_masks()


def test_train_info_reaches_environments_that_want_it(remote: Callable[..., VecEnv]) -> None:
    envs = remote()
    envs.set_train_info(1234, object())
    assert envs.envs.get_attr("frames") == (1234,) * NUM_ENVS


def test_states_go_into_a_checkpoint_and_back(remote: Callable[..., VecEnv]) -> None:
    envs = remote("Stateful")
    envs.set_env_state([5, 6, 7])
    assert envs.envs.get_attr("frames") == (5, 6, 7)
    assert envs.get_env_state() == [5, 6, 7]
    envs.set_env_state(None)  # a checkpoint without
    assert envs.get_env_state() == [5, 6, 7]
    with pytest.raises(MisuseError, match="2 states of a checkpoint for 3 environments"):
        envs.set_env_state([1, 2])
    stateless = remote()
    assert stateless.get_env_state() is None


def test_what_environments_do_not_have_is_not_called(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", allow_call="has_wrapper_attr,render")
    with VecEnv(server.address, num_envs=2) as envs:
        assert isinstance(envs, IVecEnv)
        envs.set_train_info(5)
        assert envs.get_env_state() is None
    server = serve("CartPole-v1", allow_call="render")  # not even asked
    with VecEnv(server.address, num_envs=2) as envs:
        envs.set_train_info(5)
        assert envs.has_action_masks() is False


def test_a_lost_worker_ends_episodes_and_no_more(remote: Callable[..., VecEnv], tmp_path: Path) -> None:
    envs = remote(kill=str(tmp_path / "kill"))
    envs.reset()
    envs.step(np.zeros(NUM_ENVS, int))
    (tmp_path / "kill").touch()
    with pytest.warns(UserWarning, match="killed by SIGKILL"):
        _, rewards, dones, infos = envs.step(np.zeros(NUM_ENVS, int))
    assert dones.any() and not dones.all()  # one of two workers
    np.testing.assert_array_equal(infos["time_outs"], dones)
    np.testing.assert_array_equal(rewards == 0, dones)
    for _ in range(20):
        envs.step(np.zeros(NUM_ENVS, int))


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rl_games.common", None)
    monkeypatch.delitem(sys.modules, "remote_gym.rl_games")
    with pytest.raises(ImportError, match=r'needs rl_games: pip install "remote-gym-pool\[rl_games\]"'):
        importlib.import_module("remote_gym.rl_games")


def test_a_seed_is_that_of_the_next_reset(remote: Callable[..., VecEnv]) -> None:
    ours, theirs = remote(options={"seed": 9}), local()
    for seed in (9, None, 3, None):
        if seed == 3:
            ours.seed(3)
        check_equal(ours.reset(), as_seen(theirs.reset(seed=seed)[0]))


def test_a_pickle_dials_anew(remote: Callable[..., VecEnv]) -> None:
    first = remote(options={"seed": 2, "device": "cpu"})
    copied = pickle.loads(pickle.dumps(first))
    check_equal(copied.reset(), first.reset().numpy())
    copied.close()
    copied.close()
    first.step(np.zeros(NUM_ENVS, int))


@pytest.mark.parametrize("name", ["autoreset_mode", "batch_size", "copy"])
def test_what_is_settled_cannot_be_set(name: str) -> None:
    for make in (VecEnv, VecEnv.local):
        with pytest.raises(MisuseError, match=f"{name} is not for the user"):
            make("CartPole-v1", **{name: 1})


def test_no_server(serve: ServerFactory) -> None:
    with pytest.raises(ConnectError):
        VecEnv("127.0.0.1:1", num_envs=2, connect_timeout_seconds=2)


def test_a_server_of_its_own() -> None:
    with VecEnv.local("CartPole-v1", 2, num_workers=1, seed=3) as envs:
        theirs = gym.make_vec("CartPole-v1", 2, vectorization_mode="sync")
        check_equal(envs.reset(), theirs.reset(seed=3)[0])


def test_several_servers(serve: ServerFactory) -> None:
    addresses = [serve("CartPole-v1", num_workers=1).address for _ in range(2)]
    with VecEnv(addresses, num_envs=5, seed=3) as envs:
        theirs = gym.make_vec("CartPole-v1", 5, vectorization_mode="sync")
        check_equal(envs.reset(), theirs.reset(seed=3)[0])


def test_registered_arguments_and_those_of_a_configuration(serve: ServerFactory) -> None:
    server = serve("CartPole-v1")
    register("mine", url=server.address, seed=3)
    with vecenv.create_vec_env("mine", 4) as envs:
        assert type(envs) is VecEnv
        assert envs.envs.num_envs == 4
        first = envs.reset()
    with vecenv.create_vec_env("mine", 4, seed=8) as envs:
        assert not np.array_equal(envs.reset(), first)
    with env_configurations.configurations["mine"]["env_creator"](seed=3) as player:
        check_equal(player.reset(), first[:1])
        info = env_configurations.get_env_info(player)
        assert info["observation_space"] == envs.observation_space
        assert info["action_space"] == envs.action_space


def test_frames(serve: ServerFactory) -> None:
    server = serve("CartPole-v1", {"render_mode": "rgb_array"})
    with VecEnv(server.address, num_envs=2, render_mode="rgb_array") as envs:
        envs.reset()
        frames = envs.render(mode="human")
        assert [frame.shape for frame in frames] == [(400, 600, 3)] * 2


class Moves(TorchDispatchMode):
    """Counts transfers to another device."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and kwargs and "device" in kwargs:
            self.count += torch.device(kwargs["device"]).type != args[0].device.type
        return func(*args, **(kwargs or {}))


BATCH = {
    "flags": np.zeros(5, np.bool_),
    "parts": {"image": np.zeros((5, 3, 3), np.uint8), "vector": np.zeros((5, 7), np.float32)},
    "whole": np.zeros((5, 1), np.int64),
}


def test_a_batch_is_moved_at_once() -> None:
    with Moves() as moves:
        there = moved(BATCH, torch.device("meta"))
    assert moves.count == 1
    assert there["parts"]["vector"].shape == (5, 7)
    assert there["parts"]["vector"].dtype == torch.float32
    assert {there["flags"].device.type, there["whole"].device.type} == {"meta"}


def test_what_is_packed_is_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packing itself, with a device that is the host under another name."""
    rng = np.random.default_rng(0)
    batch = {
        "flags": rng.random(5) < 0.5,
        "parts": {"image": rng.integers(0, 255, (5, 3, 3), np.uint8), "vector": rng.random((5, 7), np.float32)},
        "whole": rng.integers(0, 9, (5, 1)),
        "half": rng.random((5, 2, 3)).transpose(0, 2, 1),  # not contiguous
    }

    class Host:
        type = "host"

    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device, **kwargs: to(self, "cpu", **kwargs))
    check_equal(moved(batch, Host()), batch)  # type: ignore[arg-type]


def test_on_the_host_nothing_is_copied() -> None:
    there = moved(BATCH, torch.device("cpu"))
    assert there["whole"].data_ptr() == BATCH["whole"].ctypes.data  # type: ignore[attr-defined]
