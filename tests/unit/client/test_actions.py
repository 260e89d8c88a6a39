"""Actions are checked before anything is sent: what fits is packed, what does not is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from sameness import assert_same
from toys import SPACES

from remote_gym import values
from remote_gym.client.actions import ActionEncoder
from remote_gym.errors import MisuseError

BOX = spaces.Box(-1, 1, (2,), np.float32)
NESTED = spaces.Dict({"arm": spaces.Tuple((BOX, spaces.Discrete(3))), "grip": spaces.MultiBinary(2)})


def encode(space: spaces.Space[Any], actions: Any, n: int = 3, validate: bool = False) -> list[Any]:
    rows, variable = ActionEncoder(space, validate).encode(actions, range(n))
    assert variable == b""
    return rows


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("name", list(SPACES))
def test_samples_are_packed_as_they_are(name: str, validate: bool) -> None:
    space = SPACES[name]()
    encoder = ActionEncoder(space, validate)
    batch = batch_space(space, 3)
    batch.seed(1)
    sample = batch.sample()
    rows, variable = encoder.encode(sample, range(3))
    for row, leaf in zip(rows, encoder._leaves, strict=True):
        assert (row.dtype, row.shape) == (leaf.dtype, (3, *leaf.shape))
    if variable:
        by_env = values.unpack(variable)
        assert [len(elements) for elements in by_env] == [len(encoder._variable)] * 3
    single, variable_single = encoder.encode_single(space.sample())
    assert [len(row) for row in single] == [1] * len(rows)
    assert bool(variable_single) is bool(variable)


@pytest.mark.parametrize(
    "space, actions, packed",
    [
        (spaces.Discrete(3), [0, 1, 2], np.array([0, 1, 2])),
        (spaces.Discrete(3), np.array([0, 1, 2], np.uint8), np.array([0, 1, 2])),
        (spaces.Discrete(3), [np.int64(0), 1, True], np.array([0, 1, 1])),
        (spaces.Discrete(3, dtype=np.int8), np.array([0, 1, 2]), np.array([0, 1, 2], np.int8)),
        (BOX, [[0, 1]] * 3, np.array([[0, 1]] * 3, np.float32)),
        (BOX, np.zeros((3, 2)), np.zeros((3, 2), np.float32)),
        (BOX, np.zeros((2, 3)).T, np.zeros((3, 2), np.float32)),
        (BOX, np.zeros((3, 4), np.float32)[:, ::2], np.zeros((3, 2), np.float32)),
        (BOX, np.zeros((3, 2), ">f4"), np.zeros((3, 2), np.float32)),
        (spaces.MultiBinary(2), np.ones((3, 2), np.bool_), np.ones((3, 2), np.int8)),
    ],
)
def test_what_casts_same_kind_is_cast(space: Any, actions: Any, packed: Any) -> None:
    (row,) = encode(space, actions)
    assert_same(row, packed)
    assert row.flags.c_contiguous


@pytest.mark.parametrize(
    "space, actions, message",
    [
        (BOX, np.zeros((2, 2)), "actions are for 2 environments, expected 3"),
        (BOX, np.zeros((4, 2)), "actions are for 4 environments, expected 3"),
        (BOX, np.zeros((3, 3)), r"the action of environment 0 has shape \(3,\), expected \(2,\)"),
        (BOX, np.zeros(3), r"the action of environment 0 has shape \(\), expected \(2,\)"),
        (BOX, [[0, 0], [0, 0, 0], [0, 0]], r"the action of environment 1 has shape \(3,\), expected \(2,\)"),
        (BOX, [[0, 0], [0, 0], [[0], [0, 0]]], "the action of environment 2 is ragged"),
        (BOX, 3.0, r"actions are a float, expected an array of shape \(3, 2\)"),
        (BOX, None, "actions are None"),
        (BOX, "abc", "actions are 'abc'"),
        (BOX, b"abc", "actions are b'abc'"),
        (BOX, [[0, 0], [0, "x"], [0, 0]], "the action of environment 1 is no number"),
        (BOX, [[0, 0], None, [0, 0]], "the action of environment 1 is no number"),
        (BOX, np.zeros((3, 2), np.complex64), "the action of environment 0 is no number"),
        (BOX, {"a": 1}, "actions are for 1 environments, expected 3"),
        (spaces.Discrete(3), [0.0, 1.0, 2.0], "actions have dtype float64, which does not cast to the space's int64"),
        (spaces.Discrete(3, dtype=np.int8), [0, 300, 0], "the action of environment 1 does not fit .* int8: .*300"),
        (NESTED, None, r"actions: expected a dict with the keys \['arm', 'grip'\], got NoneType"),
        (NESTED, {"arm": 1}, r"actions: expected a dict with the keys \['arm', 'grip'\], got the keys \['arm'\]"),
        (NESTED, {"arm": [1], "grip": 1}, r"actions: expected a tuple of length 2 at \['arm'\], got list of length 1"),
        (
            NESTED,
            {"arm": (np.zeros((3, 2)), [0, 1]), "grip": np.zeros((3, 2), np.int8)},
            r"actions\['arm'\]\[1\] are for 2 environments, expected 3",
        ),
        (
            NESTED,
            {"arm": (np.zeros((3, 2)), [0, 1, "x"]), "grip": np.zeros((3, 2), np.int8)},
            r"the action\['arm'\]\[1\] of environment",
        ),
    ],
)
def test_what_does_not_fit_is_named(space: Any, actions: Any, message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        encode(space, actions)


@pytest.mark.parametrize("action", [None, "up", [0, 0, 0], [[0], [0, 0]], 1j, np.zeros((1, 2)), {"x": 1}])
def test_what_does_not_fit_a_single_environment(action: Any) -> None:
    with pytest.raises(MisuseError, match="environment 0"):
        ActionEncoder(BOX, False).encode_single(action)


@pytest.mark.parametrize(
    "space, bad",
    [
        (BOX, [0, np.nan]),
        (BOX, [0, 1.5]),
        (BOX, [-np.inf, 0]),
        (spaces.Box(-np.inf, np.inf, (2,)), [np.nan, 0]),
        (spaces.Discrete(3), 3),
        (spaces.Discrete(3), -1),
        (spaces.Discrete(3, start=2), 1),
        (spaces.Discrete(3, start=2), 5),
        (spaces.MultiDiscrete([2, 3], start=[5, 0]), [4, 0]),
        (spaces.MultiDiscrete([2, 3], start=[5, 0]), [5, 3]),
        (spaces.MultiDiscrete(np.array([50, 3], np.int8), dtype=np.int8, start=np.array([-100, 0], np.int8)), [127, 0]),
        (spaces.MultiBinary(2), [0, 2]),
        (spaces.Dict({"a": spaces.Tuple((spaces.Discrete(2), BOX))}), {"a": (0, [0, 2])}),
    ],
)
def test_validation(space: Any, bad: Any) -> None:
    def batched(first: Any, second: Any) -> Any:
        if isinstance(first, dict):
            return {key: batched(first[key], second[key]) for key in first}
        if isinstance(first, tuple):
            return tuple(map(batched, first, second))
        return np.array([first, second])

    good = space.sample()
    encode(space, batched(good, good), 2, validate=True)
    with pytest.raises(MisuseError, match=r"of environment 1 is outside of its space"):
        encode(space, batched(good, bad), 2, validate=True)
    encode(space, batched(good, bad), 2)


@pytest.mark.parametrize(
    "actions, message",
    [
        (("a",) * 2, "actions must be a tuple of 3 elements, got a tuple of 2"),
        ("abc", "actions must be a tuple of 3 elements, got a str"),
        (("aa", "b", "!!!"), "the action of environment 1 is outside of its space: 'b'"),
        (("aa", "bb", object()), "environment 2"),
    ],
)
def test_elements_of_no_fixed_size(actions: Any, message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        encode(spaces.Text(3, min_length=2), actions, validate=True)


def test_env_indices_are_the_callers() -> None:
    encoder = ActionEncoder(spaces.Discrete(3), True)
    with pytest.raises(MisuseError, match="environment 9"):
        encoder.encode([0, 7], [4, 9])
