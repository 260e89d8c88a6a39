"""What of a result is odd, at a limit, or usual."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym.testing import Rule
from remote_gym.testing.oddities import LARGE_BYTES, is_at_limit, is_declared, rules_of
from remote_gym.testing.toy_oddities import FLAGS, LIMITS_OF_REWARDS, OBSERVATIONS, REWARDS, Level
from remote_gym.testing.toy_spaces import SPACES

PAIR = spaces.Box(-1, 1, (2,), np.float32)
USUAL = np.zeros(2, np.float32), 1.0, False, np.bool_(True), {"a": [1, (2.0, "x")]}


@pytest.mark.parametrize("name", SPACES)
def test_samples_are_as_declared(name: str) -> None:
    space = SPACES[name]()
    space.seed(1)
    assert is_declared(space, space.sample())


@pytest.mark.parametrize("observation", OBSERVATIONS)
def test_what_is_not_as_declared(observation: Any) -> None:
    assert not is_declared(PAIR, observation)
    assert not is_declared(spaces.Dict(a=spaces.Tuple([PAIR])), {"a": (observation,)})


def test_bounds_are_not_looked_at() -> None:
    assert is_declared(PAIR, np.full(2, np.inf, np.float32))
    assert not is_declared(spaces.Discrete(2), True)


@pytest.mark.parametrize("limit", [*LIMITS_OF_REWARDS[:3], np.nan, 1j * np.inf, "x" * LARGE_BYTES, bytes(LARGE_BYTES)])
def test_limits(limit: Any) -> None:
    for value in (limit, [limit], {"a": (limit,)}, np.array([None, limit], object)):
        assert is_at_limit(value)


@pytest.mark.parametrize("usual", [0, -(2**63), 2**63 - 1, True, 1e308, "x", b"", None, np.ones(3), [], {}])
def test_no_limits(usual: Any) -> None:
    assert not is_at_limit(usual)


def test_rules() -> None:
    observation, _, terminated, truncated, info = USUAL
    assert rules_of(PAIR, 0, USUAL) == rules_of(None, 0, USUAL) == rules_of(PAIR, None, (observation, info)) == []
    for reward in REWARDS[:-1]:
        odd = (observation, reward, terminated, truncated, info)
        assert rules_of(PAIR, 0, odd) == [Rule.ODD_RESULTS] and rules_of(None, 0, odd) == []
    for flag in FLAGS:
        assert rules_of(PAIR, 0, (observation, 1, False, flag, info)) == [Rule.ODD_RESULTS]
    assert rules_of(PAIR, 0, (observation, 10**400, False, False, None)) == [Rule.LIMITS, Rule.ODD_RESULTS]
    assert rules_of(PAIR, None, (observation, {"level": Level.LOW})) == [Rule.SUBCLASSES]
    for action in ((), {}, {"a": ()}, np.zeros(0)):
        assert rules_of(PAIR, action, USUAL) == [Rule.LIMITS]
