"""What `RemoteVectorEnv` promises besides equal numbers: when it dials, what it raises, how it ends."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import toys as toy_module
from conftest import ToyServer
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from sameness import assert_same

from remote_gym import EnvironmentRaised, MisuseError, RemoteVectorEnv

ZEROS = np.zeros(3, np.int64)


class Gate:
    """Holds steps with action 1 of the toy `gated` until it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        os.mkfifo(path)

    def open(self) -> None:
        with open(self.path, "wb"):
            pass


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


def test_direct_base_is_gymnasiums() -> None:
    assert RemoteVectorEnv.__mro__[1] is VectorEnv


def test_dials_on_first_need_only() -> None:
    env = RemoteVectorEnv("127.0.0.1", 1, num_envs=4)
    assert (env.num_envs, env.render_mode, env.autoreset_mode) == (4, None, AutoresetMode.NEXT_STEP)
    assert repr(env) == "RemoteVectorEnv(127.0.0.1:1, num_envs=4)"
    env.close()


def test_attributes_are_those_of_the_local_one(toys: ToyServer) -> None:
    oracle = SyncVectorEnv(
        [lambda: toy_module.create("gymnasium_env", id="CartPole-v1")] * 3, autoreset_mode="SameStep"
    )
    with toys.vector("gymnasium_env", 3, {"id": "CartPole-v1"}, autoreset_mode="SameStep") as env:
        assert env.metadata == oracle.metadata
        assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
        assert env.spec == oracle.envs[0].spec
        for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
            assert getattr(env, name) == getattr(oracle, name)
            assert getattr(env, name) is getattr(env, name), "the same object each time, so that its seed is kept"
        assert env.unwrapped is env
        assert "CartPole-v1" in repr(env)
        env.spec, env.metadata = None, {"render_modes": []}
        assert env.spec is None and env.metadata == {"render_modes": []}
    oracle.close()


@pytest.mark.parametrize("mode", [*AutoresetMode, *(member.value for member in AutoresetMode)])
def test_autoreset_mode_is_a_member_or_its_string(mode: Any) -> None:
    assert RemoteVectorEnv("localhost", autoreset_mode=mode).autoreset_mode is AutoresetMode(mode)


@pytest.mark.parametrize(
    "arguments, named",
    [
        ({"num_envs": 0}, "num_envs"),
        ({"num_envs": True}, "num_envs"),
        ({"num_envs": 2.0}, "num_envs"),
        ({"autoreset_mode": "Sometimes"}, "autoreset_mode"),
        ({"connect_timeout_seconds": "soon"}, "connect_timeout_seconds"),
        ({"reconnect_timeout_seconds": -1}, "reconnect_timeout_seconds"),
        ({"render_mode": 3}, "render_mode"),
        ({"remote_args": ["x"]}, "remote_args"),
        ({"client_credentials_paths": ("nowhere.pem",)}, "nowhere.pem"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        RemoteVectorEnv("localhost", 1, **arguments)


# Two halves of a step.


def test_halves_give_what_the_whole_gives(toys: ToyServer) -> None:
    with toys.vector("counter") as env, toys.vector("counter") as whole:
        env.reset_async(seed=1)
        assert_same(env.reset_wait(), whole.reset(seed=1))
        for _ in range(6):
            env.step_async(ZEROS)
            assert_same(env.step_wait(), whole.step(ZEROS))


def test_misused_halves(toys: ToyServer) -> None:
    with toys.vector("counter") as env:
        for wait in (env.step_wait, env.reset_wait):
            with pytest.raises(NoAsyncCallError, match="without"):
                wait()
        env.reset(seed=1)
        env.step_async(ZEROS)
        for call in (
            lambda: env.step_async(ZEROS),
            lambda: env.step(ZEROS),
            env.reset,
            env.reset_async,
            env.render,
            lambda: env.call("steps"),
            lambda: env.set_attr("steps", 1),
        ):
            with pytest.raises(
                AlreadyPendingCallError, match="pending call to `step` to complete: call `step_wait` first"
            ):
                call()
        with pytest.raises(NoAsyncCallError):
            env.reset_wait()
        assert env.step_wait()[1].tolist() == [1, 1, 1], "what was pending still comes"
        with pytest.raises(NoAsyncCallError):
            env.step_wait()


def test_a_timeout_leaves_the_step_pending(toys: ToyServer, gate: Gate) -> None:
    with toys.vector("gated", 3, {"gate": gate.path}) as env:
        env.reset()
        env.step(ZEROS)
        env.step_async([0, 1, 0])
        for _ in range(2):
            with pytest.raises(TimeoutError):
                env.step_wait(timeout=0.05)
        with pytest.raises(AlreadyPendingCallError):
            env.step_async(ZEROS)
        gate.open()
        assert env.step_wait(timeout=30)[1].tolist() == [2, 2, 2]
        assert env.step(ZEROS)[1].tolist() == [3, 3, 3], "neither stale nor shifted"


def test_a_reset_can_time_out_too(toys: ToyServer) -> None:
    with toys.vector("counter") as env:
        env.reset_async(seed=4)
        try:
            env.reset_wait(timeout=0)
        except TimeoutError:
            assert env.reset_wait(timeout=30)[0][:, 0].tolist() == [4, 5, 6]


# Calls.


def test_call_get_and_set(toys: ToyServer) -> None:
    with toys.vector("counter") as env:
        env.reset(seed=1)
        env.step(ZEROS)
        assert env.get_attr("steps") == (1, 1, 1)
        env.set_attr("steps", [5, 6, 7])
        assert env.call("steps") == (5, 6, 7)
        env.set_attr("goal", "north")
        assert env.get_attr("goal") == ("north",) * 3
        assert env.call("has_wrapper_attr", "nowhere") == (False,) * 3
        assert env.call("set_wrapper_attr", "goal", "south", force=False) == (True,) * 3
        with pytest.raises(EnvironmentRaised, match=r"environment 0 .*AttributeError.*'nowhere'"):
            env.get_attr("nowhere")
        with pytest.raises(ValueError, match="Got `2` values for 3"):
            env.set_attr("goal", ["a", "b"])
        with pytest.raises(EnvironmentRaised, match="result of 'get_wrapper_attr': a method cannot travel"):
            env.call("get_wrapper_attr", "step")
        assert env.call("steps") == (5, 6, 7)


def test_calls_reach_through_wrappers(toys: ToyServer) -> None:
    with toys.vector("gymnasium_env", 2, {"id": "CartPole-v1"}) as env:
        env.reset(seed=1)
        assert env.get_attr("gravity") == (9.8, 9.8)
        env.set_attr("gravity", [9.8, 1.0])
        assert env.get_attr("gravity") == (9.8, 1.0)


def test_render(toys: ToyServer) -> None:
    with toys.vector("counter", 2, render_mode="rgb_array") as env:
        assert env.render_mode == "rgb_array"
        env.reset()
        env.step(ZEROS[:2])
        frames = env.render()
        assert type(frames) is tuple and len(frames) == 2
        assert_same(frames[0], np.full((4, 4, 3), 1, np.uint8))


# The end.


def test_closed(toys: ToyServer) -> None:
    env = toys.vector("counter")
    env.reset()
    env.close()
    env.close()
    for call in (
        env.reset,
        env.reset_async,
        env.reset_wait,
        lambda: env.step(ZEROS),
        lambda: env.step_async(ZEROS),
        env.step_wait,
        env.render,
        lambda: env.call("steps"),
        lambda: env.get_attr("steps"),
        lambda: env.set_attr("steps", 1),
    ):
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_closed_before_it_was_opened() -> None:
    env = RemoteVectorEnv("localhost", 1)
    env.close()
    for call in (env.reset, lambda: env.observation_space, lambda: env.spec, lambda: env.metadata):
        with pytest.raises(ClosedEnvironmentError):
            call()


def test_close_with_work_in_flight(toys: ToyServer, gate: Gate) -> None:
    env = toys.vector("gated", 3, {"gate": gate.path})
    env.reset()
    env.step_async(np.ones(3, np.int64) * [1, 0, 0])
    with pytest.warns(UserWarning, match="pending call to `step`"):
        env.close(timeout=0, terminate=True)  # what AsyncVectorEnv takes
    with pytest.raises(ClosedEnvironmentError):
        env.step_wait()
    gate.open()
    with toys.vector("counter") as other:
        other.reset()


def test_context_manager_and_forgotten_close(toys: ToyServer) -> None:
    before = toys.server.statistics()["sessions"]
    with toys.vector("counter") as env:
        env.reset()
        assert toys.server.statistics()["sessions"] == before + 1
    assert env.closed
    env = toys.vector("counter")
    env.reset()
    del env
    assert toys.server.statistics()["sessions"] == before


def test_pickle_makes_a_copy_that_dials_anew(toys: ToyServer) -> None:
    with toys.vector("counter", 3, autoreset_mode="Disabled", copy=False) as env:
        env.reset(seed=1)
        with pickle.loads(pickle.dumps(env)) as copy:
            assert (copy.num_envs, copy.autoreset_mode) == (3, AutoresetMode.DISABLED)
            observations, _ = copy.reset(seed=1)
            assert not observations.flags.writeable
            env.step(ZEROS)
            assert_same(copy.step(ZEROS)[0][:, 1], np.ones(3, np.int64))
            assert env.get_attr("episodes") == copy.get_attr("episodes") == (1, 1, 1)
    closed = pickle.loads(pickle.dumps(env))
    assert not closed.closed


def test_needs_a_reset(toys: ToyServer) -> None:
    with toys.vector("gymnasium_env", 2, {"id": "CartPole-v1"}) as env:
        with pytest.raises((ResetNeeded, EnvironmentRaised)) as raised:
            env.step(ZEROS[:2])
        assert isinstance(raised.value, ResetNeeded)
        env.reset()
        env.step(ZEROS[:2])


def test_disabled_mode_refuses_to_step_what_is_over(toys: ToyServer) -> None:
    with toys.vector("counter", 3, autoreset_mode="Disabled") as env:
        env.reset()
        env.step([0, 2, 0])
        with pytest.raises(ResetNeeded, match=r"environments \[1\] are over.*reset_mask"):
            env.step(ZEROS)
        env.reset(options={"reset_mask": np.array([False, True, False])})
        assert env.step(ZEROS)[0][:, 1].tolist() == [2, 1, 2]


def test_gymnasium_wrappers_go_around_it(toys: ToyServer) -> None:
    inner = toys.vector("counter", 3)
    env = gym.wrappers.vector.RecordEpisodeStatistics(inner)
    env.reset(seed=1)
    ended = [env.step(ZEROS)[4] for _ in range(4)][-1]
    assert ended["episode"]["l"].tolist() == [4, 4, 4]
    assert ended["episode"]["r"].tolist() == [10, 10, 10]
    env.close()
    assert inner.closed


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"batch_size": 5},
        {"batch_size": True},
        {"on_worker_failure": "ignore"},
        {"on_session_lost": None},
    ],
)
def test_policies_and_batch_sizes_that_are_none_are_refused_by_name(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(MisuseError, match=name):
        RemoteVectorEnv("127.0.0.1", num_envs=4, **options)
