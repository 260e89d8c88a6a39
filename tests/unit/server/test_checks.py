"""What a request can get wrong is found before anything is executed; what is right becomes the workers' commands."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import values
from remote_gym.ipc.commands import CallGroup, RenderGroup, ResetGroup, SetGroup, StepGroup
from remote_gym.messages import Call, Render, Reset, Step
from remote_gym.server import checks
from remote_gym.server.checks import Order, RequestChecker, surveyed_kwargs
from remote_gym.server.permissions import OWNER, Permissions
from remote_gym.server.refusals import RefusalError

NUMBERS = np.arange(3, dtype="<i8").tobytes()
SEEDS = values.pack([1, None, 3], "seeds")
ARGUMENTS = values.pack([[1], {}], "arguments")


def checker(space: Any = None, is_vector: bool = False, permissions: Permissions = OWNER) -> RequestChecker:
    return RequestChecker(3, space or spaces.Discrete(9), is_vector, permissions)


def command_of(order: Order, own: Any, positions: list[int]) -> Any:
    """The command for group 7."""
    values = () if order.values is None else (order.values.select(positions),)
    return order.kind(7, own, *values, *order.fields)


@pytest.mark.parametrize(
    ("request_", "command"),
    [
        (Step(1, None, [NUMBERS]), StepGroup(7, [2, 0], b"")),
        (Step(1, None, [b"abcdefghijkl"], b"", b"\4"), StepGroup(7, [2, 0], b"ijklabcd", b"\4")),
        (Step(1, None, [], b"", b"", SEEDS), StepGroup(7, [2, 0], values.pack([3, 1], "actions"), None)),
        (Reset(1), ResetGroup(7, [2, 0], b"", b"")),
        (Reset(1, None, SEEDS), ResetGroup(7, [2, 0], values.pack([3, 1], "seeds"), b"")),
        (Call(1, None, "name"), CallGroup(7, [2, 0], "name", b"")),
        (Call(1, None, "name", ARGUMENTS), CallGroup(7, [2, 0], "name", ARGUMENTS)),
        (Call(1, None, "name", b"", SEEDS), SetGroup(7, [2, 0], values.pack([3, 1], "values"), "name")),
        (Render(1), RenderGroup(7, [2, 0])),
    ],
)
def test_each_worker_gets_the_command_and_its_own_part_of_what_is_per_environment(request_: Any, command: Any) -> None:
    assert command_of(checker().check(request_), [2, 0], [2, 0]) == command


def test_variable_actions_are_divided_too() -> None:
    packed = values.pack([["a"], ["b"], ["c"]], "actions")
    order = checker(spaces.Text(3)).check(Step(1, None, [], packed))
    assert command_of(order, None, [1, 2]) == StepGroup(7, None, values.pack([["b"], ["c"]], "actions"))


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (Step(1, [0, 0], [NUMBERS[:16]]), "distinct"),
        (Step(1, [3], [NUMBERS[:8]]), "below 3"),
        (Step(1, None, []), "0 action leaves, expected 1"),
        (Step(1, None, [NUMBERS[:8]]), "has 8 bytes for 3 environments, expected 24"),
        (Step(1, None, [NUMBERS], b"", b"\0\0"), "2 dtypes for 1 action leaves"),
        (Step(1, None, [NUMBERS], b"", b"\x0d"), "no dtype of code 13"),
        (Step(1, None, [NUMBERS], b"", b"\xff"), "no dtype of code 255"),
        (Step(1, None, [NUMBERS], b"", b"\4"), "has 24 bytes for 3 environments, expected 12"),
        (Step(1, None, [b"\0\1\2"], b"", b"\1"), "a bool that is not 0 or 1"),
        (Step(1, None, [NUMBERS], b"", b"", SEEDS), "and others beside them"),
        (Step(1, None, [], SEEDS, b"", SEEDS), "and others beside them"),
        (Step(1, None, [], b"", b"\4", SEEDS), "and others beside them"),
        (Step(1, [0, 1], [], b"", b"", SEEDS), "must be a list of 2"),
        (Step(1, None, [], b"", b"", values.pack((1, 2, 3), "x")), "must be a list of 3"),
        (Step(1, None, [], b"", b"", b"\xc1"), "actions: malformed packed value"),
        (Reset(1, None, values.pack([1], "seeds")), "a list of 3 integers or nil"),
        (Reset(1, None, values.pack([1, 2, "x"], "seeds")), "a list of 3 integers or nil"),
        (Reset(1, None, b"", b"\xc1"), "options: malformed packed value"),
        (Reset(1, None, b"\xc1"), "malformed packed value"),
        (Call(1, None, ""), "private"),
        (Call(1, None, "_secret"), "private"),
        (Call(1, None, "get_wrapper_attr", values.pack([["_secret"], {}], "x")), "private"),
        (Call(1, None, "get_wrapper_attr", values.pack([[], {"name": "_secret"}], "x")), "private"),
        (Call(1, None, "get_wrapper_attr", values.pack([[7], {}], "x")), "must be text"),
        (Call(1, None, "name", values.pack([1, 2], "x")), "positional array, keyword map"),
        (Call(1, None, "name", b"", values.pack([1], "x")), "values must be a list of 3"),
    ],
)
def test_what_is_wrong_is_refused_and_says_what(request_: Any, text: str) -> None:
    with pytest.raises(RefusalError, match=text) as caught:
        checker().check(request_)
    assert caught.value.limit == "request"


def test_a_bool_is_0_or_1() -> None:
    space = spaces.Box(0, 1, (1,), np.bool_)
    assert checker(space).check(Step(1, None, [b"\0\1\1"]))
    with pytest.raises(RefusalError, match="a bool that is not 0 or 1"):
        checker(space).check(Step(1, None, [b"\0\1\2"]))


def test_rows_of_several_dtypes_are_divided_leaf_by_leaf() -> None:
    space = spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (2,), np.float32), spaces.Box(0, 1, (0,), np.float32)])
    order = checker(space).check(Step(1, [2, 0], [b"ab", b"AABB", b""], b"", bytes([2, 6, 12])))
    assert command_of(order, [0], [1]) == StepGroup(7, [0], b"bBB", bytes([2, 6, 12]))
    assert command_of(order, None, range(2)) == StepGroup(7, None, b"abAABB", bytes([2, 6, 12]))  # type: ignore[arg-type]
    with pytest.raises(RefusalError, match="leaves are all of fixed size"):
        checker(spaces.Tuple([spaces.Discrete(2), spaces.Text(2)])).check(Step(1, None, [bytes(3)], b"", b"\2\0"))


def test_a_hosted_vector_environment_is_asked_as_a_whole_and_gets_its_seed_verbatim() -> None:
    seed = values.pack(7, "seed")
    order = checker(is_vector=True).check(Reset(1, None, seed))
    assert command_of(order, None, [0]) == ResetGroup(7, None, seed, b"")
    batch = values.pack([[0, 1, 2]], "actions")
    order = checker(is_vector=True).check(Step(1, None, [], b"", b"", batch))
    assert command_of(order, None, [0]) == StepGroup(7, None, batch, None)
    with pytest.raises(RefusalError, match="must be a list of 1"):
        checker(is_vector=True).check(Step(1, None, [], b"", b"", SEEDS))
    with pytest.raises(RefusalError, match="over all its environments only"):
        checker(is_vector=True).check(Render(1, [0]))
    with pytest.raises(RefusalError, match="private"):
        checker(is_vector=True).check(Call(1, None, "call", values.pack([["_secret"], {}], "x")))


def test_the_names_of_keyword_arguments() -> None:
    assert surveyed_kwargs(values.pack({"a": 1, "b": [2]}, "kwargs")) == ["a", "b"]
    for wrong in ([1], {1: 2}, "x"):
        with pytest.raises(RefusalError, match="must be a dict whose keys are strings"):
            surveyed_kwargs(values.pack(wrong, "kwargs"))


def test_there_are_only_so_many_names() -> None:
    many = {str(number): 1 for number in range(1_001)}
    with pytest.raises(RefusalError, match=r"1,001 remote_args\['entrypoint_kwargs'\], the most is 1,000"):
        surveyed_kwargs(values.pack(many))
    with pytest.raises(RefusalError, match="1,001 keywords, the most is 1,000"):
        checker().check(Call(1, None, "anything", values.pack([[], many])))
    with pytest.raises(RefusalError, match="1,001 arguments, the most is 1,000"):
        checker().check(Call(1, None, "get_wrapper_attr", values.pack([["get_wrapper_attr"] * 1_001, {}])))
    checker().check(Call(1, None, "anything", values.pack([[1] * 5_000, {}])))


def test_a_plain_int_is_looked_at_once_and_for_one_environment_only() -> None:
    checked = RequestChecker(3, spaces.Discrete(2), False, OWNER)
    given = values.pack([1])
    first = checked.check(Step(1, [0], [], given=given))
    assert checked.check(Step(2, [2], [], given=given)) is first
    assert first.values is None and first.fields == (given, None)
    with pytest.raises(RefusalError, match="must be a list of 3"):
        checked.check(Step(3, None, [], given=given))
    for number in range(2 * checks.MAX_INTS):
        checked.check(Step(4, [0], [], given=values.pack([number])))
    assert len(checked._ints) == checks.MAX_INTS


def test_what_is_no_plain_int_is_looked_at_each_time() -> None:
    checked = RequestChecker(1, spaces.Discrete(2), False, OWNER)
    for given in ([1.5], [True], [[1]], [None], ["1"]):
        checked.check(Step(1, None, [], given=values.pack(given)))
    assert not checked._ints
