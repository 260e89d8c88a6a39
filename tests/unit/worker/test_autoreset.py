"""Autoreset of one environment, against Gymnasium's own, and what an exception does to it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sameness import assert_same
from toys import FunctionEnv, counter, same_buffer

from remote_gym.autoreset import NONE, parse_mode
from remote_gym.errors import MisuseError
from remote_gym.worker.autoreset import AutoresetEnvironment


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_it_is_gymnasiums(mode: str) -> None:
    ours, oracle = AutoresetEnvironment(counter(), mode), SyncVectorEnv([counter], autoreset_mode=mode)
    observation, info = ours.reset(3, None)
    theirs, infos = oracle.reset(seed=3)
    assert_same(observation[None], theirs)
    assert info["episodes"] == infos["episodes"][0]
    for action in [0, 0, 2, 0, 0, 0, 0, 0, 0, 2, 2, 2, 0]:
        observation, *scalars, info = ours.step(action)
        theirs, *others, infos = oracle.step(np.array([action]))
        assert_same(observation[None], theirs)
        assert [float(scalar) for scalar in scalars] == [float(other[0]) for other in others]
        assert [key for key in infos if not key.startswith("_")] == list(info)
        if "final_obs" in info:
            assert_same(info["final_obs"], infos["final_obs"][0])
            assert info["final_info"]["steps"] == infos["final_info"]["steps"][0]
    oracle.close()


def test_disabled_refuses_until_the_reset() -> None:
    env = AutoresetEnvironment(counter(), "Disabled")
    env.reset(1, None)
    assert env.step(2)[2]
    for _ in range(2):
        with pytest.raises(gym.error.ResetNeeded, match="reset_mask"):
            env.step(0)
    env.reset(None, None)
    env.step(0)


def test_none_passes_everything_on() -> None:
    env = AutoresetEnvironment(counter(), NONE)
    env.reset(1, None)
    env.step(2)
    assert env.step(0)[0][1] == 2


def test_a_reset_forgets_what_was_pending() -> None:
    env = AutoresetEnvironment(counter(), "NextStep")
    env.reset(1, None)
    env.step(2)
    env.reset(1, None)
    assert env.step(0)[0][1] == 1, "a step, not the reset that was due"


def test_the_final_observation_is_no_alias() -> None:
    env = AutoresetEnvironment(same_buffer(), "SameStep")
    env.reset(1, None)
    steps = [env.step(0) for _ in range(3)]
    assert steps[-1][0].tolist() == [-1] * 3
    assert steps[-1][4]["final_obs"].tolist() == [3] * 3


@pytest.mark.parametrize("mode", [NONE, *(member.value for member in AutoresetMode)])
@pytest.mark.parametrize("where", ["step", "reset"])
def test_an_exception_asks_for_a_reset(mode: str, where: str) -> None:
    broken: list[str] = []

    def step(env: FunctionEnv, action: Any) -> Any:
        if "step" in broken:
            raise RuntimeError("in step")
        return np.zeros(2, np.float32), 0.0, "over" in broken, False, {}

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        if "reset" in broken:
            raise RuntimeError("in reset")
        return np.zeros(2, np.float32), {}

    env = AutoresetEnvironment(FunctionEnv(step, reset), mode)
    env.reset(None, None)
    broken.append(where)
    with pytest.raises(RuntimeError, match=where):
        env.step(0) if where == "step" else env.reset(None, None)
    broken.clear()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(None, None)
    env.step(0)


def test_an_autoreset_that_raises() -> None:
    fails = [False]

    def reset(env: FunctionEnv, seed: Any, options: Any) -> Any:
        if fails[0]:
            raise RuntimeError("in reset")
        return np.zeros(2, np.float32), {}

    for mode, steps in (("NextStep", 1), ("SameStep", 0)):
        fails[0] = False
        over = FunctionEnv(lambda env, action: (np.zeros(2, np.float32), 1.0, True, False, {}), reset)
        env = AutoresetEnvironment(over, mode)
        env.reset(None, None)
        fails[0] = True
        for _ in range(steps):
            env.step(0)
        with pytest.raises(RuntimeError):
            env.step(0)
        fails[0] = False
        with pytest.raises(gym.error.ResetNeeded):
            env.step(0)
        env.reset(None, None)
        env.step(0)


def test_one_that_stands_in_for_a_lost_one_needs_a_reset() -> None:
    env = AutoresetEnvironment(counter(), "NextStep", needs_reset=True)
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(1, None)
    env.step(0)


def test_modes_by_name() -> None:
    for member in AutoresetMode:
        assert parse_mode(member) is parse_mode(member.value) is member
    with pytest.raises(MisuseError, match="'next_step' is not one of 'NextStep', 'SameStep', 'Disabled'"):
        parse_mode("next_step")
