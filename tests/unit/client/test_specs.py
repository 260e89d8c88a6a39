"""`env.spec` from what a server says: data alone, and no code that this side has not registered itself."""

from __future__ import annotations

import json
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec, WrapperSpec

from remote_gym import RemoteGymError, values
from remote_gym.client import specs
from remote_gym.client.specs import read_spec

SPEC = json.loads(gym.spec("CartPole-v1").to_json())


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> EnvSpec:
    """A spec that this side has, with a vector entry point and a wrapper."""
    wrapper = WrapperSpec("RecordEpisodeStatistics", "gymnasium.wrappers:RecordEpisodeStatistics", {})
    ours = EnvSpec(
        "test/Ours-v0",
        entry_point="gymnasium.envs.classic_control:CartPoleEnv",
        vector_entry_point="gymnasium.envs.classic_control:CartPoleVectorEnv",
        additional_wrappers=(wrapper,),
    )
    monkeypatch.setitem(gym.registry, ours.id, ours)
    return ours


def test_a_spec_that_this_side_has_is_that_spec(registered: EnvSpec) -> None:
    for ours in (registered, gym.spec("CartPole-v1"), gym.spec("FrozenLake-v1")):
        assert read_spec(ours.to_json(), b"") == ours


@pytest.mark.parametrize(
    "fields",
    [
        {"entry_point": "os:system"},
        {"vector_entry_point": "os:system"},
        {"id": "test/Unknown-v0"},
        {"id": "test/Unknown-v0", "entry_point": "os:system", "vector_entry_point": "os:system"},
        {"additional_wrappers": [{"name": "x", "entry_point": "os:system", "kwargs": {}}]},
        {"additional_wrappers": [{"name": "RecordEpisodeStatistics", "entry_point": "os:system", "kwargs": {}}]},
    ],
)
def test_a_spec_brings_no_code(registered: EnvSpec, fields: dict[str, Any]) -> None:
    read = read_spec(json.dumps({**json.loads(registered.to_json()), **fields}), b"")
    known = "id" not in fields
    assert read.entry_point in ((registered.entry_point, None) if known else (None,))
    assert read.vector_entry_point in ((registered.vector_entry_point, None) if known else (None,))
    assert all(known and wrapper in registered.additional_wrappers for wrapper in read.additional_wrappers)
    assert "os:system" not in str(read)
    if read.entry_point is None:
        with pytest.raises(gym.error.Error, match="entry_point is not specified"):
            read.make()


@pytest.mark.parametrize(
    "id, plain",
    [("os:CartPole-v1", "CartPole-v1"), ("a:b:test/X-v0", "test/X-v0"), ("os:test/X-v0", "test/X-v0"), ("a/b:X", "X")],
)
def test_an_id_names_no_module(id: str, plain: str) -> None:
    assert read_spec(json.dumps({**SPEC, "id": id}), b"").id == plain


@pytest.mark.parametrize("id", ["remote_gym/Remote-v0", "GymV26Environment-v0"])
def test_ids_whose_arguments_name_what_is_run(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(gym.registry[id].entry_point, str) is False:  # shimmy is not here
        monkeypatch.setitem(gym.registry, id, EnvSpec(id, entry_point="shimmy:GymV26CompatibilityV0"))
    ours = gym.registry[id]
    read = read_spec(json.dumps({**json.loads(ours.to_json()), "kwargs": {"env_id": "os:X-v0"}}), b"")
    assert (read.entry_point, read.vector_entry_point) == (None, None)


def test_what_a_newer_gymnasium_adds_is_left_out() -> None:
    assert read_spec(json.dumps({**SPEC, "new_entry_point": "os:system"}), b"") == gym.spec("CartPole-v1")


def test_keyword_arguments_keep_their_own_types(registered: EnvSpec) -> None:
    packed = values.pack([{"size": (1, 2), "x": np.float32(1)}, [{"deque_size": np.int64(5)}]])
    read = read_spec(registered.to_json(), packed)
    assert read.kwargs == {"size": (1, 2), "x": 1.0} and type(read.kwargs["x"]) is np.float32
    (wrapper,) = read.additional_wrappers
    assert wrapper.kwargs == {"deque_size": 5} and type(wrapper.kwargs["deque_size"]) is np.int64


WRAPPER = {"name": "a", "entry_point": "b", "kwargs": None}


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", "null", "{}", "[" * 100_000, *map(json.dumps, (
        {**SPEC, "id": "a b"}, {**SPEC, "id": "os:"}, {**SPEC, "id": "x" * 300}, {**SPEC, "id": 5},
        {**SPEC, "entry_point": ["os", "system"]}, {**SPEC, "vector_entry_point": {}}, {**SPEC, "kwargs": []},
        {**SPEC, "max_episode_steps": [7]}, {**SPEC, "order_enforce": []}, {**SPEC, "reward_threshold": {}},
        {**SPEC, "additional_wrappers": {}}, {**SPEC, "additional_wrappers": [1]},
        {**SPEC, "additional_wrappers": [{"name": "a", "entry_point": "b"}]},
        {**SPEC, "additional_wrappers": [{**WRAPPER, "kwargs": 1}]},
        {**SPEC, "additional_wrappers": [{**WRAPPER, "entry_point": None}]},
    ))],
    ids=lambda text: text[-40:],
)  # fmt: skip
def test_what_is_no_spec(text: str) -> None:
    with pytest.raises((RemoteGymError, gym.error.Error, ValueError, RecursionError)):
        read_spec(text, b"")


@pytest.mark.parametrize("said", [[1], [{}], [[], []], [{}, {}], [{}, [1]], [{}, [{}]], {}, None])
def test_what_are_no_keyword_arguments(said: Any) -> None:
    with pytest.raises((RemoteGymError, ValueError)):
        read_spec(json.dumps(SPEC), values.pack(said))


def test_a_spec_is_not_read_at_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(SPEC)
    monkeypatch.setattr(specs, "MAX_SPEC_CHARACTERS", len(text))
    read_spec(text, b"")
    with pytest.raises(RemoteGymError, match="a spec of"):
        read_spec(f"{text} ", b"")
