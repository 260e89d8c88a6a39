"""A group of environments in a worker: what goes into the rows, what is said besides, and who fails alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from toys import FunctionEnv

from remote_gym import values
from remote_gym.errors import MisuseError
from remote_gym.failures import FailureKind
from remote_gym.ipc.commands import NOTHING_TO_SAY, HostingOptions, Outcomes
from remote_gym.ipc.progress import SIZE_BYTES, Board
from remote_gym.ipc.rows import Rows
from remote_gym.leaves import leaves_of
from remote_gym.spaces import build
from remote_gym.worker.environments import EnvironmentGroup
from remote_gym.worker.results import BuildError

Make = Callable[[int], gym.Env[Any, Any]]


class Recipe:
    """Builds what a function makes of an env_id."""

    def __init__(self, make: Make) -> None:
        self._make = make

    def build(self, env_id: int) -> gym.Env[Any, Any]:
        return self._make(env_id)


def group(
    make: Make, num_envs: int = 2, first: int = 3, mode: str = "None", **options: Any
) -> tuple[EnvironmentGroup, Rows]:
    """Build environments `first` and up of a session of 8, with rows in memory of our own."""
    recipe: Any = Recipe(make)
    env_ids = [10 + at for at in range(num_envs)]
    made = EnvironmentGroup(recipe, env_ids, first, HostingOptions(mode, **options), Board(bytearray(SIZE_BYTES)))
    env = made.envs[0].env
    actions, observations = leaves_of(env.action_space), leaves_of(env.observation_space)
    memory = bytearray(Rows.size_bytes(actions, observations, 8))
    made.attach(memory, 8)
    return made, Rows(memory, actions, observations, 8)


def stepping(function: Callable[[Any, Any], Any], **kwargs: Any) -> Make:
    return lambda _env_id: FunctionEnv(function, **kwargs)


def test_actions_come_from_the_rows_and_results_go_into_them() -> None:
    seen: list[Any] = []

    def step(env: Any, action: Any) -> Any:
        seen.append(action)
        return np.full(2, action, np.float32), float(action), action == 1, action == 2, {}

    made, rows = group(stepping(step))
    rows.actions[0][3:5] = [1, 2]
    assert made.step(None) == Outcomes(b"", [], {})
    assert seen == [1, 2]
    assert rows.observations[0][3:5].tolist() == [[1, 1], [2, 2]]
    assert rows.rewards[3:5].tolist() == [1.0, 2.0]
    assert (rows.terminations[3:5].tolist(), rows.truncations[3:5].tolist()) == ([True, False], [False, True])
    assert made.step([4]) == Outcomes(b"", [], {})
    assert seen == [1, 2, 2]


def test_seeds_and_options_are_each_environments_own() -> None:
    seen: list[Any] = []

    def reset(env: Any, seed: Any, options: Any) -> Any:
        seen.append((seed, dict(options)))
        options["changed"] = True
        return np.zeros(2, np.float32), {}

    made, _ = group(lambda _: FunctionEnv(reset=reset))
    made.reset(None, [5, None], {"a": 1})
    assert seen == [(5, {"a": 1}), (None, {"a": 1})]
    with pytest.raises(MisuseError, match="1 seeds for 2 environments"):
        made.reset(None, [5], None)


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        ((np.zeros(3, np.float32), 0.0, False, False, {}), r"of shape \(3,\), its space says \(2,\)"),
        ((np.zeros(2, np.complex64), 0.0, False, False, {}), "of dtype complex64, its space says float32"),
        (([[1], [2, 3]], 0.0, False, False, {}), "that is no array"),
        ((np.zeros(2, np.float32), 0.0, False, False, []), "an info of type list"),
        ((np.zeros(2, np.float32), "much", False, False, {}), "returned the reward 'much'"),
    ],
)
def test_what_does_not_fit_fails_alone_and_leaves_no_half_row(returned: Any, text: str) -> None:
    good = np.ones(2, np.float32), 1.0, False, False, {}
    made, rows = group(stepping(lambda env, action: returned if action else good))
    rows.actions[0][3:5] = [1, 0]
    (failure,) = made.step(None).failures
    assert (failure.index, failure.kind) == (3, FailureKind.INVALID)
    with pytest.raises(ValueError, match=text):
        raise ValueError(failure.message)
    assert rows.rewards[3:5].tolist() == [0.0, 1.0]
    assert rows.observations[0][4].tolist() == [1, 1]


def test_what_can_be_cast_is() -> None:
    made, rows = group(stepping(lambda *_: ([0.5, 1], 1, 0, np.bool_(True), {})))
    assert made.step(None).failures == []
    assert rows.observations[0][3].tolist() == [0.5, 1.0]
    assert (rows.rewards[3], rows.terminations[3], rows.truncations[3]) == (1.0, False, True)


@pytest.mark.parametrize("flag", [True, np.True_, 1, "yes", np.ones(1, np.int8)[0]], ids=repr)
@pytest.mark.parametrize(
    "reward",
    [0.1, np.float64(0.1), np.float32(0.1), np.float16(0.1), 3, True, 10**300, None, "2.5", np.array(7.0)],
    ids=repr,
)
def test_rewards_and_flags_are_in_the_rows_what_an_array_makes_of_them(reward: Any, flag: Any) -> None:
    made, rows = group(stepping(lambda *_: (np.zeros(2, np.float32), reward, flag, flag, {})))
    assert made.step(None) is NOTHING_TO_SAY
    rewards, flags = np.zeros(1), np.zeros(1, bool)
    rewards[0], flags[0] = reward, flag
    assert rows.rewards[3:5].tobytes() == rewards.tobytes() * 2
    assert rows.terminations[3:5].tobytes() == rows.truncations[3:5].tobytes() == flags.tobytes() * 2


class Unhashable(type):
    """Of types that no set takes."""

    __hash__ = None  # type: ignore[assignment]


class OddNumber(metaclass=Unhashable):
    def __float__(self) -> float:
        return 1.0


@pytest.mark.parametrize("place", ["reward", "terminated", "truncated"])
@pytest.mark.parametrize("exact", [False, True])
def test_a_number_of_a_type_that_cannot_be_looked_up_fails_alone(place: str, exact: bool) -> None:
    def step(_env: Any, action: Any) -> Any:
        scalars: dict[str, Any] = {"reward": 2, "terminated": False, "truncated": False}
        if action:
            scalars[place] = OddNumber()
        return np.full(2, action, np.float32), *scalars.values(), {}

    made, rows = group(stepping(step), exact_types=exact)
    rows.actions[0][3:5] = [1, 0]
    (failure,) = made.step(None).failures
    assert (failure.index, failure.type) == (3, "builtins.TypeError")
    assert rows.rewards[3:5].tolist() == [0.0, 2.0]
    assert rows.observations[0][4].tolist() == [0, 0]


@pytest.mark.parametrize("exact", [False, True])
def test_what_was_said_in_one_step_is_not_said_in_the_next(exact: bool) -> None:
    returned = [
        (np.zeros(2, np.float32), 0.0, False, False, {"a": 1}),
        (np.zeros(2, np.float32), 0.0, False, False, {}),
        (np.zeros(3, np.complex64), [], False, False, {}),
        (np.zeros(2, np.float32), 0.0, False, False, {}),
        (np.zeros(2, np.float32), 0.0, False, False, {}),
    ]
    made, _ = group(stepping(lambda *_: returned.pop(0)), 1, exact_types=exact)
    assert [made.step(None) is NOTHING_TO_SAY for _ in range(5)] == [False, True, False, True, True]


def test_a_single_environment_reports_its_exact_types() -> None:
    made, _ = group(
        stepping(lambda *_: (np.zeros(2, np.float64), np.float32(1), False, False, {})), 1, exact_types=True
    )
    _, exact, _, _ = values.unpack(made.step(None).said)
    assert exact[3]["observation"].dtype == np.float64
    assert type(exact[3]["reward"]) is np.float32


def test_nested_actions_reach_the_environment_as_its_space_has_them() -> None:
    space = spaces.Dict(move=spaces.Discrete(4), say=spaces.Text(5))
    seen: list[Any] = []

    def step(env: Any, action: Any) -> Any:
        seen.append(action)
        return np.zeros(2, np.float32), 0.0, False, False, {}

    made, rows = group(stepping(step, action_space=space))
    rows.actions[0][3:5] = [1, 3]
    assert made.step(None, [["a"], ["b"]]).failures == []
    assert [(int(action["move"]), action["say"]) for action in seen] == [(1, "a"), (3, "b")]


def test_frames_come_along_where_the_session_wants_them() -> None:
    made, _ = group(lambda _: FunctionEnv(render_mode="rgb_array"), render_with_step=True)
    for outcomes in (made.reset(None, None, None), made.step(None)):
        _, _, _, extras = values.unpack(outcomes.said)
        assert {index: frame.shape for index, frame in extras["frames"].items()} == {3: (4, 4, 3), 4: (4, 4, 3)}


def test_a_method_that_raises_leaves_a_gap() -> None:
    def make(env_id: int) -> gym.Env[Any, Any]:
        env: Any = FunctionEnv()
        env.answer = lambda: 1 // (env_id - 10)
        return env  # type: ignore[no-any-return]

    made, _ = group(make)
    packed, failures = made.call(None, "answer", ((), {}))
    assert (packed[0], values.unpack(packed[1])) == (b"", 1)
    assert [failure.index for failure in failures] == [3]
    assert values.unpack(made.call([4], "answer", None).values[0]) == {"callable": True}


def test_what_cannot_be_built_is_told_by_its_index_and_closes_the_others() -> None:
    closed: list[int] = []

    def make(env_id: int) -> gym.Env[Any, Any]:
        if env_id == 11:
            raise OSError("no licence")
        env: Any = FunctionEnv()
        env.close = lambda: closed.append(env_id)
        return env  # type: ignore[no-any-return]

    with pytest.raises(BuildError, match="no licence") as caught:
        group(make)
    assert caught.value.failure.index == 4
    assert closed == [10]


def test_spaces_that_differ_within_a_group() -> None:
    with pytest.raises(BuildError, match="the action space of environment 4 differs from that of environment 3"):
        group(lambda env_id: FunctionEnv(action_space=spaces.Discrete(env_id)))


def test_equal_spaces_that_are_described_differently() -> None:
    zeros = {10: 0.0, 11: -0.0}
    made, _ = group(lambda env_id: FunctionEnv(action_space=spaces.Box(zeros[env_id], 1, (2,), np.float32)))
    assert len(made.envs) == 2


def test_observation_spaces_that_differ_within_a_group() -> None:
    def make(env_id: int) -> FunctionEnv:
        return FunctionEnv(observation_space=spaces.Box(0, env_id, (2,)))

    with pytest.raises(BuildError, match="environment 4 differs in its observation space"):
        group(make)
    made, _ = group(make, observation_mode="different")
    each = made.description().observation_spaces
    assert list(map(build, each)) == [spaces.Box(0, 10, (2,)), spaces.Box(0, 11, (2,))]
    made, _ = group(make, observation_mode="given")
    assert not made.description().observation_spaces
    made, _ = group(lambda _: FunctionEnv(), observation_mode="different")
    assert len(made.description().observation_spaces) == 1


def test_closing_goes_on_when_one_raises(capsys: pytest.CaptureFixture[str]) -> None:
    closed: list[int] = []

    def make(env_id: int) -> gym.Env[Any, Any]:
        env: Any = FunctionEnv()

        def close() -> None:
            closed.append(env_id)
            raise RuntimeError("stuck")

        env.close = close
        return env  # type: ignore[no-any-return]

    made, _ = group(make)
    made.close()
    made.close()
    assert closed == [10, 11]
    assert "stuck" in capsys.readouterr().err
