"""`split` gives back what each environment has returned: the same values, of the same types, at every level."""

from __future__ import annotations

import time
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from hypothesis import given, settings
from hypothesis import strategies as st
from sameness import assert_same

from remote_gym import MisuseError
from remote_gym.infos import split

Info = dict[str, Any]


def aggregated(infos: list[Info]) -> Info:
    """Gymnasium's own."""
    env: VectorEnv[Any, Any, Any] = VectorEnv()
    env.num_envs = len(infos)
    vector_infos: Info = {}
    for index, info in enumerate(infos):
        vector_infos = env._add_info(vector_infos, info, index)
    return vector_infos


def restored(value: Any) -> Any:
    """What is to come back of a value: itself, but for NumPy's twins of Python's numbers."""
    if isinstance(value, dict):
        return {key: restored(below) if key != "final_obs" else below for key, below in value.items()}
    return value.item() if isinstance(value, np.int64 | np.float64) else value


def in_order(info: Any, like: Any) -> Any:
    """Return `info` with its keys, at every level of infos, in the order of `like`."""
    if type(info) is not dict or type(like) is not dict:
        return info
    return {key: in_order(info[key], like[key]) for key in like if key in info} | {
        key: info[key] for key in info if key not in like
    }


class Thing:
    """An object of which there is one."""


THING = Thing()
KINDS: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.booleans(),
    st.integers(0, 9).map(np.int64),
    st.floats().map(np.float64),
    st.integers(0, 9).map(np.float32),
    st.integers(0, 9).map(np.uint8),
    st.integers(0, 9).map(np.complex64),
    st.booleans().map(np.bool_),
    st.integers(0, 9).map(lambda number: np.full((2, 3), number, np.float32)),
    st.integers(0, 9).map(lambda number: np.full(1, number, ">i4")),
    st.integers(0, 1).map(lambda number: np.full((2, 0), number, np.bool_)),
    st.integers(0, 9).map(lambda number: np.array([number, None, "x"], object)),
    st.sampled_from(["", "text", None, (1, 2), [3], [np.int8(1)], b"bytes", {4}, THING, 1j]),
]
FINAL_OBS = st.sampled_from([np.zeros(2), (np.ones(1), 3), {"a": np.zeros(1)}, 5, np.float32(1)])
KEYS = ["a", "b", "_c", "__d", "x y", "final_info"]


@st.composite
def kinds_of(draw: st.DrawFn, depth: int = 2) -> Any:
    """Return a strategy of infos, one of whose keys holds values of one kind in all environments."""
    fields: dict[str, Any] = {}
    for key in draw(st.lists(st.sampled_from(KEYS), unique=True, max_size=4)):
        nested = depth and (key == "final_info" or draw(st.integers(0, 4)) == 0)
        fields[key] = draw(kinds_of(depth - 1)) if nested else draw(st.sampled_from(KINDS))
    if draw(st.booleans()):
        fields["final_obs"] = FINAL_OBS
    return st.fixed_dictionaries({}, optional=fields)


@settings(max_examples=300, deadline=None)
@given(st.data())
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")  # NumPy's, of a NaN that is printed
def test_what_was_aggregated_is_split_again(data: st.DataObject) -> None:
    drawn = data.draw(kinds_of())
    infos = data.draw(st.lists(drawn, min_size=1, max_size=5))
    got = split(aggregated(infos), len(infos))
    for index, info in enumerate(infos):
        assert_same(in_order(got[index], restored(info)), restored(info), f"environment {index}")


# Whole environments


class Telling(gym.Env[Any, Any]):
    """An environment with infos of every kind, and short episodes."""

    def __init__(self, kind: int) -> None:
        self.kind, self.steps = kind, 0
        spaces = gym.spaces
        self.observation_space = [
            spaces.Box(0, 99, (2,)), spaces.Discrete(99), spaces.Tuple([spaces.Discrete(99), spaces.Box(0, 99, (1,))]),
            spaces.Dict(a=spaces.Discrete(99)),
        ][kind]  # fmt: skip
        self.action_space = spaces.Discrete(2)

    def said(self) -> Info:
        info: Info = {"steps": self.steps, "rate": self.steps / 2, "odd": bool(self.steps % 2), "name": f"{self.steps}"}
        info |= {"parts": {"f": np.float32(self.steps), "deep": {"row": np.full(2, self.steps)}}, "none": None}
        return info if self.steps % 3 else {}

    def seen(self) -> Any:
        box = np.full(2, self.steps, np.float32)
        return [box, self.steps, (self.steps, box[:1]), {"a": self.steps}][self.kind]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Info]:
        self.length = int(self.np_random.integers(2, 5)) if seed is None else 3 + seed % 2
        self.steps = 0
        return self.seen(), {"began": True}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, Info]:
        self.steps += 1
        return self.seen(), 1.0, self.steps >= self.length, False, self.said()


@pytest.mark.parametrize("mode", AutoresetMode)
@pytest.mark.parametrize("kind", range(4))
def test_what_a_vector_environment_says_is_what_its_environments_said(mode: AutoresetMode, kind: int) -> None:
    envs = SyncVectorEnv([lambda: Telling(kind)] * 3, autoreset_mode=mode)
    alone = [Telling(kind) for _ in range(3)]
    _, infos = envs.reset(seed=1)
    expected = [env.reset(seed=1 + index)[1] for index, env in enumerate(alone)]
    assert_same(split(infos, 3), expected)
    over = [False] * 3
    for _ in range(12):
        if mode is AutoresetMode.DISABLED and any(over):
            _, infos = envs.reset(seed=2, options={"reset_mask": np.array(over)})
            expected = [env.reset(seed=2 + at)[1] if over[at] else {} for at, env in enumerate(alone)]
            assert_same(split(infos, 3), expected)
            over = [False] * 3
        if mode is AutoresetMode.NEXT_STEP:
            for env, twin in zip(envs.envs, alone, strict=True):
                twin.np_random = np.random.default_rng(5)
                env.unwrapped.np_random = np.random.default_rng(5)
        *_, infos = envs.step([0] * 3)
        expected = []
        for index, env in enumerate(alone):
            if mode is AutoresetMode.NEXT_STEP and over[index]:
                expected.append(env.reset()[1])
                over[index] = False
                continue
            observation, _, over[index], _, info = env.step(0)
            if mode is AutoresetMode.SAME_STEP and over[index]:
                length = envs.envs[index].unwrapped.length
                info = {"final_obs": observation, "final_info": info, **env.reset()[1]}
                env.length, over[index] = length, False
            expected.append(info)
        got = split(infos, 3)
        assert_same([in_order(one, like) for one, like in zip(got, expected, strict=True)], expected)


def test_what_a_wrapper_of_the_batch_adds_without_masks_is_of_those_it_is_for() -> None:
    envs = RecordEpisodeStatistics(SyncVectorEnv([lambda: Telling(0)] * 2, autoreset_mode=AutoresetMode.SAME_STEP))
    envs.reset(seed=0)
    for _ in range(3):
        *_, infos = envs.step([0] * 2)
    first, second = split(infos, 2)
    assert first["episode"]["l"] == 3 and first["episode"]["r"] == 3.0 and type(first["episode"]["r"]) is float
    assert "episode" not in second


# What was not said by one environment


def test_what_has_no_mask_is_of_all() -> None:
    infos = {"env_id": np.array([5, 2]), "pair": [1, "b"], "all": 3, "name": "ab", "many": np.zeros(3), "in": {"x": 1}}
    first, second = split(infos, 2)
    assert first["env_id"] == 5 and type(second["env_id"]) is int
    assert (first["pair"], second["pair"]) == (1, "b")
    assert first["all"] == second["all"] == 3 and second["name"] == "ab" and first["in"] == second["in"] == {"x": 1}
    assert first["many"] is second["many"]


def test_a_lone_mask_is_a_value() -> None:
    assert split({"_x": np.array([True, False])}, 2) == [{"_x": True}, {"_x": False}]


def test_what_is_no_mask_is_a_value_of_its_own() -> None:
    infos = {"time": np.array([1.5, 2.5]), "_time": np.array([3, 4]), "a": 1, "_a": {"b": 2}, "s": {1, 2}, "_s": "ab"}
    shared = {"a": 1, "_a": {"b": 2}, "s": {1, 2}, "_s": "ab"}
    assert split(infos, 2) == [{"time": 1.5, "_time": 3, **shared}, {"time": 2.5, "_time": 4, **shared}]


def test_tensors_have_rows() -> None:
    torch = pytest.importorskip("torch")
    infos = {"a": torch.arange(4).reshape(2, 2), "b": torch.tensor(3), "_a": torch.tensor([False, True])}
    first, second = split(infos, 2)
    assert "a" not in first and second["a"].tolist() == [2, 3] and first["b"].item() == 3


def test_keys_that_are_no_strings() -> None:
    infos = [{1: 5}, {}, {1: 7}]
    assert split(aggregated(infos), 3) == infos  # type: ignore[arg-type]


def test_rows_are_copies_and_objects_are_the_environments_own() -> None:
    frame = np.zeros(2)
    infos = aggregated([{"row": np.ones(2), "final_obs": frame, "thing": THING}, {"row": np.ones(2)}])
    first, _ = split(infos, 2)
    first["row"][:] = 7
    assert infos["row"].tolist() == [[1, 1], [1, 1]]
    assert first["final_obs"] is frame and first["thing"] is THING


def test_old_infos_are_split_as_well() -> None:
    ends = np.array([{"r": 1.5}, None], object)
    infos = {"final_info": ends, "_final_info": np.array([True, False])}
    assert split(infos, 2) == [{"final_info": {"r": 1.5}}, {}]


# Misuse


@pytest.mark.parametrize(
    "infos, num_envs, said",
    [
        ([], 2, "infos must be the dict"),
        ({}, -1, "num_envs"),
        ({}, "2", "num_envs"),
        ({}, True, "num_envs"),
        ({"a": np.zeros(2), "_a": np.ones(2, np.bool_)}, 3, r"infos\['_a'\] is a mask of 2 environments, not of 3"),
        ({"a": np.zeros(2), "_a": np.ones(3, np.bool_)}, 3, r"infos\['a'\] has 2 items"),
        ({"a": {"b": 5, "_b": np.ones(3, np.bool_)}}, 3, r"infos\['a'\]\['b'\] has None items"),
    ],
)
def test_what_is_not_of_so_many_rows(infos: Any, num_envs: Any, said: str) -> None:
    with pytest.raises(MisuseError, match=said):
        split(infos, num_envs)


def test_the_usual_case_costs_next_to_nothing() -> None:
    began = time.perf_counter()
    for _ in range(1_000):
        split({}, 64)
    assert time.perf_counter() - began < 0.1  # 2 µs each where nothing else runs
    assert split({}, 2) == [{}, {}] and split({}, 0) == []
