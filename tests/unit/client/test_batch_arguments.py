"""What the caller passes for a whole batch: one by one, or refused before anything is sent."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import MisuseError
from remote_gym.client.batch_arguments import (
    check_observation_mode,
    each_options,
    each_seed,
    each_value,
    env_indices,
    masked,
    no_seed,
    verbatim,
    whose,
)


def test_a_mask_says_who() -> None:
    assert masked(np.array([True, False, True]), 3) == [0, 2]


@pytest.mark.parametrize(
    "mask, error, match",
    [
        ([True, False], TypeError, "must be a numpy array, got <class 'list'>"),
        (np.ones(3, np.bool_), ValueError, r"must have shape `\(2,\)`, got \(3,\)"),
        (np.ones((2, 1), np.bool_), ValueError, "must have shape"),
        (np.ones(2), TypeError, "must have `dtype=np.bool_`, got float64"),
        (np.zeros(2, np.bool_), ValueError, "at least one True value"),
    ],
)
def test_masks_are_refused_as_locally(mask: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        masked(mask, 2)
    local = gymnasium.vector.SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")] * 2)
    with pytest.raises(Exception, match="reset_mask") as raised:
        local.reset(options={"reset_mask": mask})
    local.close()
    assert isinstance(raised.value, (error, AssertionError))


@pytest.mark.parametrize("given", [[2, 0], (2, 0), np.array([2, 0], np.uint8), np.array([2, 0])])
def test_env_indices_keep_their_order(given: Any) -> None:
    indices = env_indices(given, 3)
    assert indices == [2, 0] and {type(index) for index in indices} == {int}


@pytest.mark.parametrize("given", [[], 1, [[0, 1]], [0.0], [True, False], ["0"], None])
def test_env_indices_are_a_row_of_integers(given: Any) -> None:
    with pytest.raises(MisuseError, match="one-dimensional array of env indices"):
        env_indices(given, 3)


@pytest.mark.parametrize("given", [[0, 0], [0, 3], [-1], [2**62]])
def test_env_indices_are_distinct_and_there(given: Any) -> None:
    with pytest.raises(MisuseError, match="distinct env indices from 0 to 2"):
        env_indices(given, 3)


def test_the_argument_is_named_and_nobody_may_be_asked_for() -> None:
    assert whose(None, 3) is None
    assert whose([], 3) == whose(np.array([]), 3) == whose((), 3) == []
    assert whose(range(2), 3) == whose(np.arange(2), 3) == [0, 1]
    for wrong in ([3], 0, "", "0", [[0], [0, 1]], {0}, {}):
        with pytest.raises(MisuseError, match="indices must"):
            whose(wrong, 3)


@pytest.mark.parametrize(
    "given",
    [
        None,
        {},
        {"a": 1},
        5,
        "abc",
        b"ab",
        np.zeros(2),
        np.array(5, object),
        {1, 2},
        [],
        (),
        [1, 2],
        ("a", None),
        [[{}]],
        range(2),
    ],
)
def test_options_of_all(given: Any) -> None:
    assert each_options(given, 2) is None


def test_options_of_each_are_copies() -> None:
    one, ordered = {"a": 1}, OrderedDict(b=2)
    for given in ([one, ordered, None], (one, ordered, None), np.array([one, ordered, None], object)):
        each = each_options(given, 3)
        assert each == [one, ordered, None] and each[0] is not one and type(each[1]) is OrderedDict


@pytest.mark.parametrize(
    "given, match",
    [
        ([{}], "must be num_envs=2 dicts, or None for none, got 1"),
        ([None], "got 1"),
        ([{}, 5], r"options\[1\] must be a dict, or None for no options, got 5"),
        ([[{}], {}], r"options\[0\]"),
        ([{"reset_mask": np.ones(2, np.bool_)}, None], r"options\[0\] holds 'reset_mask'.*pass one dict"),
    ],
)
def test_what_are_no_options_of_each(given: Any, match: str) -> None:
    with pytest.raises(MisuseError, match=match):
        each_options(given, 2)


@pytest.mark.parametrize(
    "seed, each",
    [
        (None, [None, None, None]),
        (7, [7, 8, 9]),
        (np.int64(7), [7, 8, 9]),
        ([1, None, np.int32(3)], [1, None, 3]),
        ((1, 2, 3), [1, 2, 3]),
        (np.array([1, 2, 3]), [1, 2, 3]),
    ],
)
def test_one_seed_each(seed: Any, each: list[int | None]) -> None:
    seeds = each_seed(seed, 3)
    assert seeds == each and {type(one) for one in seeds} <= {int, type(None)}


@pytest.mark.parametrize(
    "seed, error, match",
    [
        ("abc", TypeError, "seed must be None, an int, or a sequence of 3"),
        (b"abc", TypeError, "seed must be"),
        (1.5, TypeError, "seed must be"),
        (True, TypeError, "seed must be"),
        ([1, 2], ValueError, "must match num_envs=3 but got length=2"),
        ([1, 2.0, 3], gymnasium.error.Error, "environment 1: Seed must be a python integer"),
        ([1, 2, True], gymnasium.error.Error, "environment 2: Seed must be"),
    ],
)
def test_what_is_no_seed(seed: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(MisuseError, match=match) as raised:
        each_seed(seed, 3)
    assert isinstance(raised.value, error)


def test_a_wrong_seed_is_quoted_but_not_at_length() -> None:
    error = no_seed("x" * 10_000)
    assert isinstance(error, gymnasium.error.Error) and isinstance(error, MisuseError) and len(str(error)) < 300


@pytest.mark.parametrize("seed, sent", [(5, 5), (np.int64(5), 5), ((1, None), [1, None]), (np.array([1, 2]), [1, 2])])
def test_a_vector_environment_gets_what_was_given(seed: Any, sent: Any) -> None:
    assert verbatim(seed) == sent and type(verbatim(seed)) is (list if isinstance(sent, list) else type(seed))


def test_one_value_each_or_one_for_all() -> None:
    array = np.zeros(2)
    assert each_value([1, 2], 2) == [1, 2] and each_value((1, 2), 2) == [1, 2]
    assert [one is array for one in each_value(array, 2)] == [True, True], "neither a list nor a tuple"
    assert each_value("ab", 2) == ["ab", "ab"]
    with pytest.raises(MisuseError, match="Got `3` values for 2 environments"):
        each_value([1, 2, 3], 2)


BOX = spaces.Box(0, 1, (2,))


@pytest.mark.parametrize("mode", ["same", "different", (BOX, BOX)])
def test_an_observation_mode(mode: object) -> None:
    check_observation_mode(mode)


@pytest.mark.parametrize("mode", ["given", 3, (BOX,), (BOX, 3)])
def test_what_is_no_observation_mode(mode: object) -> None:
    with pytest.raises(MisuseError, match="observation_mode") as raised:
        check_observation_mode(mode)
    assert isinstance(raised.value, TypeError) == (isinstance(mode, tuple) and len(mode) == 2)
