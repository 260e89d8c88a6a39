"""Actions by agent travel as they are: order, types and whoever is missing."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from sameness import assert_same

from remote_gym import values
from remote_gym.agents import AGENTS
from remote_gym.client.actions import ActionEncoder
from remote_gym.client.agent_actions import is_by_agent, pack_by_agent
from remote_gym.errors import CodecError

SPACE = spaces.Dict({"a": spaces.Discrete(3), "b": spaces.Box(-1, 1, (2,))})


def test_the_encoder_lets_them_pass_whatever_the_space_says() -> None:
    actions = {"b": [0.5, 2], "z": 1, "a": None}
    encoded = ActionEncoder(SPACE, validate=True).encode_single({AGENTS: actions})
    assert encoded.rows == []
    assert_same(values.unpack(encoded.given), [{AGENTS: actions}])


@pytest.mark.parametrize("action", [{}, {"a": 1}, {AGENTS: {}, "a": 1}, OrderedDict({AGENTS: {}}), 1, None])
def test_others_are_not_taken_for_such(action: Any) -> None:
    assert not is_by_agent(action)


class Tensor:
    """What NumPy takes for an array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return np.array([1.5, 2.5], np.float32)


def test_tensors_arrive_as_arrays_beside_what_stays_as_it_is() -> None:
    (unpacked,) = values.unpack(pack_by_agent({AGENTS: {"a": Tensor(), "b": np.int64(1), "c": [1]}}))
    assert_same(unpacked[AGENTS], {"a": np.array([1.5, 2.5], np.float32), "b": np.int64(1), "c": [1]})


def test_what_cannot_travel_is_refused_by_its_agent() -> None:
    with pytest.raises(CodecError, match="'archer'"):
        pack_by_agent({AGENTS: {"archer": object()}})
