"""What `RemoteEnvironment` promises besides equal numbers and types."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from conftest import ServerFactory, ToyServer
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env
from sameness import assert_same

from remote_gym import EnvironmentRaised, MisuseError, RemoteEnvironment


def test_direct_base_is_gymnasiums() -> None:
    assert RemoteEnvironment.__mro__[1] is gym.Env


# The hosted CartPole's own bounds; the checker says the same of the local one.
UNBOUNDED = pytest.mark.filterwarnings("ignore:.*A Box observation space (min|max)imum value is")


@UNBOUNDED
@pytest.mark.parametrize("id", ["CartPole-v1", "FrozenLake-v1", "Blackjack-v1"])
def test_check_env(toys: ToyServer, id: str) -> None:
    with toys.single("gymnasium_env", {"id": id}) as env:
        check_env(env, skip_render_check=True)  # the checker renders `spec.make()`, a local environment


def test_check_env_of_a_toy_without_spec(toys: ToyServer) -> None:
    with toys.single("echo", {"space": "nested"}) as env:
        assert env.spec is None
        check_env(env, skip_render_check=True)


@UNBOUNDED
def test_check_env_renders(toys: ToyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with toys.single("gymnasium_env", {"id": "CartPole-v1"}, render_mode="rgb_array") as env:
        check_env(env)


def test_dials_on_first_need_only() -> None:
    env = RemoteEnvironment("127.0.0.1", 1)
    assert env.render_mode is None
    assert repr(env) == str(env) == "<RemoteEnvironment(127.0.0.1:1)>"
    assert env.unwrapped is env
    env.close()


def test_attributes_are_those_of_the_hosted_one(toys: ToyServer) -> None:
    local = gym.make("MountainCarContinuous-v0")
    with toys.single("gymnasium_env", {"id": "MountainCarContinuous-v0"}) as env:
        assert env.observation_space == local.observation_space
        assert env.action_space is env.action_space
        assert env.metadata == local.metadata
        assert env.spec == local.spec
        assert "MountainCarContinuous-v0" in repr(env)
        env.spec.make().close()
        env.spec = None
        assert env.spec is None
    local.close()


def test_reset_seeds_its_own_generator_too(toys: ToyServer) -> None:
    with toys.single("counter") as env:
        env.reset(seed=12)
        assert env.np_random_seed == 12
        assert env.np_random.integers(1000) == np.random.default_rng(np.random.SeedSequence(12)).integers(1000)


def test_options_reach_the_environment(toys: ToyServer) -> None:
    with toys.single("echo", {"space": "discrete"}) as env:
        for options in (None, {}, {"goal": (1, np.float32(2))}):
            assert_same(env.reset(options=options)[1]["options"], options)


def test_it_resets_when_the_user_says_so(toys: ToyServer) -> None:
    with toys.single("counter", {"length": 2}) as env:
        env.reset(seed=1)
        assert [env.step(0)[3] for _ in range(3)] == [False, True, True]
        assert env.reset()[1]["episodes"] == 2


def test_attributes_of_the_hosted_environment(toys: ToyServer) -> None:
    with toys.single("counter") as env:
        env.reset(seed=1)
        env.step(0)
        assert env.get_wrapper_attr("steps") == 1
        assert env.get_wrapper_attr("render_mode") is None
        assert env.get_wrapper_attr("render")() is not None, "its own method"
        with pytest.raises(EnvironmentRaised, match="AttributeError"):
            env.get_wrapper_attr("nowhere")


def test_methods_of_the_hosted_environment_come_back_as_functions(toys: ToyServer) -> None:
    with toys.single("gymnasium_env", {"id": "Taxi-v4"}) as env:
        assert env.get_wrapper_attr("encode")(0, 1, 2, 3) == 31


def test_wrappers_go_around_it(toys: ToyServer) -> None:
    with gym.wrappers.TimeLimit(toys.single("counter", {"length": 100}), 3) as env:
        env.reset(seed=1)
        assert [env.step(0)[3] for _ in range(3)] == [False, False, True]


def test_closed(toys: ToyServer) -> None:
    env = toys.single("counter")
    env.reset()
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step(0), env.render, lambda: env.get_wrapper_attr("steps")):
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_context_manager_and_forgotten_close(toys: ToyServer) -> None:
    before = toys.server.statistics()["sessions"]
    with toys.single("counter") as env:
        env.reset()
        assert toys.server.statistics()["sessions"] == before + 1
    with pytest.raises(ClosedEnvironmentError):
        env.reset()
    env = toys.single("counter")
    env.reset()
    del env
    assert toys.server.statistics()["sessions"] == before


def test_pickle_makes_a_copy_that_dials_anew(toys: ToyServer) -> None:
    with toys.single("counter", validate_actions=True) as env:
        env.reset(seed=1)
        env.step(0)
        with pickle.loads(pickle.dumps(env)) as copy:
            copy.reset(seed=1)
            assert_same(copy.step(0)[0], np.array([1, 1]))
            with pytest.raises(MisuseError, match="outside"):
                copy.step(7)


@pytest.mark.parametrize("seed", ["1", 1.5, True, [1]])
def test_wrong_seeds(toys: ToyServer, seed: Any) -> None:
    with toys.single("counter") as env:
        with pytest.raises(MisuseError, match="Seed must be a python integer"):
            env.reset(seed=seed)
        env.reset(seed=np.int32(3))


def test_needs_a_reset(toys: ToyServer) -> None:
    with toys.single("gymnasium_env", {"id": "CartPole-v1"}) as env:
        with pytest.raises(ResetNeeded):
            env.step(0)
        env.reset()
        env.step(0)


def test_the_specs_arguments_keep_their_types(serve: ServerFactory) -> None:
    kwargs = {"desc": ["SF", "FG"], "success_rate": 1 / 3, "reward_schedule": (1, 0, 0)}
    local = gym.make("FrozenLake-v1", **kwargs)
    with RemoteEnvironment(serve("FrozenLake-v1", kwargs, num_workers=1).address) as env:
        assert env.spec == local.spec
        assert env.spec is not None
        assert type(env.spec.kwargs["reward_schedule"]) is tuple


def test_a_name_that_is_too_long_is_not_sent(toys: ToyServer) -> None:
    with toys.single("naughty") as env:
        env.reset()
        with pytest.raises(MisuseError, match="a name has 256 bytes at most"):
            env.get_wrapper_attr("x" * 300)
        env.step(0)
