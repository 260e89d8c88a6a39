"""What environments return that is not what their spaces and Gymnasium say: it comes as locally, or fails as locally.

A single environment gives it as it is; of a batch `SyncVectorEnv` is the measure, also of what it raises.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import ToyServer
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from sameness import assert_same
from toys import ODD_FLAGS, ODD_INFOS, ODD_OBSERVATIONS, ODD_REWARDS, odd

from remote_gym import EnvironmentRaised

ODD = [
    *(f"observation: {kind}" for kind in ODD_OBSERVATIONS),
    *(f"reward: {kind}" for kind in ODD_REWARDS),
    *(f"{flag}: {kind}" for flag in ("terminated", "truncated") for kind in ODD_FLAGS),
    *(f"info: {kind}" for kind in ODD_INFOS),
]


@pytest.mark.parametrize("name", ODD)
def test_a_single_environment_gives_it_as_it_is(toys: ToyServer, name: str) -> None:
    local = odd(name)
    with toys.single("odd", {"name": name}) as env:
        for options in (None, {"odd": True}):
            assert_same(env.reset(seed=3, options=options), local.reset(seed=3, options=options), "reset")
            for action in (0, 1, 0, 1, 1, 0):
                assert_same(env.step(action), local.step(action), f"step({action})")


def outcome(call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Return a result, or the builtin type that was raised."""
    try:
        return call(*arguments, **options)
    except Exception as error:
        return next(base for base in type(error).__mro__ if base in vars(builtins).values() and base is not Exception)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("name", ODD)
def test_a_batch_is_that_of_sync_vector_env(toys: ToyServer, name: str, mode: AutoresetMode) -> None:
    local = SyncVectorEnv([lambda: odd(name)] * 2, autoreset_mode=mode)
    with toys.vector("odd", 2, {"name": name}, autoreset_mode=mode) as envs:
        for actions in ([1, 0], [0, 1], [1, 1]):
            assert_same(envs.reset(seed=3), local.reset(seed=3), "reset")
            assert_same(envs.step(np.array([0, 0])), local.step(np.array([0, 0])), "usual")
            here, there = (outcome(one.step, np.array(actions)) for one in (local, envs))
            assert_same(there, here, f"step({actions})")
        here, there = (outcome(one.reset, options={"odd": True}) for one in (local, envs))
        assert_same(there, here, "reset")


def test_a_batch_of_one_does_not_take_an_array_for_its_only_row(toys: ToyServer) -> None:
    for name in ("reward: float32 (1,)", "terminated: array (1,)", "observation: one axis more"):
        local = SyncVectorEnv([lambda name=name: odd(name)])
        with toys.vector("odd", 1, {"name": name}) as envs:
            assert_same(envs.reset(seed=3), local.reset(seed=3))
            here, there = (outcome(one.step, np.array([1])) for one in (local, envs))
            assert_same(there, here, name)


@pytest.mark.parametrize("name", ["reward: a text", "observation: None for a dict", "info: None"])
def test_after_what_does_not_fit_the_batch_goes_on(toys: ToyServer, name: str) -> None:
    with toys.vector("odd", 2, {"name": name}) as envs:
        envs.reset(seed=3)
        with pytest.raises(EnvironmentRaised, match="environment 1 returned ") as raised:
            envs.step(np.array([0, 1]))
        assert raised.value.env_index == 1
        assert envs.step(np.array([0, 0]))[4]["steps"].tolist() == [2, 2]


@pytest.mark.parametrize("item", ["reward", "terminated", "info", "observation"])
def test_what_cannot_travel_fails_and_says_so(toys: ToyServer, item: str) -> None:
    with toys.single("unportable", {"item": item}) as env:
        env.reset()
        for _ in range(2):
            with pytest.raises(EnvironmentRaised, match=rf"environment 0: .*\['{item}'\].* cannot travel"):
                env.step(1)
            env.step(0)
