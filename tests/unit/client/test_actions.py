"""Actions are checked before anything is sent: what fits is packed, what does not is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, iterate
from sameness import assert_same
from toys import SPACES

from remote_gym import values
from remote_gym.client import actions as encoding
from remote_gym.client.actions import ActionEncoder, Actions
from remote_gym.client.operations import chosen
from remote_gym.errors import MisuseError
from remote_gym.leaves import leaves_of, of_dtypes

BOX = spaces.Box(-1, 1, (2,), np.float32)
NESTED = spaces.Dict({"arm": spaces.Tuple((BOX, spaces.Discrete(3))), "grip": spaces.MultiBinary(2)})


def encode(space: spaces.Space[Any], actions: Any, n: int = 3, validate: bool = False) -> Actions:
    return ActionEncoder(space, validate).encode(actions, range(n))


def cast(space: spaces.Space[Any], actions: Any, n: int = 3, validate: bool = False) -> list[Any]:
    """As for a server that takes the space's dtypes alone."""
    rows, *others = ActionEncoder(space, validate, as_given=False).encode(actions, range(n))
    assert others == [b""] * 3
    return rows


@pytest.mark.parametrize("as_given", [False, True])
@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("name", list(SPACES))
def test_samples_are_packed_as_they_are(name: str, validate: bool, as_given: bool) -> None:
    space = SPACES[name]()
    encoder = ActionEncoder(space, validate, as_given)
    batch = batch_space(space, 3)
    batch.seed(1)
    sample = batch.sample()
    rows, variable, dtypes, given = encoder.encode(sample, range(3))
    for row, leaf in zip(rows, encoder._leaves, strict=True):
        assert (row.dtype, row.shape) == (leaf.dtype, (3, *leaf.shape))
    if variable:
        by_env = values.unpack(variable)
        assert [len(elements) for elements in by_env] == [len(encoder._variable)] * 3
    single = encoder.encode_single(space.sample())
    assert [len(row) for row in single.rows] == [1] * len(rows)
    assert bool(single.variable) is bool(variable)
    assert dtypes == given == single.dtypes == single.given == b""


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
def test_an_older_server_gets_what_casts_same_kind(space: Any, actions: Any, packed: Any) -> None:
    (row,) = cast(space, actions)
    assert_same(row, packed)
    assert row.flags.c_contiguous


@pytest.mark.parametrize(
    "space, actions, message",
    [
        (spaces.Discrete(3), [0.0, 1.0, 2.0], "actions have dtype float64, which does not cast to the space's int64"),
        (spaces.Discrete(3, dtype=np.int8), [0, 300, 0], "the action of environment 1 does not fit .* int8: .*300"),
        (spaces.Discrete(3), [0, 2**70, 0], "actions have dtype object, which does not cast"),
    ],
)
def test_what_does_not_cast_is_refused_for_an_older_server_and_when_validating(
    space: Any, actions: Any, message: str
) -> None:
    with pytest.raises(MisuseError, match=message):
        cast(space, actions)
    with pytest.raises(MisuseError, match=message):
        encode(space, actions, validate=True)
    assert_same(values.unpack(encode(space, actions).given), actions)


@pytest.mark.parametrize(
    "space, actions, dtypes",
    [
        (BOX, np.zeros((3, 2)), [12]),
        (BOX, np.zeros((2, 3)).T, [12]),
        (BOX, np.zeros((3, 2), np.float16), [10]),
        (spaces.Discrete(3), np.zeros(3, np.bool_), [1]),
        (spaces.Discrete(3), np.zeros(3, np.uint64), [9]),
        (spaces.Box(0, 1, (2,), np.bool_), np.zeros((3, 2), np.int8), [2]),
        (NESTED, {"arm": (np.zeros((3, 2)), np.zeros(3, int)), "grip": np.zeros((3, 2), np.int32)}, [12, 0, 4]),
    ],
)
def test_arrays_of_other_dtypes_are_rows_with_codes(space: Any, actions: Any, dtypes: list[int]) -> None:
    encoded = encode(space, actions)
    assert encoded == (encoded.rows, b"", bytes(dtypes), b"")
    for row, leaf in zip(encoded.rows, of_dtypes(leaves_of(space), encoded.dtypes), strict=True):
        assert (row.dtype, row.shape, row.flags.c_contiguous) == (leaf.dtype, (3, *leaf.shape), True)


@pytest.mark.parametrize(
    "space, actions",
    [
        (spaces.Discrete(3), [0, 1, 2]),
        (spaces.Discrete(3), (0, np.int8(1), True)),
        (BOX, np.zeros((3, 2), ">f4")),
        (BOX, np.zeros((3, 2), np.longdouble)),
        (BOX, [np.zeros(2), [0, 1], (0, 1.0)]),
        (NESTED, {"arm": (np.zeros((3, 2)), [0, 1, 2]), "grip": np.zeros((3, 2), np.int8)}),
    ],
)
def test_all_else_travels_as_iterate_gives_it(space: Any, actions: Any) -> None:
    encoded = encode(space, actions)
    assert encoded == ([], b"", b"", encoded.given)
    assert_same(values.unpack(encoded.given), list(iterate(batch_space(space, 3), actions)))


def test_a_hosted_vector_environment_gets_the_batch() -> None:
    encoder = ActionEncoder(NESTED, False, is_vector=True)
    plain: Any = {"arm": (np.zeros((3, 2)), np.zeros(3)), "grip": np.zeros((3, 2))}
    assert encoder.encode(plain, range(3)).dtypes
    for actions in ({"grip": plain["grip"], "arm": plain["arm"]}, {**plain, "arm": list(plain["arm"])}):
        assert_same(values.unpack(encoder.encode(actions, range(3)).given), [actions])


@pytest.mark.parametrize(
    "space, actions, message",
    [
        (BOX, np.zeros((2, 2)), "actions are for 2 environments, expected 3"),
        (BOX, np.zeros((4, 2)), "actions are for 4 environments, expected 3"),
        (BOX, np.zeros((3, 3)), r"the action of environment 0 has shape \(3,\), expected \(2,\)"),
        (BOX, np.zeros(3), r"the action of environment 0 has shape \(\), expected \(2,\)"),
        (BOX, [[0, 0], [0, 0, 0], [0, 0]], r"the action of environment 1 has shape \(3,\), expected \(2,\)"),
        (BOX, [[0, 0], [0, 0], [[0], [0, 0]]], "the action of environment 2 is ragged"),
        (BOX, [2**70] * 3, r"the action of environment 0 has shape \(\), expected \(2,\)"),
        (BOX, 3.0, r"actions are a float, expected an array of shape \(3, 2\)"),
        (BOX, None, "actions are None"),
        (BOX, "abc", "actions are 'abc'"),
        (BOX, b"abc", "actions are b'abc'"),
        (BOX, [[0, 0], [0, "x"], [0, 0]], "the action of environment 1 is no number"),
        (BOX, [[0, 0], None, [0, 0]], "the action of environment 1 is no number"),
        (BOX, np.zeros((3, 2), np.complex64), "the action of environment 0 is no number"),
        (BOX, {"a": 1}, "actions are for 1 environments, expected 3"),
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
    with pytest.raises(MisuseError, match=message):
        cast(space, actions)


@pytest.mark.parametrize("as_given", [False, True])
@pytest.mark.parametrize("action", [None, "up", [[0], [0, 0]], 1j, {"x": 1}])
def test_what_does_not_fit_a_single_environment(action: Any, as_given: bool) -> None:
    with pytest.raises(MisuseError, match="environment 0"):
        ActionEncoder(BOX, False, as_given).encode_single(action)


@pytest.mark.parametrize("action", [[0, 0, 0], np.zeros((1, 2)), 3])
def test_a_single_environment_judges_shapes_unless_validating(action: Any) -> None:
    assert_same(values.unpack(ActionEncoder(BOX, False).encode_single(action).given), [action])
    for encoder in (ActionEncoder(BOX, True), ActionEncoder(BOX, False, as_given=False)):
        with pytest.raises(MisuseError, match=r"environment 0 has shape .*, expected \(2,\)"):
            encoder.encode_single(action)


@pytest.mark.parametrize(
    "space, action, dtypes",
    [
        (spaces.Discrete(3), np.int64(1), []),
        (spaces.Discrete(3), np.int8(1), [2]),
        (spaces.Discrete(3), 1, None),
        (spaces.Discrete(3), np.array(1), None),
        (BOX, np.zeros(2, np.float32), []),
        (BOX, np.zeros(2), [12]),
        (BOX, [0.0, 1.0], None),
        (spaces.Box(0, 1, (), np.float32), np.array(0, np.float32), []),
        (spaces.Box(0, 1, (), np.float32), np.float32(0), None),
    ],
)
def test_how_a_single_action_travels(space: Any, action: Any, dtypes: list[int] | None) -> None:
    encoded = ActionEncoder(space, False).encode_single(action)
    if dtypes is None:
        assert_same(values.unpack(encoded.given), [action])
    else:
        assert (encoded.dtypes, encoded.given) == (bytes(dtypes), b"")


@pytest.mark.parametrize("space", [NESTED, spaces.Dict(a=BOX, b=spaces.Text(3))])
def test_some_of_a_batch(space: Any) -> None:
    batch = batch_space(space, 3)
    for form in (np.array, lambda array: array.tolist(), lambda array: array.astype(np.float64)):
        actions = mapped(form, batch.sample())
        everyone, some = encode(space, actions), chosen([5, 6, 7], encode(space, actions), [2, 0])
        assert some[0] == [7, 5]
        assert some[1].dtypes == everyone.dtypes
        for ours, theirs in zip(some[1].rows, everyone.rows, strict=True):
            assert_same(ours, theirs[[2, 0]])
        for ours_packed, packed in ((some[1].variable, everyone.variable), (some[1].given, everyone.given)):
            if packed:
                elements = values.unpack(packed)
                assert_same(values.unpack(ours_packed), [elements[2], elements[0]])


def mapped(form: Any, sample: Any) -> Any:
    if isinstance(sample, dict):
        return {key: mapped(form, value) for key, value in sample.items()}
    if isinstance(sample, tuple):
        return tuple(mapped(form, value) for value in sample)
    return form(sample) if isinstance(sample, np.ndarray) else sample


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


def test_plain_ints_are_encoded_once_and_few_are_remembered() -> None:
    encoder = ActionEncoder(spaces.Discrete(5), False)
    first = encoder.encode_single(3)
    assert encoder.encode_single(3) is first
    assert values.unpack(first.given) == [3]
    for action in range(2 * encoding.MAX_INTS):
        assert values.unpack(encoder.encode_single(action).given) == [action]
    assert len(encoder._ints) == encoding.MAX_INTS


@pytest.mark.parametrize("action", [True, np.int64(1), 1.0, [1]])
def test_what_is_no_plain_int_is_not_taken_for_one(action: Any) -> None:
    encoder = ActionEncoder(spaces.Discrete(5), False)
    encoder.encode_single(1)
    assert encoder.encode_single(action) is not encoder.encode_single(1)
    assert list(encoder._ints) == [1]


def test_an_int_outside_of_its_space_is_refused_each_time() -> None:
    encoder = ActionEncoder(spaces.Discrete(5), True)
    for _ in range(2):
        with pytest.raises(MisuseError, match="outside of its space"):
            encoder.encode_single(7)
