"""Simulators of many environments as vector environments, with arrays of NumPy and of a library that looks like JAX.

With PyTorch, and hosted, see `tests/trainers/arrays/test_batched.py`.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from sameness import assert_same

from remote_gym import MisuseError
from remote_gym.hosting import batched
from remote_gym.hosting.tensors import fetched


class Away:
    """An array somewhere else."""

    def __init__(self, values: Any) -> None:
        self._values = np.asarray(values)

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return self._values


class Simulator(gym.Env[Any, Any]):
    """Adds up actions."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}
    render_mode = "rgb_array"

    def __init__(self, num_envs: int = 3) -> None:
        self.num_envs = num_envs
        self.single_observation_space = spaces.Dict({"sum": spaces.Box(-np.inf, np.inf, (2,), np.float32)})
        self.single_action_space = spaces.Tuple((spaces.Box(-1, 1, (2,), np.float32), spaces.Discrete(2)))
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.sum = np.zeros((num_envs, 2), np.float32)
        self.calls: list[Any] = []
        self.frame: Any = None
        self.closed = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self.calls.append((seed, options))
        self.sum[:] = seed if isinstance(seed, int) else 0
        return {"sum": Away(self.sum)}, {"log": {"mean": Away(self.sum.mean())}}

    def step(self, action: Any) -> Any:
        self.calls.append(action)
        self.sum += action[0]
        ended = self.sum[:, 0] > 1
        return {"sum": Away(self.sum)}, Away(self.sum[:, 0]), Away(ended), Away(~ended & (action[1] > 0)), {}

    def double(self, by: Any, *, also: Any = 0) -> Any:
        self.calls.append((by, also))
        return {"sum": Away(2 * self.sum), "by": by}

    def render(self) -> Any:
        return self.frame

    def close(self) -> None:
        self.closed += 1


class Vector(VectorEnv[Any, Any, Any]):
    """The same, as ManiSkill has it."""

    def __init__(self, env: Any, **more: Any) -> None:
        self._env = env
        self.num_envs, self.single_observation_space = env.num_envs, env.single_observation_space
        self.single_action_space = env.single_action_space
        vars(self).update(more)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self._env.reset(seed=seed, options=options)

    @property
    def unwrapped(self) -> Any:
        return self._env


ACTIONS = np.full((3, 2), 0.75, np.float32), np.array([0, 1, 1])


def test_arrays_in_and_out() -> None:
    env = batched(Simulator())
    assert isinstance(env, VectorEnv) and env.num_envs == 3 and env.render_mode == "rgb_array"
    assert env.observation_space == env.unwrapped.observation_space
    assert env.metadata == {**Simulator.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
    assert "autoreset_mode" not in Simulator.metadata
    observations, infos = env.reset(seed=0)
    assert_same((observations, infos), ({"sum": np.zeros((3, 2), np.float32)}, {"log": {"mean": np.array(0, "f4")}}))
    for _ in range(2):
        observations, rewards, terminations, truncations, infos = env.step(ACTIONS)
    assert_same(observations["sum"], np.full((3, 2), 1.5, np.float32))
    assert_same(rewards, np.full(3, 1.5, np.float32))
    assert_same((terminations, truncations), (np.ones(3, np.bool_), np.zeros(3, np.bool_)))
    env.close()
    env.close()
    assert env.unwrapped.closed == 1


def test_it_is_found_within_wrappers() -> None:
    env = batched(gym.wrappers.OrderEnforcing(Simulator(2)))
    assert env.num_envs == 2 and isinstance(env.unwrapped, Simulator)
    assert env.call("num_envs") == (2, 2)


@pytest.mark.parametrize(
    "seed, one, vector",
    [
        (None, None, None),
        (4, 4, 4),
        (np.int64(0), 0, np.int64(0)),
        ([3, 4, 5], 3, [3, 4, 5]),
        ([None, 7, None], 7, [None, 7, None]),
        ([None, None, None], None, [None, None, None]),
    ],
)
def test_seeds(seed: Any, one: Any, vector: Any) -> None:
    for env, expected in ((Simulator(), one), (Vector(Simulator()), vector)):
        batched(env).reset(seed=seed)
        assert_same(env.unwrapped.calls[0][0], expected)


def test_options_go_along_and_a_mask_as_indices_or_not_at_all() -> None:
    env = batched(Simulator())
    env.reset(options={"level": 3})
    env.reset(options={})
    assert [options for _, options in env.unwrapped.calls] == [{"level": 3}, {}]
    with pytest.raises(MisuseError, match=r"Simulator takes no options\['reset_mask'\]"):
        env.reset(options={"reset_mask": np.ones(3, np.bool_)})
    assert len(env.unwrapped.calls) == 2
    env = batched(Simulator(), reset_option="env_idx")
    env.reset(options={"reset_mask": np.array([True, False, True]), "level": 3})
    assert_same(env.unwrapped.calls, [(None, {"level": 3, "env_idx": np.array([0, 2])})])
    for mask in (np.ones(2, np.bool_), np.ones(3, np.int64), np.zeros(3, np.bool_), [True, False]):
        with pytest.raises(MisuseError, match=r"options\['reset_mask'\] must be \(3,\) bool and True somewhere"):
            env.reset(options={"reset_mask": mask})


def test_modes() -> None:
    cases: list[tuple[Any, Any, str]] = [
        (Simulator(), None, "SameStep"),
        (Simulator(), "Disabled", "Disabled"),
        (Simulator(), AutoresetMode.NEXT_STEP, "NextStep"),
        (Vector(Simulator()), None, "SameStep"),
        (Vector(Simulator(), auto_reset=False), None, "Disabled"),
        (Vector(Simulator(), auto_reset=True), None, "SameStep"),
        (Vector(Simulator(), metadata={"autoreset_mode": AutoresetMode.NEXT_STEP}), None, "NextStep"),
        (Vector(Simulator(), metadata={"autoreset_mode": "Disabled"}), None, "Disabled"),
    ]
    for env, given, mode in cases:
        assert batched(env, autoreset_mode=given).metadata["autoreset_mode"] is AutoresetMode(mode)


class Four:
    """A step of four, no spaces, no seeds; its flags are numbers."""

    num_envs = 4

    def __init__(self, infos: Any) -> None:
        self.infos = infos

    def reset(self) -> Any:
        return np.zeros((4, 1), np.float32)

    def step(self, _actions: Any) -> Any:
        return np.zeros((4, 1), np.float32), np.zeros(4), np.array([0, 1, 0, 1]), self.infos


def four(infos: Any) -> Any:
    box = spaces.Box(-1, 1, (1,), np.float32)
    return batched(Four(infos), single_observation_space=box, single_action_space=box)


def test_a_step_of_four() -> None:
    env = four({"time_outs": np.array([0.0, 0.0, 0.0, 1.0])})
    assert env.reset()[1] == {}
    _, _, terminations, truncations, infos = env.step(np.zeros((4, 1), np.float32))
    assert_same((terminations, truncations), tuple(np.arange(4) == index for index in (1, 3)))
    assert list(infos) == ["time_outs"]
    _, _, terminations, truncations, _ = four({}).step(np.zeros((4, 1), np.float32))
    assert terminations.tolist() == [False, True, False, True] and not truncations.any()


@pytest.mark.parametrize("given", [{"seed": 0}, {"seed": [1, 2, 3, 4]}, {"options": {"level": 1}}])
def test_what_its_reset_does_not_take_is_refused(given: Any) -> None:
    with pytest.raises(MisuseError, match=rf"Four.reset takes no {next(iter(given))}: give it to what makes"):
        four({}).reset(**given)
    four({}).reset(**dict.fromkeys(given))


def test_calls_give_each_its_row() -> None:
    env = batched(Simulator())
    env.reset(seed=1)
    env.step(ACTIONS)
    rows = env.call("double", 3, also="x")
    assert env.unwrapped.calls[-1] == (3, "x")
    assert_same(rows, tuple({"sum": row, "by": 3} for row in np.full((3, 2), 3.5, np.float32)))
    rows[0]["sum"][:] = 0
    assert env.call("sum")[0].tolist() == [1.75, 1.75]
    with pytest.raises(AttributeError, match="Simulator has no attribute 'nothing'"):
        env.call("nothing")


def test_attributes_are_set() -> None:
    for wrap in (lambda env: env, gym.wrappers.OrderEnforcing):
        env = batched(wrap(Simulator()))
        env.set_attr("frame", 5)
        assert env.unwrapped.frame == 5
        env.set_attr("sum", [[1, 2], [3, 4], [5, 6]])
        assert_same(env.unwrapped.sum, np.array([[1, 2], [3, 4], [5, 6]], np.float32))
        with pytest.raises(MisuseError, match="'frame' of Simulator is one for all environments"):
            env.set_attr("frame", [1, 2, 3])


PICTURE = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    "frame, each",
    [
        (None, None),
        (PICTURE, (PICTURE, None, None)),
        (PICTURE[:3], (PICTURE[:3], None, None)),
        (Away(np.stack([PICTURE] * 3)), (PICTURE,) * 3),
        ([PICTURE] * 3, (PICTURE,) * 3),
    ],
)
def test_frames(frame: Any, each: Any) -> None:
    env = batched(Simulator())
    env.unwrapped.frame = frame
    assert_same(env.render(), each)


@pytest.mark.parametrize(
    "wrong, named",
    [
        (lambda: batched(object()), "object has no num_envs: it is no simulator of many environments"),
        (lambda: batched(Four({})), r"Four has no single_observation_space: give batched\(..., single_observ"),
        (lambda: batched(Simulator(), single_action_space=3), "Simulator has no single_action_space"),
        (lambda: batched(Simulator(), autoreset_mode="Never"), "'Never' is not one of"),
    ],
)
def test_what_is_no_simulator(wrong: Any, named: str) -> None:
    with pytest.raises(MisuseError, match=named):
        wrong()


def test_results_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    env = batched(Simulator(), single_observation_space=spaces.Dict({"other": spaces.Discrete(2)}))
    with pytest.raises(MisuseError, match=r"Simulator returns observations\['sum'\], of which its space knows nothing"):
        env.reset()
    for result, named in (
        ((0, 1, 2), "Simulator.step returned 3, expected 5 items, or 4 with dones"),
        ([0] * 5, "Simulator.step returned list, expected"),
        ((0, np.zeros((3, 1)), False, False, {}), r"Simulator returned rewards of shape \(3, 1\), not \(3,\)"),
        ((0, 0.0, np.zeros(4), False, {}), r"Simulator returned terminations of shape \(4,\), not \(3,\)"),
    ):
        monkeypatch.setattr(Simulator, "step", lambda *_, result=result: result)
        with pytest.raises(MisuseError, match=named):
            batched(Simulator()).step(ACTIONS)
    monkeypatch.setattr(Simulator, "step", lambda *_: ({"sum": np.zeros((3, 2))}, 0.5, True, False, {}))
    assert [one.tolist() for one in batched(Simulator()).step(ACTIONS)[1:4]] == [[0.5] * 3, [True] * 3, [False] * 3]


def test_what_is_fetched() -> None:
    from collections import namedtuple

    Pair = namedtuple("Pair", "a b")
    inner, text = np.arange(3), np.array("text")
    value = {"a": Pair(Away(inner), 1), "b": [text, (Away(2.5), np.float32(1), None)], 3: "x"}
    result = fetched(value)
    assert_same(result, {"a": Pair(inner, 1), "b": [text, (np.array(2.5), np.float32(1), None)], 3: "x"})
    assert result["a"].a is inner and result["b"][0] is text
