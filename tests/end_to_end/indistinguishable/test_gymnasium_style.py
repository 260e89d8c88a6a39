"""In the style of Gymnasium's own ``tests/vector``: implementations by spaces, the remote one as one of the former.

Here each test says itself what is right; that both do the same in every bit is for `test_equality`.
"""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import ToyServer
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from sameness import assert_same

from remote_gym import EnvironmentRaised, MisuseError, RemoteEnvironment, RemoteGymError, RemoteVectorEnv

REMOTE_ID = "remote_gym:remote_gym/Remote-v0"
Make = Callable[..., VectorEnv[Any, Any, Any]]


@pytest.fixture
def at_end() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["sync", "remote"])
def make(request: pytest.FixtureRequest, toys: ToyServer, at_end: ExitStack) -> Make:
    """``make("counter", 3, length=4, autoreset_mode=...)``: a vector environment of a toy."""

    def make(toy: str, num_envs: int = 3, *, render_mode: str | None = None, autoreset_mode: Any = None, **kwargs: Any):
        options = {} if autoreset_mode is None else {"autoreset_mode": autoreset_mode}
        if request.param == "remote":
            envs = toys.vector(toy, num_envs, kwargs, render_mode=render_mode, **options)
        else:
            one = lambda: toy_module.create(toy, render_mode=render_mode, **kwargs)  # noqa: E731
            envs = SyncVectorEnv([one] * num_envs, **options)
        at_end.callback(envs.close)
        return envs

    return make


def assert_equal(value: Any, expected: Any) -> None:
    np.testing.assert_array_equal(value, expected)


# Reset and step.


def test_reset(make: Make) -> None:
    envs = make("gymnasium_env", 8, id="CartPole-v1")
    observations, infos = envs.reset()
    assert isinstance(envs, VectorEnv) and envs.num_envs == 8
    assert isinstance(envs.observation_space, spaces.Box)
    assert isinstance(observations, np.ndarray)
    assert observations.dtype == envs.observation_space.dtype == np.float32
    assert observations.shape == (8, *envs.single_observation_space.shape) == envs.observation_space.shape
    assert observations in envs.observation_space
    assert infos == {}


def as_list(envs: Any) -> Any:
    return [envs.single_action_space.sample() for _ in range(envs.num_envs)]


@pytest.mark.parametrize(
    "sample",
    [
        lambda envs: envs.action_space.sample(),
        as_list,
        lambda envs: tuple(as_list(envs)),
        lambda envs: [int(action) for action in as_list(envs)],
        lambda envs: np.array(as_list(envs), np.int32),
        lambda envs: np.array(as_list(envs))[::-1],
    ],
    ids=["sample", "list", "tuple", "ints", "int32", "view"],
)
def test_step(make: Make, sample: Callable[[Any], Any]) -> None:
    envs = make("gymnasium_env", 8, id="FrozenLake-v1")
    envs.reset()
    assert isinstance(envs.single_action_space, spaces.Discrete)
    assert isinstance(envs.action_space, spaces.MultiDiscrete)
    observations, rewards, terminations, truncations, infos = envs.step(sample(envs))
    assert isinstance(envs.observation_space, spaces.MultiDiscrete)
    assert isinstance(observations, np.ndarray)
    assert observations.dtype == envs.observation_space.dtype
    assert observations.shape == (8,) == envs.observation_space.shape
    assert (rewards.dtype, rewards.shape) == (np.float64, (8,))
    for flags in (terminations, truncations):
        assert (flags.dtype, flags.shape) == (np.bool_, (8,))
    assert isinstance(infos, dict)


@pytest.mark.filterwarnings("ignore:.*Casting input x")  # a scalar out of a Box of shape ()
@pytest.mark.parametrize("space", toy_module.SPACES)
def test_observation_and_action_spaces(make: Make, space: str) -> None:
    envs = make("echo", 2, space=space)
    assert envs.single_observation_space == envs.single_action_space == toy_module.SPACES[space]()
    assert envs.observation_space == envs.action_space
    observations, _ = envs.reset()
    assert observations in envs.observation_space
    observations, *_ = envs.step(envs.action_space.sample())
    assert observations in envs.observation_space
    singles = gym.vector.utils.iterate(envs.observation_space, observations)
    assert all(one in envs.single_observation_space for one in singles)


class Words(gym.Space[str]):
    """A custom space."""

    def __init__(self) -> None:
        super().__init__((), str)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return "word"

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Words)


def test_custom_spaces_are_refused_by_name(toys: ToyServer) -> None:
    """The one difference: `SyncVectorEnv` makes a `Tuple` of a space that it does not know."""
    one = lambda: toy_module.FunctionEnv(observation_space=Words())  # noqa: E731
    assert isinstance(SyncVectorEnv([one]).observation_space, spaces.Tuple)
    with (
        toys.vector("naughty", 2, {"build": "custom space"}) as envs,
        pytest.raises(RemoteGymError, match="CustomSpace"),
    ):
        envs.reset()


def test_differing_spaces_raise(make: Make) -> None:
    """Each environment of a session must have the same spaces."""
    with pytest.raises((RuntimeError, RemoteGymError), match="space"):
        make_differing(make).reset()


def make_differing(make: Make) -> Any:
    envs = make("naughty", 8, build="differing")  # enough for odd and even env_ids
    if isinstance(envs, SyncVectorEnv):  # it was not told its env_id, by which the toy's spaces differ
        return SyncVectorEnv([lambda i=i: toy_module.create("naughty", i, build="differing") for i in range(2)])
    return envs


# Signatures.


SOME = ("reset", "step", "reset_async", "step_async")
"""Of some environments, if they are named."""


def names_of(function: Any) -> list[tuple[str, Any]]:
    return [(name, parameter.default) for name, parameter in inspect.signature(function).parameters.items()]


@pytest.mark.parametrize("name", ["reset", "step", "reset_async", "reset_wait", "step_async", "step_wait", "call_wait"])
def test_signatures_are_those_of_the_local_ones(name: str) -> None:
    theirs = names_of(getattr(AsyncVectorEnv, name))
    ours = names_of(getattr(RemoteVectorEnv, name))
    assert ours[1 : len(theirs)] == theirs[1:]
    assert ours[len(theirs) :] == ([("env_id", None)] if name in SOME else [])
    if hasattr(gym.Env, name):
        assert names_of(getattr(RemoteEnvironment, name)) == names_of(getattr(gym.Env, name))


def test_every_public_member_of_the_bases_is_there() -> None:
    for ours, theirs in ((RemoteVectorEnv, AsyncVectorEnv), (RemoteEnvironment, gym.Env)):
        missing = [name for name in dir(theirs) if not name.startswith("_") and not hasattr(ours, name)]
        assert not missing


# Seeds.


def test_seeds(make: Make) -> None:
    envs = make("gymnasium_env", 3, id="CartPole-v1")
    first, _ = envs.reset(seed=42)
    assert envs.np_random_seed == (42, 43, 44)
    second, _ = envs.reset()
    assert envs.np_random_seed == (42, 43, 44)
    assert (first != second).any()
    again, _ = envs.reset(seed=[42, 43, 44])
    assert_equal(again, first)
    swapped, _ = envs.reset(seed=[44, 43, 42])
    assert_equal(swapped, first[::-1])
    envs.reset(seed=[7, None, None])
    assert envs.np_random_seed == (7, 43, 42)


def test_the_seed_before_any_reset(make: Make) -> None:
    envs = make("gymnasium_env", 3, id="CartPole-v1")
    assert len(set(envs.np_random_seed)) == 3
    assert all(type(seed) is int for seed in envs.np_random_seed)


@pytest.mark.parametrize("seed", [[1, 2], [1, 2, 3, 4], []])
def test_a_wrong_number_of_seeds(make: Make, seed: Any) -> None:
    envs = make("counter")
    with pytest.raises(ValueError, match="length"):
        envs.reset(seed=seed)
    envs.reset(seed=[1, 2, 3])


def test_action_spaces_are_seedable(make: Make, toys: ToyServer) -> None:
    envs, local = make("echo", space="nested"), toy_module.echo("nested")
    batched = gym.vector.utils.batch_space(local.action_space, 3)
    for space, oracle in ((envs.action_space, batched), (envs.single_action_space, local.action_space)):
        assert space.seed(123) == oracle.seed(123)
        for _ in range(10):
            assert_same(space.sample(), oracle.sample())


# Attributes and calls.


def test_call(make: Make) -> None:
    pytest.importorskip("pygame")
    envs = make("gymnasium_env", 4, id="CartPole-v1", render_mode="rgb_array_list")
    envs.reset()
    images, gravity = envs.call("render"), envs.call("gravity")
    assert isinstance(images, tuple) and isinstance(gravity, tuple)
    assert gravity == (9.8,) * 4 and type(gravity[0]) is float
    assert [len(frames) for frames in images] == [1] * 4
    assert isinstance(images[0][0], np.ndarray)


def test_call_with_arguments(make: Make) -> None:
    envs = make("gymnasium_env", 2, id="Taxi-v4")
    assert envs.call("encode", 0, 1, pass_loc=2, dest_idx=3) == (31, 31)


def test_set_attr(make: Make) -> None:
    envs = make("gymnasium_env", 4, id="CartPole-v1")
    for values in ([9.81, 3.72, 8.87, 1.62], (1.0, 2.0, 3.0, 4.0)):
        envs.set_attr("gravity", values)
        assert envs.get_attr("gravity") == tuple(values)
    envs.set_attr("gravity", 9.81)
    assert envs.get_attr("gravity") == (9.81,) * 4
    with pytest.raises(ValueError, match="4"):
        envs.set_attr("gravity", [1.0])


def test_attributes_that_are_missing(make: Make) -> None:
    envs = make("counter", 2)
    with pytest.raises((AttributeError, RemoteGymError), match="nowhere"):
        envs.get_attr("nowhere")


def test_render(make: Make) -> None:
    pytest.importorskip("pygame")
    envs = make("gymnasium_env", 3, id="CartPole-v1", render_mode="rgb_array")
    assert envs.render_mode == "rgb_array"
    envs.reset()
    frames = envs.render()
    assert isinstance(frames, tuple) and len(frames) == 3
    assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in frames)


def test_no_render_mode(make: Make) -> None:
    assert make("gymnasium_env", 2, id="CartPole-v1").render_mode is None


@pytest.mark.parametrize("mode", [*AutoresetMode, *(mode.value for mode in AutoresetMode)])
def test_metadata(make: Make, mode: Any) -> None:
    envs = make("counter", 2, autoreset_mode=mode)
    assert envs.metadata == {**toy_module.FunctionEnv.metadata, "autoreset_mode": AutoresetMode(mode)}
    assert envs.metadata["autoreset_mode"] is envs.autoreset_mode is AutoresetMode(mode)


# Autoreset: the numbers of Gymnasium's own tests.


@pytest.fixture
def counting(make: Make) -> Make:
    def start(mode: AutoresetMode) -> Any:
        envs = make("counting", 3, autoreset_mode=mode)
        envs.set_attr("max_count", [2, 3, 3])
        observations, infos = envs.reset()
        assert_equal(observations, [0, 0, 0])
        assert infos == {}
        return envs

    return start


def assert_step(envs: Any, observations: Any, rewards: Any, terminations: Any, infos: Any = None) -> None:
    result = envs.step([1, 2, 3])
    assert_equal(result[0], observations)
    assert_equal(result[1], rewards)
    assert_equal(result[2], np.array(terminations, bool))
    assert not result[3].any()
    assert_same(result[4], infos or {})


def finals(observations: Any, mask: Any) -> dict[str, Any]:
    flags = np.array(mask, bool)
    array = np.empty(3, object)
    array[:] = [observation if flag else None for observation, flag in zip(observations, mask, strict=True)]
    return {"final_obs": array, "_final_obs": flags, "final_info": {}, "_final_info": flags}


def test_autoreset_next_step(counting: Make) -> None:
    envs = counting(AutoresetMode.NEXT_STEP)
    assert_step(envs, [1, 1, 1], [1, 2, 3], [0, 0, 0])
    assert_step(envs, [2, 2, 2], [1, 2, 3], [1, 0, 0])
    assert_step(envs, [0, 3, 3], [0, 2, 3], [0, 1, 1])
    assert_step(envs, [1, 0, 0], [1, 0, 0], [0, 0, 0])


def test_autoreset_same_step(counting: Make) -> None:
    envs = counting(AutoresetMode.SAME_STEP)
    assert_step(envs, [1, 1, 1], [1, 2, 3], [0, 0, 0])
    assert_step(envs, [0, 2, 2], [1, 2, 3], [1, 0, 0], finals([2, 0, 0], [1, 0, 0]))
    assert_step(envs, [1, 0, 0], [1, 2, 3], [0, 1, 1], finals([0, 3, 3], [0, 1, 1]))
    assert_step(envs, [0, 1, 1], [1, 2, 3], [1, 0, 0], finals([2, 0, 0], [1, 0, 0]))


def test_autoreset_disabled(counting: Make) -> None:
    envs = counting(AutoresetMode.DISABLED)
    assert_step(envs, [1, 1, 1], [1, 2, 3], [0, 0, 0])
    assert_step(envs, [2, 2, 2], [1, 2, 3], [1, 0, 0])
    observations, infos = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert_equal(observations, [0, 2, 2])
    assert infos == {}
    assert_step(envs, [1, 3, 3], [1, 2, 3], [0, 1, 1])
    observations, infos = envs.reset(options={"reset_mask": np.array([False, True, True])})
    assert_equal(observations, [1, 0, 0])
    assert_step(envs, [2, 1, 1], [1, 2, 3], [1, 0, 0])
    with pytest.raises((AssertionError, gym.error.ResetNeeded)):
        envs.step([1, 2, 3])


@pytest.mark.parametrize("space", toy_module.SPACES)
def test_same_step_final_observations_are_in_their_space(make: Make, space: str) -> None:
    envs = make("echo", 2, space=space, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.reset(seed=1)
    seen = 0
    for _ in range(12):
        *_, infos = envs.step(envs.action_space.sample())
        for index in np.flatnonzero(infos.get("_final_obs", [])):
            seen += 1
            assert infos["final_obs"][index] in envs.single_observation_space
    assert seen


@pytest.mark.parametrize("mode", AutoresetMode)
def test_partial_reset(make: Make, mode: AutoresetMode) -> None:
    envs = make("gymnasium_env", 3, id="CartPole-v1", autoreset_mode=mode)
    first, _ = envs.reset(seed=[0, 1, 2])
    for _ in range(3):
        stepped, *_ = envs.step(np.array([0, 1, 0]))
    masked, _ = envs.reset(seed=[0, 1, 0], options={"reset_mask": np.array([True, True, False])})
    assert_equal(masked[:2], first[:2])
    assert_equal(masked[2], stepped[2])


@pytest.mark.parametrize(
    "mask",
    [
        np.array([True]),
        np.array([True, True, False, False]),
        np.array([[True, True, True]]),
        np.array([1, 1, 0]),
        np.array([1.0, 1.0, 0.0]),
        np.zeros(3, bool),
        [True, True, False],
    ],
)
def test_wrong_masks(make: Make, mask: Any) -> None:
    envs = make("counter", autoreset_mode=AutoresetMode.DISABLED)
    envs.reset()
    with pytest.raises((TypeError, ValueError), match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


# Halves of a step, as `AsyncVectorEnv` has them.


def test_halves_out_of_order(toys: ToyServer) -> None:
    with toys.vector("counter") as envs:
        actions = np.zeros(3, np.int64)
        for wait in (envs.reset_wait, envs.step_wait):
            with pytest.raises(NoAsyncCallError):
                wait()
        envs.reset_async(seed=1)
        for call in (envs.reset_async, lambda: envs.step_async(actions), lambda: envs.call("steps"), envs.render):
            with pytest.raises(AlreadyPendingCallError, match="pending call to `reset`"):
                call()
        with pytest.raises(NoAsyncCallError):
            envs.step_wait()
        assert_equal(envs.reset_wait()[0][:, 0], [1, 2, 3])
        envs.step_async(actions)
        with pytest.raises(NoAsyncCallError):
            envs.reset_wait()
        with pytest.raises(AlreadyPendingCallError, match="pending call to `step`"):
            envs.set_attr("steps", 3)
        assert_equal(envs.step_wait(timeout=60)[0][:, 1], [1, 1, 1])
        envs.call_async("steps")
        with pytest.raises(AlreadyPendingCallError, match="pending call to `call`"):
            envs.step(actions)
        assert envs.call_wait(timeout=60) == (1, 1, 1)
        with pytest.raises(NoAsyncCallError):
            envs.call_wait()


def test_a_call_that_raises_is_over(toys: ToyServer) -> None:
    with toys.vector("counter") as envs:
        envs.reset(seed=1)
        envs.call_async("nowhere")
        with pytest.raises(EnvironmentRaised, match="nowhere"):
            envs.call_wait()
        assert envs.call("steps") == (0, 0, 0)


def test_a_call_that_takes_too_long_stays_pending(toys: ToyServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with toys.vector("gated", 1, {"gate": str(gate)}) as envs:
        envs.reset()
        envs.call_async("step", 1)
        for _ in range(2):
            with pytest.raises(TimeoutError):
                envs.call_wait(timeout=0.05)
        gate.write_bytes(b"")
        ((_, reward, *_),) = envs.call_wait(timeout=60)
        assert reward == 1.0


def test_close(make: Make) -> None:
    envs = make("counter")
    envs.reset()
    assert envs.closed is False
    envs.close()
    envs.close()
    assert envs.closed is True


def test_close_with_a_pending_step(toys: ToyServer) -> None:
    envs = toys.vector("counter")
    envs.reset()
    envs.step_async(np.zeros(3, np.int64))
    with pytest.warns(UserWarning, match="Calling `close` while waiting for a pending call to `step` to complete"):
        envs.close(timeout=1, terminate=True)
    with pytest.raises(ClosedEnvironmentError):
        envs.step_wait()


def test_with_statement_and_unwrapped(make: Make) -> None:
    envs = make("counter")
    assert envs.unwrapped is envs
    assert "3" in str(envs)


# gymnasium.make and gymnasium.make_vec. Warnings are errors, here and in the interpreters that are started.


@pytest.fixture
def arguments(toys: ToyServer) -> dict[str, Any]:
    """What a client passes for a CartPole with an episode length of its own."""
    return {
        "url": toys.server.address,
        "remote_args": {"entrypoint_kwargs": {"toy": "gymnasium_env", "id": "CartPole-v1", "max_episode_steps": 7}},
        "client_credentials_paths": tuple(str(path) for path in toys.certificates.client),
    }


def steps_until_truncated(env: Any) -> int:
    env.reset(seed=1)
    for number in range(1, 30):
        _, _, terminated, truncated, _ = env.step(number % 2)
        assert not terminated
        if truncated:
            return number
    return 0


def wrappers_of(env: Any) -> list[type]:
    kinds = []
    while isinstance(env, gym.Wrapper):
        kinds.append(type(env))
        env = env.env
    return kinds


def test_make(arguments: dict[str, Any]) -> None:
    with gym.make(REMOTE_ID, **arguments) as env:
        assert type(env) is RemoteEnvironment, "nothing around it: no second TimeLimit, no second checker"
        assert steps_until_truncated(env) == 7
        assert env.spec.id == "remote_gym/Remote-v0"
        assert env.spec.kwargs == arguments
        assert env.unwrapped is env


def test_make_with_a_time_limit_of_its_own(arguments: dict[str, Any]) -> None:
    with gym.make(REMOTE_ID, max_episode_steps=3, **arguments) as env:
        assert wrappers_of(env) == [gym.wrappers.TimeLimit]
        assert steps_until_truncated(env) == 3


def test_make_with_the_checker(arguments: dict[str, Any]) -> None:
    with gym.make(REMOTE_ID, disable_env_checker=False, **arguments) as env:
        assert wrappers_of(env) == [gym.wrappers.PassiveEnvChecker]
        assert steps_until_truncated(env) == 7


@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list", "human"])
def test_make_with_a_render_mode(arguments: dict[str, Any], mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with (
        gym.make(REMOTE_ID, render_mode=mode, **arguments) as env,
        gym.make("CartPole-v1", render_mode="rgb_array" if mode == "human" else mode) as local,
    ):
        assert wrappers_of(env) == []
        assert env.render_mode == mode
        env.reset(seed=1), local.reset(seed=1)
        env.step(1), local.step(1)
        assert_same(env.render(), None if mode == "human" else local.render())


def test_the_spec_makes_it_again(arguments: dict[str, Any]) -> None:
    with gym.make(REMOTE_ID, **arguments) as env:
        first = env.reset(seed=1)
        copies = [env.spec, pickle.loads(pickle.dumps(env.spec)), EnvSpec.from_json(env.spec.to_json())]
    for spec in copies:
        with gym.make(spec) as again:
            assert_same(again.reset(seed=1), first)
            assert again.spec.id == env.spec.id


def test_make_vec(arguments: dict[str, Any]) -> None:
    envs = gym.make_vec(REMOTE_ID, num_envs=3, autoreset_mode="SameStep", **arguments)
    local = SyncVectorEnv([lambda: gym.make("CartPole-v1", max_episode_steps=7)] * 3, autoreset_mode="SameStep")
    try:
        assert type(envs) is RemoteVectorEnv
        assert envs.spec.id == "remote_gym/Remote-v0"
        assert envs.spec.kwargs["num_envs"] == 3
        assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        compare(envs, local, 10)
    finally:
        envs.close(), local.close()


def compare(ours: Any, theirs: Any, steps: int) -> None:
    assert_same(ours.reset(seed=1), theirs.reset(seed=1))
    for number in range(steps):
        actions = np.full(ours.num_envs, number % 2)
        assert_same(ours.step(actions), theirs.step(actions), f"step {number}")


def test_the_vector_spec_makes_it_again(arguments: dict[str, Any]) -> None:
    envs = gym.make_vec(REMOTE_ID, num_envs=3, **arguments)
    first = envs.reset(seed=1)
    envs.close()
    for spec in (envs.spec, pickle.loads(pickle.dumps(envs.spec))):
        again = gym.make_vec(spec)
        assert (type(again), again.num_envs) == (RemoteVectorEnv, 3)
        assert_same(again.reset(seed=1), first)
        again.close()


def test_make_vec_sync(arguments: dict[str, Any]) -> None:
    envs = gym.make_vec(REMOTE_ID, num_envs=2, vectorization_mode="sync", **arguments)
    local = gym.make_vec("CartPole-v1", num_envs=2, vectorization_mode="sync", max_episode_steps=7)
    try:
        assert type(envs) is SyncVectorEnv
        assert [type(env) for env in envs.envs] == [RemoteEnvironment] * 2
        assert envs.observation_space == local.observation_space
        compare(envs, local, 10)
    finally:
        envs.close(), local.close()


def test_make_without_a_server() -> None:
    with pytest.raises(MisuseError, match="REMOTE_GYM_URL"):
        gym.make(REMOTE_ID)
    with pytest.raises(MisuseError, match="REMOTE_GYM_URL"):
        gym.make_vec(REMOTE_ID, num_envs=2)


def test_make_by_variables(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_GYM_URL", arguments.pop("url"))
    monkeypatch.setenv("REMOTE_GYM_ROOT_CERTIFICATE", arguments.pop("client_credentials_paths")[0])
    with gym.make(REMOTE_ID, **arguments) as env:
        assert steps_until_truncated(env) == 7
    envs = gym.make_vec(REMOTE_ID, num_envs=2, **arguments)
    assert envs.reset(seed=1)[0].shape == (2, 4)
    envs.close()


FRESH = """
import sys
import gymnasium as gym
assert "remote_gym" not in sys.modules
kwargs = {"remote_args": {"entrypoint_kwargs": {"toy": "gymnasium_env", "id": "CartPole-v1", "max_episode_steps": 7}}}
env = gym.make("remote_gym:remote_gym/Remote-v0", **kwargs)
env.reset(seed=1)
flags = [env.step(number % 2)[3] for number in range(7)]
assert flags == [False] * 6 + [True], flags
env.close()
envs = gym.make_vec("remote_gym:remote_gym/Remote-v0", num_envs=2, **kwargs)
envs.reset(seed=1)
flags = [envs.step([number % 2] * 2)[3].any() for number in range(7)]
assert flags == [False] * 6 + [True], flags
envs.close()
print("done")
"""


def test_in_a_fresh_interpreter_that_imports_gymnasium_only(arguments: dict[str, Any]) -> None:
    variables = {
        "REMOTE_GYM_URL": arguments["url"],
        "REMOTE_GYM_ROOT_CERTIFICATE": arguments["client_credentials_paths"][0],
    }
    command = [sys.executable, "-W", "error", "-c", FRESH]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **variables})
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_the_registration_itself_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gym.spec("remote_gym/Remote-v0").max_episode_steps is None
