"""Infos as Gymnasium 0.29 aggregates them, compared with what it has given; and those of hosted vector environments."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from compat.gymnasium_0_29 import NUM_ENVS, RECORDING, SEED, STEPS, Telling, told
from sameness import assert_same

from remote_gym import CodecError
from remote_gym.client.old_infos import add_old_infos, as_old_infos
from remote_gym.info_blocks import InfoBlock, pack_infos, unpack_infos


def block(infos: dict[int, dict[str, Any]]) -> InfoBlock:
    return unpack_infos(pack_infos(list(infos), list(infos.values())))


def test_what_the_old_version_has_given() -> None:
    recorded = json.loads(RECORDING.read_text())
    envs = [Telling() for _ in range(NUM_ENVS)]
    said = {index: env.reset(seed=SEED + index)[1] for index, env in enumerate(envs)}
    ends = 0
    for step in range(STEPS + 1):
        infos = add_old_infos({}, block(said), NUM_ENVS)
        assert told(infos) == recorded[step][1], f"step {step}"
        ends += "final_info" in infos
        for index, env in enumerate(envs):
            observation, _, terminated, truncated, said[index] = env.step(0)
            if terminated or truncated:  # as a worker does it
                final = {"final_obs": deepcopy(observation), "final_info": deepcopy(said[index])}
                said[index] = {**final, **env.reset()[1]}
    assert ends > 3


def test_several_blocks_and_none() -> None:
    assert add_old_infos({}, InfoBlock(), 2) == {}
    infos = add_old_infos({}, block({0: {"a": 1}}), 3)
    infos = add_old_infos(infos, block({2: {"a": 2.5, "b": {"c": 1}}}), 3)
    expected = {
        "a": np.array([1, 0, 2]), "_a": np.array([True, False, True]),
        "b": np.array([None, None, {"c": 1}], object), "_b": np.array([False, False, True]),
    }  # fmt: skip
    assert_same(infos, expected)
    with pytest.raises(CodecError, match="env 3"):
        add_old_infos({}, block({3: {"a": 1}}), 3)


def test_an_environment_may_say_what_is_a_masks_name() -> None:
    infos = add_old_infos({}, block({0: {"a": 1, "_a": 5}}), 1)  # KeyError in the old version
    assert infos["a"].tolist() == [1]


def test_a_hosted_vector_environment_says_the_rest_in_its_own_way() -> None:
    mask = np.array([False, True])
    infos = {"lives": np.ones(2), "final_obs": np.array([None, 5], object), "_final_obs": mask}
    infos |= {"final_info": {"r": np.array([0.0, 1.5]), "_r": mask}, "_final_info": mask}
    expected = {
        "lives": np.ones(2), "final_observation": np.array([None, 5], object), "_final_observation": mask,
        "final_info": np.array([None, {"r": 1.5}], object), "_final_info": mask,
    }  # fmt: skip
    assert_same(as_old_infos(infos, 2), expected)
    assert_same(as_old_infos({"lives": 3}, 2), {"lives": 3})
