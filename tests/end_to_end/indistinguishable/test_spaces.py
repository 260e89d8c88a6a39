"""Spaces that are seeded, have keys of numbers, or are custom ones; and values that are instances of subclasses."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import toys as toy_module
from conftest import ToyServer
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from sameness import assert_same

from remote_gym import RemoteEnvironment, RemoteGymError, create_remote_environment_server


def generators(space: Any) -> Iterator[Any]:
    """Yield the state of each generator of a space, nested ones included; None where there is none."""
    yield None if space._np_random is None else space._np_random.bit_generator.state
    nested = getattr(space, "spaces", ())
    children = nested.values() if isinstance(nested, dict) else nested
    more = [getattr(space, name, None) for name in ("feature_space", "node_space", "edge_space")]
    for child in [*children, *more]:
        if child is not None:
            yield from generators(child)


def assert_samples(ours: Any, theirs: Any) -> None:
    assert [*generators(ours)] == [*generators(theirs)]
    for _ in range(3):
        assert_same(ours.sample(), theirs.sample())


@pytest.mark.parametrize("space", toy_module.SPACES)
@pytest.mark.parametrize("samples", [0, 3])
def test_a_space_seeded_where_it_is_made_goes_on_sampling_there(toys: ToyServer, space: str, samples: int) -> None:
    kwargs = {"space": space, "seed": 123, "samples": samples}
    local = toy_module.seeded(**kwargs)
    with toys.single("seeded", kwargs) as env:
        assert_samples(env.action_space, local.action_space)
        assert_samples(env.observation_space, local.observation_space)
    batch = SyncVectorEnv([lambda: toy_module.seeded(**kwargs)] * 3)
    with toys.vector("seeded", 3, kwargs) as envs:
        for name in ("single_action_space", "action_space", "single_observation_space", "observation_space"):
            assert_samples(getattr(envs, name), getattr(batch, name))


@pytest.mark.parametrize("space", toy_module.SPACES)
def test_one_that_is_not_seeded_stays_so(toys: ToyServer, space: str) -> None:
    local = toy_module.create("echo", space=space).action_space
    for _ in range(2):  # also where the environment is one that the server has made to try it
        with toys.single("echo", {"space": space}) as env:
            ours = [one is None for one in generators(env.action_space)]
            assert ours == [one is None for one in generators(local)]


def test_nor_is_a_spare_environment_seeded_by_the_way() -> None:
    with (
        create_remote_environment_server({"entrypoint": "CartPole-v1"}, port=0, num_workers=1) as server,
        RemoteEnvironment(server.address) as env,
    ):
        assert env.action_space._np_random is env.observation_space._np_random is None


@pytest.mark.parametrize(
    "keys", [[0, 1], [10, 9, -1], [np.int64(3), np.int64(2)], [toy_module.Phase.LAST, toy_module.Phase.MID], ["b", "a"]]
)
def test_keys_that_are_numbers(toys: ToyServer, keys: list[Any]) -> None:
    plain = [key if isinstance(key, str) else int(key) for key in keys]
    local, batch = toy_module.keyed(plain), SyncVectorEnv([lambda: toy_module.keyed(plain)] * 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what travels to the server as its base
        pair = toys.single("keyed", {"keys": keys}), toys.vector("keyed", 2, {"keys": keys})
        with pair[0] as env, pair[1] as envs:
            assert (env.observation_space, env.action_space) == (local.observation_space, local.action_space)
            assert list(env.observation_space) == list(local.observation_space) == sorted(plain)
            assert (envs.observation_space, envs.action_space) == (batch.observation_space, batch.action_space)
            assert_same(env.reset(seed=1), local.reset(seed=1))
            assert_same(envs.reset(seed=1), batch.reset(seed=1))
            for _ in range(6):
                action = local.action_space.sample()
                assert_same(env.step(action)[1:4], local.step(action)[1:4])
                actions = batch.action_space.sample()
                ours, theirs = envs.step(copy.deepcopy(actions)), batch.step(actions)
                assert_same(ours[0], theirs[0])
                assert list(ours[4]) == list(theirs[4])


@pytest.mark.parametrize(
    ("keys", "said"), [([0, "a"], "keys 0, 'a'"), ([(0, 1), (1, 0)], r"keys \(0, 1\), \(1, 0\)"), ([2**63], "64 bits")]
)
def test_other_keys_are_refused_by_name(toys: ToyServer, keys: list[Any], said: str) -> None:
    with toys.single("keyed", {"keys": keys}) as env, pytest.raises(RemoteGymError, match=said):
        env.reset()


def test_custom_spaces_travel_as_what_is_registered_for_them(toys: ToyServer) -> None:
    local = toy_module.custom()
    with toys.single("custom") as env:
        assert env.observation_space == local.observation_space  # built back
        assert_samples(env.observation_space, local.observation_space)
        assert env.action_space == spaces.Box(-3, 3, (2,), np.float32)
        assert env.reset()[0] in ("go", "stop")
        assert env.step(env.action_space.sample())[0] in ("go", "stop")
    with toys.vector("custom", 3) as envs:
        assert envs.single_observation_space == local.observation_space
        assert envs.observation_space == spaces.Tuple([spaces.Text(4, min_length=2, charset="gostp")] * 3)
        observations, _ = envs.reset()
        assert observations in envs.observation_space
        assert envs.step(envs.action_space.sample())[0] in envs.observation_space


def test_an_unregistered_subclass_of_a_known_space_travels_as_that_one(toys: ToyServer) -> None:
    with toys.single("custom", {"nested": True}) as env:
        with pytest.warns(UserWarning, match=r"toys\.Bounded is a Box here") as caught:
            space = env.observation_space
        assert len(caught) == 1
        box = spaces.Box(-1, 1, (2,), np.float32)
        angles = spaces.Box(-3, 3, (2,), np.float32)
        assert space == spaces.Dict({"say": toy_module.Words(["go", "stop"]), "at": angles, "in": box})
        assert env.action_space == spaces.Tuple([spaces.Discrete(2), angles])
        assert env.reset()[0] in space
        assert env.step(env.action_space.sample())[0] in space


def test_a_custom_space_that_nobody_registered_is_refused_with_the_remedy(toys: ToyServer) -> None:
    remedy = re.escape("remote_gym.register_space(CustomSpace, to_portable)")
    with toys.single("naughty", {"build": "custom space"}) as env, pytest.raises(RemoteGymError, match=remedy):
        env.reset()


def as_bases(value: Any) -> Any:
    """What an instance of a subclass arrives as."""
    if isinstance(value, dict):
        return {key: as_bases(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return tuple(map(as_bases, value))
    return next(
        (base(value) if base is int else str.__str__(value) for base in (int, str) if isinstance(value, base)), value
    )


def test_instances_of_subclasses_in_infos_arrive_as_their_base_with_one_warning(toys: ToyServer) -> None:
    local = toy_module.subclasses()
    with toys.single("subclasses") as env, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert_same(env.reset(seed=1)[1], as_bases(local.reset(seed=1)[1]))
        for _ in range(4):
            assert_same(env.step(0)[4], as_bases(local.step(0)[4]))
    (warning,) = caught
    for name in (
        "Phase travels as int",
        "Size travels as str",
        "Place travels as tuple",
        "defaultdict travels as dict",
    ):
        assert name in str(warning.message)


@pytest.mark.parametrize("num_envs", [2, 8])
def test_in_a_batch_too(toys: ToyServer, num_envs: int) -> None:
    batch = SyncVectorEnv([toy_module.subclasses] * num_envs)
    with toys.vector("subclasses", num_envs) as envs, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for ours, theirs in ((envs.reset(seed=1)[1], batch.reset(seed=1)[1]), *(
            (envs.step(np.zeros(num_envs, int))[4], batch.step(np.zeros(num_envs, int))[4]) for _ in range(3)
        )):  # fmt: skip
            assert list(ours) == list(theirs)
            assert ours["phase"].dtype == ours["known"]["phase"].dtype == np.int64
            for key in ("phase", "size", "place"):
                assert ours[key].tolist() == theirs[key].tolist()
    assert len(caught) == 1


@pytest.mark.parametrize("single", [True, False])
def test_of_a_type_that_comes_later_too(toys: ToyServer, single: bool) -> None:
    env: Any = toys.single("late_subclass") if single else toys.vector("late_subclass", 2)
    said = []
    with env:
        env.reset()
        for _ in range(5):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                env.step(0 if single else np.zeros(2, int))
            said.append([str(warning.message).rpartition(".")[2] for warning in caught])
    assert said == [["Phase travels as int"], [], ["Place travels as tuple"], [], []]
