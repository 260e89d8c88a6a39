"""A hosted vector environment: everything verbatim, and what it raises concerns all its environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from remote_gym import values
from remote_gym.failures import FailureKind
from remote_gym.ipc.commands import HostingOptions
from remote_gym.ipc.progress import SIZE_BYTES, Board
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import leaves_of
from remote_gym.worker.results import BuildError
from remote_gym.worker.vector_environment import VectorGroup


class Hosted:
    """Two environments in one object."""

    single_observation_space: Any = spaces.Box(0, 1, (2,))
    single_action_space: Any = spaces.Discrete(3)
    metadata: Any = {"autoreset_mode": AutoresetMode.NEXT_STEP}
    render_mode = spec = None
    num_envs = 2

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.result: Any = None
        self.level = 1

    @property
    def unwrapped(self) -> Any:
        return self

    def reset(self, seed: Any, options: Any) -> Any:
        self.seen.append((seed, options))
        return np.zeros((2, 2), np.float32), {"a": 1}

    def step(self, actions: Any) -> Any:
        self.seen.append(actions)
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result

    def method(self, *args: Any) -> Any:
        return args

    def render(self) -> None:
        return None

    def close(self) -> None:
        self.seen.append("closed")


class Recipe:
    def __init__(self, env: Hosted) -> None:
        self._env = env

    def build_vector(self, _num_envs: int, _env_id: int) -> Any:
        return self._env


def group(env: Hosted, mode: str = "NextStep", num_envs: int = 2) -> tuple[VectorGroup, Rows]:
    recipe: Any = Recipe(env)
    made = VectorGroup(recipe, list(range(num_envs)), HostingOptions(mode), Board(bytearray(SIZE_BYTES)))
    actions, observations = leaves_of(env.single_action_space), leaves_of(env.single_observation_space)
    memory = bytearray(Rows.size_bytes(actions, observations, 2))
    made.attach(memory, 2)
    return made, Rows(memory, actions, observations, 2)


def result(observations: Any = None, rewards: Any = None, *more: Any) -> Any:
    observations = np.ones((2, 2), np.float32) if observations is None else observations
    return (observations, np.array([1.0, 2.0]) if rewards is None else rewards, [True, False], [False, True], *more)


def test_seed_and_options_and_infos_are_verbatim() -> None:
    env = Hosted()
    made, _ = group(env)
    outcomes = made.reset(None, [3, 4], {"reset_mask": [True, False]})
    assert env.seen == [([3, 4], {"reset_mask": [True, False]})]
    assert values.unpack(outcomes.said)[3]["infos"] == {"a": 1}


def test_a_step_takes_copies_of_the_rows_and_fills_them() -> None:
    env = Hosted()
    made, rows = group(env)
    env.result = result(None, None, {})
    rows.actions[0][:] = [2, 1]
    outcomes = made.step(None)
    assert (outcomes.said, outcomes.failures) == (b"", [])
    rows.actions[0][:] = 0
    assert env.seen[0].tolist() == [2, 1]
    assert rows.rewards.tolist() == [1.0, 2.0]
    assert rows.terminations.tolist() == [True, False]
    assert rows.observations[0].tolist() == [[1, 1], [1, 1]]


def test_rewards_of_another_dtype_are_told() -> None:
    env = Hosted()
    made, _ = group(env)
    env.result = result(None, np.array([1, 2], np.float32), {})
    assert values.unpack(made.step(None).said)[3]["rewards_dtype"] == "<f4"


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (ValueError("as asked"), "as asked"),
        (result(np.ones((2, 3), np.float32), None, {}), "of shape (2, 3)"),
        (result(None, None), "expected 5"),
        (result(None, None, {}, {}), "expected 5"),
        (result(None, None, {"bad": object()}), "bad"),
    ],
)
def test_whatever_goes_wrong_concerns_them_all(returned: Any, text: str) -> None:
    env = Hosted()
    made, _ = group(env)
    env.result = returned
    failures = made.step(None).failures
    assert [failure.index for failure in failures] == [0, 1]
    assert all(text in failure.message for failure in failures)


def test_after_an_error_it_needs_a_reset() -> None:
    env = Hosted()
    made, _ = group(env)
    env.result = ValueError("once")
    made.step(None)
    env.result = result(None, None, {})
    assert {failure.kind for failure in made.step(None).failures} == {FailureKind.NEEDS_RESET}
    made.reset(None, None, None)
    assert made.step(None).failures == []


@pytest.mark.parametrize(
    ("mode", "num_envs", "text"),
    [
        ("None", 2, "use RemoteVectorEnv"),
        ("SameStep", 2, "pass autoreset_mode='NextStep'"),
        ("NextStep", 3, "has 2 environments, not 3"),
    ],
)
def test_what_does_not_fit_its_session(mode: str, num_envs: int, text: str) -> None:
    with pytest.raises(BuildError, match=text):
        group(Hosted(), mode, num_envs)


def test_without_a_call_of_its_own_a_method_stands_for_all() -> None:
    made, _ = group(Hosted())
    packed, failures = made.call(None, "method", ((1,), {}))
    assert ([values.unpack(value) for value in packed], failures) == ([(1,), (1,)], [])
    assert [values.unpack(value) for value in made.call(None, "level", None).values] == [{"value": 1}] * 2
    assert "has no set_attr" in made.set_attribute(None, "level", [1, 2]).failures[0].message
    assert [values.unpack(value) for value in made.render(None).values] == [None, None]


@pytest.mark.parametrize("whole", [list, tuple, np.array])
def test_a_picture_is_of_one_row(whole: Any) -> None:
    env = Hosted()
    made, _ = group(env)
    frames = [np.full((2, 2, 3), number, np.uint8) for number in range(2)]
    env.render = lambda: whole(frames)  # type: ignore[method-assign]
    assert (made.shown(1).render() == frames[1]).all()
    env.render = lambda: None  # type: ignore[method-assign]
    assert made.shown(1).render() is None


def test_its_mode_stays_here() -> None:
    made, _ = group(Hosted())
    told = made.description()
    assert told.hosted_vector
    assert values.unpack(told.metadata) == {}


def test_what_closing_raises_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    env = Hosted()
    made, _ = group(env)
    env.close = lambda: 1 / 0  # type: ignore[assignment, return-value]
    made.close()
    assert "ZeroDivisionError" in capsys.readouterr().err
