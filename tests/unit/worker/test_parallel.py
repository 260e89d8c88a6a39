"""A ParallelEnv as a Gymnasium environment, and as it is. It is known by what it has: PettingZoo is not needed."""

from __future__ import annotations

import types
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from sameness import assert_same

from remote_gym.agents import (
    AGENTS,
    FACTORY,
    INFOS,
    LIVE,
    OBSERVED,
    REWARDS,
    SPACE,
    TERMINATIONS,
    TRUNCATIONS,
    build_space,
    read_about,
)
from remote_gym.errors import MisuseError
from remote_gym.worker.parallel import ParallelEnvironment, as_environment, blank, is_of_pettingzoo


class Parallel:
    """Has what a ParallelEnv has; `script` yields what reset and the steps return, and who is left."""

    metadata = {"name": "toy_v0", "render_modes": ["ansi"]}
    render_mode = "ansi"
    level = 1

    def __init__(self, *script: Any, agents: Any = ("b", "a"), shared: bool = True) -> None:
        self._script = iter(script)
        if agents is not None:
            self.possible_agents = list(agents)
        box = spaces.Box(-1, 1, (2,), np.float32)
        self._spaces = defaultdict(lambda: box if shared else spaces.Box(-1, 1, (2,), np.float32))
        self.seen: list[Any] = []

    def observation_space(self, agent: Any) -> Any:
        return self._spaces[agent]

    def action_space(self, agent: Any) -> Any:
        return spaces.Discrete(2 + len(str(agent)))

    def _next(self) -> Any:
        self.agents, *returned = next(self._script)
        return tuple(returned)

    def reset(self, seed: Any = None, options: Any = "none given") -> Any:
        self.seen.append((seed, options))
        return self._next()

    def step(self, actions: Any) -> Any:
        self.seen.append(actions)
        return self._next()

    def render(self) -> str:
        return "a frame"

    def close(self) -> None:
        self.seen.append("closed")


def obs(value: float) -> Any:
    return np.full(2, value, np.float32)


BEGIN = (["b", "a"], {"b": obs(1), "a": obs(2)}, {"b": {}, "a": {}})


def presented(*script: Any, **options: Any) -> ParallelEnvironment:
    env = as_environment(Parallel(*script, **options))
    assert type(env) is ParallelEnvironment
    return env


def test_spaces_are_dicts_in_the_order_of_the_agents() -> None:
    env = presented()
    assert [*env.observation_space.spaces] == [*env.action_space.spaces] == ["b", "a"]
    assert env.metadata["name"] == "toy_v0"
    about = read_about(env.metadata[AGENTS])
    assert (about.possible, about.agents, about.state) == (["b", "a"], None, None)
    assert about.observation == [0, 0]
    assert len(set(about.action)) == 2
    assert AGENTS not in Parallel.metadata


def test_other_agents_than_text_have_keys_of_text() -> None:
    env = presented(agents=[("knight", 0), ("knight", 1)])
    assert [*env.action_space.spaces] == ["('knight', 0)", "('knight', 1)"]
    assert [*presented(agents=[3, 1]).action_space.spaces] == [3, 1]
    assert [*presented(agents=[1, "1"]).action_space.spaces] == ["0: 1", "1: 1"]


@pytest.mark.parametrize("agents", [["a", "a"], ["remote_gym"], [AGENTS]])
def test_names_that_would_be_mistaken_are_refused(agents: Any) -> None:
    with pytest.raises(MisuseError, match="possible_agents must be distinct"):
        presented(agents=agents)


def test_as_gymnasium_has_it_the_absent_have_zeros_and_nobody_asks_them() -> None:
    env = presented(
        BEGIN,
        (["a"], {"b": obs(3), "a": obs(4)}, {"b": 1, "a": 0.5}, {"b": True, "a": False}, {"b": False, "a": False},
         {"a": {"x": 1}, "common": np.ones(2)}),
        ([], {"a": obs(5)}, {"a": 2.0}, {"a": False}, {"a": True}, {"a": {}}),
    )  # fmt: skip
    observation, info = env.reset(seed=3, options={"x": 1})
    assert env.parallel.seen == [(3, {"x": 1})]
    assert_same(observation, {"b": obs(1), "a": obs(2)})
    assert info == {}

    observation, reward, terminated, truncated, info = env.step({"a": 1, "b": 2})
    assert [*env.parallel.seen[-1].items()] == [("b", 2), ("a", 1)]
    assert_same((reward, terminated, truncated), (1.5, False, False))
    assert info.pop(INFOS) == [{}, {"x": 1}]
    assert_same(info.pop(LIVE), np.array([False, True]))
    assert_same(info.pop(REWARDS), np.array([1, 0.5]))
    assert_same(info.pop(TERMINATIONS), np.array([True, False]))
    assert [*info] == [TRUNCATIONS]

    observation, reward, terminated, truncated, info = env.step({"a": 1, "b": 2})
    assert env.parallel.seen[-1] == {"a": 1}
    assert_same(observation, {"b": obs(0), "a": obs(5)})
    assert_same((reward, terminated, truncated), (2.0, False, True))
    assert_same(info[OBSERVED], np.array([False, True]))
    assert_same(info[TRUNCATIONS], np.array([False, True]))


def test_what_is_as_usual_is_left_out() -> None:
    env = presented(
        BEGIN,
        (["b", "a"], {"b": obs(3), "a": obs(4)}, {"b": -0.0}, {"b": False, "a": False}, {"b": False, "a": False},
         {"b": {}, "a": {}}),
    )  # fmt: skip
    env.reset()
    *_, info = env.step({"a": 1, "b": 2})
    assert_same(info, {REWARDS: np.array([-0.0, 0.0])})


def test_options_that_were_not_given_are_not_given() -> None:
    env = presented(BEGIN, BEGIN)
    env.reset()
    env.reset(options={AGENTS: None})
    assert env.parallel.seen == [(None, "none given")] * 2


def test_an_episode_without_flags_ends_when_nobody_is_left() -> None:
    env = presented(BEGIN, ([], {}, {}, {}, {}, {}))
    env.reset()
    assert env.step({"a": 0, "b": 0})[2:4] == (True, False)


def test_as_it_is_everything_is_what_the_environment_returned() -> None:
    stepped = (
        {"a": obs(4)},
        {"a": 1, "b": np.float32(2)},
        {"a": False},
        {"a": np.False_},
        {"a": {}, "common": np.ones(2)},
    )
    env = presented(BEGIN, (["a"], *stepped))
    observations, infos = env.reset(seed=1, options={AGENTS: {"x": 2}})
    assert env.parallel.seen == [(1, {"x": 2})]
    assert_same((observations, infos), ({"b": obs(1), "a": obs(2)}, {"b": {}, "a": {}, AGENTS: ["b", "a"]}))
    *rest, infos = env.step({AGENTS: {"z": 3}})
    assert env.parallel.seen[-1] == {"z": 3}
    assert_same((*rest, infos), (*stepped[:4], {**stepped[4], AGENTS: ["a"]}))


@pytest.mark.parametrize("factory", [int, float, list])
def test_the_default_dicts_of_conversions_are_plain_and_named(factory: Any) -> None:
    env = presented((["a"], {}, defaultdict(factory, a=1), {}, {}, {}))
    _, rewards, _, _, infos = env.step({AGENTS: {}})
    assert type(rewards) is dict
    assert infos.get(FACTORY) == (None if factory is list else factory.__name__)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (({}, {}), "step returned 2 items, expected 5"),
        (({}, {}, {}, None, {}), "step returned truncations of type NoneType, expected a dict by agent"),
        (({}, {}, {}, {}, []), "infos of type list"),
    ],
)
@pytest.mark.parametrize("action", [{"a": 0, "b": 0}, {AGENTS: {}}])
def test_what_is_no_result_is_refused_by_its_name(returned: Any, message: str, action: Any) -> None:
    env = presented(BEGIN, ([], *returned))
    env.reset()
    with pytest.raises(MisuseError, match=f"toy_v0: .*{message}"):
        env.step(action)


def test_of_agents_that_nobody_knows_there_are_no_rows() -> None:
    env = presented(BEGIN, BEGIN, agents=None)
    assert read_about(env.metadata[AGENTS]).possible is None
    with pytest.raises(MisuseError, match=r"possible_agents.*RemoteParallelEnv"):
        env.reset()
    assert env.reset(options={AGENTS: None})[1][AGENTS] == ["b", "a"]
    first, second = (env.get_wrapper_attr(SPACE)("observation", agent) for agent in ("x", "y"))
    assert first[0] == second[0]
    assert build_space(first[1]) == env.parallel.observation_space("x")


def test_agents_beyond_the_possible_ones_have_no_row_and_say_so() -> None:
    env = presented((["b", "c"], {"b": obs(1)}, {}), BEGIN, (["c"], {}, {}, {}, {}, {}))
    with pytest.raises(MisuseError, match="toy_v0: agents that are none of its possible_agents: 'c'"):
        env.reset()
    env.reset()
    with pytest.raises(MisuseError, match="possible_agents: 'c'"):
        env.step({"a": 0, "b": 0})


def test_spaces_of_strangers_are_kept_for_an_episode_only() -> None:
    env = presented(BEGIN, shared=False)
    ask = env.get_wrapper_attr(SPACE)
    known = [ask("observation", agent)[0] for agent in "ba"]
    assert known == read_about(env.metadata[AGENTS]).observation
    asked = [ask("observation", agent)[0] for agent in ("x", "y", "x")]
    assert asked[0] == asked[2] not in (*known, asked[1])
    env.reset(options={AGENTS: None})
    assert ask("observation", "y")[0] == asked[0]
    assert [ask("observation", agent)[0] for agent in "ba"] == known


def test_attributes_are_the_environments() -> None:
    env = presented()
    env.parallel.unwrapped = inner = types.SimpleNamespace(level=1)
    assert env.get_wrapper_attr("level") == 1
    assert env.set_wrapper_attr("level", 2)
    assert inner.level == 2
    assert not env.set_wrapper_attr("wind", 2, force=False)
    assert env.set_wrapper_attr("wind", 2)
    assert env.has_wrapper_attr("wind") and not env.has_wrapper_attr("rain")
    with pytest.raises(AttributeError, match="toy_v0 has no attribute 'rain'"):
        env.get_wrapper_attr("rain")
    assert env.render() == "a frame"
    assert str(env) == "<ParallelEnvironment<toy_v0>>"
    env.close()
    assert env.parallel.seen == ["closed"]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3, start=2), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4), spaces.Box(1, 2, (2, 3)),
        spaces.Text(4), spaces.Sequence(spaces.Discrete(2)), spaces.OneOf([spaces.Discrete(2)]),
        spaces.Tuple([spaces.Dict({"x": spaces.Discrete(2)})]),
    ],
)  # fmt: skip
def test_blanks_have_the_layout_of_their_space_and_leave_its_generator(space: Any) -> None:
    space.seed(5)
    state = str(space.np_random.bit_generator.state)
    made = blank(space)
    if not isinstance(space, (spaces.Discrete, spaces.Box)):
        assert space.contains(made)
    elif space.shape:
        assert (made.dtype, made.shape) == (space.dtype, space.shape)
    assert str(space.np_random.bit_generator.state) == state


def test_gymnasiums_own_and_others_are_left_alone() -> None:
    assert as_environment(5) == 5
    assert as_environment(Parallel) is Parallel
    env = presented()
    assert as_environment(env) is env


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Any:
    """PettingZoo as far as it is asked for here: its library's own tests are in ``tests/trainers/pettingzoo``."""
    import sys

    env, conversions = types.ModuleType("pettingzoo.utils.env"), types.ModuleType("pettingzoo.utils.conversions")
    env.AECEnv = type("AECEnv", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, env.__name__, env)
    monkeypatch.setitem(sys.modules, conversions.__name__, conversions)
    return types.SimpleNamespace(env=env, conversions=conversions)


def test_an_aec_environment_is_converted_by_the_library(zoo: Any) -> None:
    zoo.conversions.aec_to_parallel = lambda made: Parallel()
    assert type(as_environment(zoo.env.AECEnv())) is ParallelEnvironment


def test_one_whose_agents_act_in_turn_is_refused(zoo: Any) -> None:
    def refuse(made: Any) -> None:
        raise AssertionError("not parallelizable")

    zoo.conversions.aec_to_parallel = refuse
    with pytest.raises(MisuseError, match=r"act in turn.*turn_based_aec_to_parallel"):
        as_environment(zoo.env.AECEnv())


def test_its_functions_are_known_by_name_or_home() -> None:
    def parallel_env(**kwargs: Any) -> None: ...
    def other(**kwargs: Any) -> None: ...

    assert is_of_pettingzoo(parallel_env, "mine.py")
    assert is_of_pettingzoo(other, "mine:parallel_env")
    assert not is_of_pettingzoo(other, "mine:env")
    other.__module__ = "pettingzoo.utils.conversions"
    assert is_of_pettingzoo(other, "mine:create")
