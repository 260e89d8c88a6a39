"""One remote environment of several agents equals the local one, whatever they do; PettingZoo's own tests pass."""

from __future__ import annotations

import copy
import pickle
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import parallel_toys
import pettingzoo
import pytest
from conftest import ServeProcess, ServerFactory
from helpers import wait_until
from parallel_toys import BOOM, EXIT, KILL
from pettingzoo import ParallelEnv
from pettingzoo.utils import BaseParallelWrapper, aec_to_parallel, parallel_to_aec
from sameness import assert_same

with warnings.catch_warnings():  # PettingZoo imports its own environments in the way that it asks others to leave
    warnings.simplefilter("ignore", DeprecationWarning)
    from pettingzoo.test import max_cycles_test, parallel_api_test, parallel_seed_test, render_test
    from pettingzoo.test.state_test import test_parallel_env as check_state

from remote_gym import EnvironmentLost, EnvironmentRaised, MisuseError, RefusedError, RemoteEnvironment, RemoteVectorEnv
from remote_gym.errors import CodecError
from remote_gym.pettingzoo import RemoteParallelEnv

pytestmark = [
    # PettingZoo imports its own environments in the way that it asks others to leave.
    pytest.mark.filterwarnings("ignore:The old environment creation API:DeprecationWarning"),
    # Its Cooperative Pong does so itself.
    pytest.mark.filterwarnings("ignore:.*You are calling render method without"),
]
check_state.__test__ = False  # type: ignore[attr-defined]

KNOWN = ["flock", "steerers", "pack", "mortals", "menagerie"]


def sampled(env: Any) -> dict[Any, Any]:
    return {agent: env.action_space(agent).sample() for agent in env.agents}


def assert_equal_runs(ours: Any, theirs: Any, steps: int = 30, seed: int = 3) -> None:
    """Step both with the actions that each one's own spaces sample."""
    began = ours.reset(seed=seed, options={"x": [1]}), theirs.reset(seed=seed, options={"x": [1]})
    assert_same(*began, "reset")
    seen: set[Any] = set()
    for step in range(steps):
        assert_same(ours.agents, theirs.agents, f"agents before step {step}")
        if not ours.agents:
            assert_same(ours.reset(), theirs.reset(), f"reset before step {step}")
            seen.clear()
        for agent in set(theirs.agents) - seen:
            for env in (ours, theirs):
                env.action_space(agent).seed(step)
            seen.add(agent)
        actions = sampled(theirs)
        assert_same(sampled(ours), actions, f"actions of step {step}")
        assert_same(ours.step(actions), theirs.step(actions), f"step {step}")
        assert ours.num_agents == theirs.num_agents


@pytest.mark.parametrize("toy", KNOWN)
def test_it_equals_the_local_one(zoo: Any, toy: str) -> None:
    theirs = parallel_toys.create(toy)
    with zoo.parallel(toy) as ours:
        assert isinstance(ours, ParallelEnv)
        assert ours.unwrapped is ours
        assert (ours.possible_agents, ours.max_num_agents) == (theirs.possible_agents, len(theirs.possible_agents))
        assert_same(ours.metadata, theirs.metadata)
        assert str(ours) == str(theirs) == "toy_v0"
        for agent in theirs.possible_agents:
            assert ours.observation_space(agent) == theirs.observation_space(agent)
            assert ours.action_space(agent) == theirs.action_space(agent)
            assert ours.action_space(agent) is ours.action_space(agent)
        assert [*ours.observation_spaces] == [*ours.action_spaces] == theirs.possible_agents
        assert_equal_runs(ours, theirs)


def test_agents_that_nobody_knows_beforehand_come_and_go(zoo: Any) -> None:
    theirs = parallel_toys.create("strangers")
    with zoo.parallel("strangers") as ours:
        assert not hasattr(ours, "possible_agents")
        assert not hasattr(ours, "agents")
        assert not hasattr(ours, "state_space")
        assert_equal_runs(ours, theirs, 40)
        assert ours.action_space(("guest", 3)) == theirs.action_space(("guest", 3))
        assert ours.action_space(("guest", 3)) is ours.action_space(("guest", 4))  # as there
        with pytest.raises(KeyError, match="'host', 1"):
            ours.action_space(("host", 1))


def test_agents_that_share_a_space_object_share_one_here(zoo: Any) -> None:
    with zoo.parallel("flock") as env:
        assert env.action_space("bird_0") is env.action_space("bird_2")
    with zoo.parallel("menagerie") as env:
        assert len({id(env.action_space(agent)) for agent in env.possible_agents}) == 4


def test_actions_reach_it_as_they_are(zoo: Any) -> None:
    theirs = parallel_toys.create("menagerie")
    with zoo.parallel("menagerie") as ours:
        assert_same(ours.reset(seed=1), theirs.reset(seed=1))
        for actions in ({"ant/2": 1, "zebra 1": [0.5, 1]}, {}, {"nobody": None, "": (1, np.int8(2))}, {"köter": "x"}):
            assert_same(ours.step(actions), theirs.step(actions))


@pytest.mark.parametrize("toy", [*KNOWN, "strangers", "aec flock"])
def test_the_librarys_own_tests_pass(zoo: Any, toy: str) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*possible_agents|Live agent|Agent was given|No agents present")
        with zoo.parallel(toy) as env:
            parallel_api_test(env, num_cycles=50)
        parallel_seed_test(lambda: zoo.parallel(toy), num_cycles=50)


def test_state_and_its_space(zoo: Any) -> None:
    theirs = parallel_toys.create("flock")
    with zoo.parallel("flock") as ours:
        assert ours.state_space == theirs.state_space
        check_state(ours)
        ours.step(dict.fromkeys(ours.agents, 1))
        assert_same(ours.state(), np.array([1, 3]))
    with zoo.parallel("menagerie") as ours:
        assert not hasattr(ours, "state_space")
        ours.reset()
        with pytest.raises(NotImplementedError, match="toy_v0"):
            ours.state()


def test_frames(zoo: Any) -> None:
    with zoo.parallel("flock", render_mode="ansi") as env:
        assert env.render_mode == "ansi"
        env.reset()
        env.step(sampled(env))
        assert env.render() == "step 1"

    def make(render_mode: str) -> Any:
        return parallel_to_aec(zoo.parallel("flock", render_mode=render_mode))

    render_test(make, {})


def test_a_window_shows_what_the_server_draws(zoo: Any) -> None:
    with zoo.parallel("flock", render_mode="human") as env:
        env.reset()
        env.step(dict.fromkeys(env.agents, 1))
        assert env.render() is None


def test_max_cycles(zoo: Any) -> None:
    def parallel_env(max_cycles: int) -> Any:
        return zoo.parallel("flock", {"length": max_cycles})

    max_cycles_test(
        types.SimpleNamespace(
            parallel_env=parallel_env, env=lambda max_cycles: parallel_to_aec(parallel_env(max_cycles))
        )
    )


@pytest.mark.parametrize("name", ["frame_stack_v1", "agent_indicator_v0", "black_death_v3"])
def test_supersuits_wrappers_take_it(zoo: Any, name: str) -> None:
    wrapper = getattr(pytest.importorskip("supersuit"), name)
    with zoo.parallel("flock") as env:
        assert_equal_runs(wrapper(env), wrapper(parallel_toys.create("flock")), 9)


def test_the_librarys_wrappers_and_conversions_take_it(zoo: Any) -> None:
    theirs = parallel_toys.create("flock")
    with zoo.parallel("flock") as env:
        assert_equal_runs(BaseParallelWrapper(env), theirs, 9)
    with zoo.parallel("flock") as env:
        assert aec_to_parallel(parallel_to_aec(env)) is env


@pytest.mark.parametrize(
    ("entrypoint", "name", "kwargs"),
    [
        ("pettingzoo:butterfly/pistonball-v6", "butterfly/pistonball-v6", {"n_pistons": 4, "max_cycles": 12}),
        ("pettingzoo.butterfly:cooperative_pong_v6", "butterfly/cooperative_pong-v6", {"max_cycles": 40}),
        (
            "pettingzoo.butterfly.knights_archers_zombies_v11:parallel_env",
            "butterfly/knights_archers_zombies-v11",
            {"max_cycles": 90},
        ),
        ("pettingzoo:classic/rps-v2", "classic/rps-v2", {}),
    ],
)
def test_the_librarys_environments(serve: ServerFactory, entrypoint: str, name: str, kwargs: Any) -> None:
    server = serve(entrypoint, kwargs, num_workers=1, probe=True)
    theirs = pettingzoo.make("parallel", name, **kwargs)
    with RemoteParallelEnv(server.address) as ours:
        assert_equal_runs(ours, theirs, 80)
    theirs.close()


def test_agents_in_turn_are_refused_at_once(serve: ServerFactory) -> None:
    with pytest.raises(RefusedError, match=r"connect_four_v3.*act in turn"):
        serve("pettingzoo:classic/connect_four-v3", probe=True)


def test_a_file_is_served_and_checked(serve_process: Callable[..., ServeProcess], capfd: Any) -> None:
    from remote_gym.cli import main

    file = str(Path(parallel_toys.__file__))
    with RemoteParallelEnv(serve_process(file).address) as env:
        assert_equal_runs(env, parallel_toys.create("flock"), 8)
    assert main(["check", file, "--num-envs", "2", "--steps", "20", "--num-workers", "1"]) == 0
    assert "indistinguishable" in capfd.readouterr().out


def test_a_server_of_its_own() -> None:
    with RemoteParallelEnv.local("parallel_toys:create", entrypoint_kwargs={"toy": "mortals"}) as env:
        assert_equal_runs(env, parallel_toys.create("mortals"), 8)


def test_copies_dial_anew(zoo: Any) -> None:
    with zoo.parallel("flock", validate_actions=True) as env:
        env.reset(seed=1)
        for again in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
            with again:
                assert_same(again.reset(seed=2), env.reset(seed=2))
                with pytest.raises(MisuseError, match="'bird_1' is outside of its space"):
                    again.step({"bird_0": 1, "bird_1": 9})
                actions = dict.fromkeys(env.agents, 1)
                assert_same(again.step(actions), env.step(actions))


def test_after_close_everything_raises(zoo: Any) -> None:
    env = zoo.parallel("flock")
    env.reset()
    env.close()
    env.close()
    for call in (env.reset, lambda: env.step({}), env.render, env.state):
        with pytest.raises(gymnasium.error.ClosedEnvironmentError):
            call()
    never = zoo.parallel("flock")
    never.close()
    with pytest.raises(gymnasium.error.ClosedEnvironmentError):
        never.reset()


def test_attributes_of_the_environment_are_reached(zoo: Any) -> None:
    with zoo.parallel("flock") as env:
        assert env.call("level") == 1
        assert_same(env.call("observe", "bird_1").shape, (3,))
        with pytest.raises(AttributeError, match="'wings'"):
            env.call("wings")
        env.max_cycles = 5  # PettingZoo's tests do so
        assert env.max_cycles == 5


# What goes wrong


def test_other_servers_are_refused(toys: Any) -> None:
    with pytest.raises(MisuseError, match=r"no PettingZoo environment.*ParallelEnv"):
        toys.client(RemoteParallelEnv, "counter").reset()


@pytest.mark.parametrize("actions", [None, [1, 2], 3])
def test_what_is_no_dict_is_refused(zoo: Any, actions: Any) -> None:
    with zoo.parallel("flock") as env:
        env.reset()
        with pytest.raises(TypeError, match="actions must be a dict by agent"):
            env.step(actions)
        with pytest.raises(CodecError, match="'bird_1'"):
            env.step({"bird_1": object()})
        env.step(sampled(env) | {"bird_0": 0, "bird_1": 0, "bird_2": 0})


def test_what_is_no_result_is_told_by_name(zoo: Any) -> None:
    with zoo.parallel("unruly") as env:
        env.reset()
        with pytest.raises(EnvironmentRaised, match="toy_v0: step returned 4 items, expected 5"):
            env.step({"a": 1})


def test_what_it_raises_is_raised(zoo: Any) -> None:
    with zoo.parallel("flock") as env:
        env.reset(seed=1)
        with pytest.raises(KeyError, match="bird_1 has no such thing"):
            env.step({"bird_0": 0, "bird_1": BOOM, "bird_2": 0})
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step({"bird_0": 0, "bird_1": 0, "bird_2": 0})
        assert_same(env.reset(seed=2), parallel_toys.create("flock").reset(seed=2))


def test_a_lost_worker_raises_and_a_reset_goes_on(zoo: Any) -> None:
    with zoo.parallel("flock") as env:
        env.reset(seed=1)
        with pytest.raises(EnvironmentLost, match="SIGKILL"):
            env.step({"bird_0": 0, "bird_1": 0, "bird_2": KILL})
        assert_same(env.reset(seed=4), parallel_toys.create("flock").reset(seed=4))


def test_with_truncate_the_episode_ends_for_each_agent(zoo: Any) -> None:
    theirs = parallel_toys.create("flock")
    with zoo.parallel("flock", on_worker_failure="truncate") as env, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*were lost")
        last, _ = env.reset(seed=1)
        observations, rewards, terminations, truncations, infos = env.step({"bird_0": KILL, "bird_1": 0, "bird_2": 0})
        assert_same(observations, last)
        assert rewards == dict.fromkeys(env.possible_agents, 0.0)
        assert terminations == dict.fromkeys(env.possible_agents, False)
        assert truncations == dict.fromkeys(env.possible_agents, True)
        assert [info["remote_gym"]["lost"] for info in infos.values()] == [True] * 3
        assert env.agents == []
        assert_same(env.reset(seed=4), theirs.reset(seed=4))


def test_gymnasiums_classes_see_dicts(zoo: Any) -> None:
    with zoo.client(RemoteEnvironment, "mortals") as env:
        observation, _ = env.reset(seed=1)
        assert env.observation_space.contains(observation)
        assert observation["bird_1"].tolist() == [0, 0, 0]
        over = False
        steps = 0
        while not over:
            observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            over, steps = terminated or truncated, steps + 1
            assert type(reward) is float
        assert steps == 6
    with zoo.client(RemoteVectorEnv, "menagerie", num_envs=2) as envs:
        envs.reset(seed=1)
        envs.step(envs.action_space.sample())
    with zoo.client(RemoteEnvironment, "strangers") as env, pytest.raises(EnvironmentRaised, match="possible_agents"):
        env.reset()


def test_exit_is_the_environments(zoo: Any) -> None:
    with zoo.parallel("flock") as env:
        env.reset()
        with pytest.raises(EnvironmentRaised, match="SystemExit"):
            env.step({"bird_0": EXIT})
        wait_until(lambda: env.reset() is not None)
