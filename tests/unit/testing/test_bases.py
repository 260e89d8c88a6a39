"""What travels as its base, which is documented: which values and spaces, and as what."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from remote_gym.testing import difference
from remote_gym.testing.bases import as_carried, carries, holds_subclass
from remote_gym.testing.toy_oddities import Access, Colour, Level, Metres, Name, Point


class Samples(np.ndarray[Any, Any]):
    """Of a simulator of one's own."""


CARRIED: list[tuple[Any, Any]] = [
    (Level.HIGH, 2),
    (Access.READ | Access.WRITE, 3),
    (Colour.RED, "red"),
    (Name("a"), "a"),
    (Metres(-0.0), -0.0),
    (Point(1, 0.5), (1, 0.5)),
    (defaultdict(int, a=Level.LOW), {"a": 1}),
    ([{Colour.RED: (Level.LOW,)}], [{"red": (1,)}]),
    (OrderedDict(a=Level.LOW), OrderedDict(a=1)),
    (np.ones(2).view(Samples), np.ones(2)),
]
THEMSELVES: list[Any] = [1, True, 1.5, "a", b"a", None, np.float64(1), np.str_("a"), (1, [2]), {"a": {1}}, np.ones(2)]


@pytest.mark.parametrize("value, base", CARRIED)
def test_what_travels_as_its_base(value: Any, base: Any) -> None:
    assert holds_subclass(value) and holds_subclass([{"a": value}])
    assert difference(as_carried(value), base) is None
    assert difference(as_carried([{"a": value}]), [{"a": base}]) is None


@pytest.mark.parametrize("value", THEMSELVES)
def test_what_travels_as_itself(value: Any) -> None:
    assert not holds_subclass(value)
    assert as_carried(value) is value


@pytest.mark.parametrize(
    "given", [[Level.LOW, Level.HIGH], [Level.HIGH, None], [None, Metres(2.5)], [Colour.RED, None], [Level.LOW, 7]]
)
def test_a_batch_is_that_of_the_bases(given: list[Any]) -> None:
    """As Gymnasium itself collects infos of these and of those."""
    envs: Any = VectorEnv()
    envs.num_envs = len(given)
    local: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for index, value in enumerate(given):
        if value is not None:
            local = envs._add_info(local, {"in": {"value": value}}, index)
            plain = envs._add_info(plain, {"in": {"value": as_carried(value)}}, index)
    assert difference(local, plain) is not None
    assert difference(as_carried(local), plain) is None


class Words(spaces.Space[str]):
    def sample(self, mask: Any = None, probability: Any = None) -> str:
        return "go"

    def contains(self, x: Any) -> bool:
        return bool(x == "go")


class Count(spaces.Discrete):
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Count)


TEXT = spaces.Text(2, charset="go")


@pytest.mark.parametrize(
    "remote, local, known",
    [
        (TEXT, Words(), True),
        (spaces.Text(2, charset="ab"), Words(), False),
        (spaces.Dict(a=TEXT, b=TEXT), spaces.Dict(a=Words(), b=TEXT), True),
        (spaces.Dict(a=TEXT), spaces.Dict(a=Words(), b=TEXT), False),
        (spaces.Dict(a=TEXT, b=spaces.Text(3)), spaces.Dict(a=Words(), b=TEXT), False),
        (spaces.Tuple([TEXT] * 2), spaces.Tuple([Words()] * 2), True),
        (spaces.Tuple([TEXT]), spaces.Tuple([Words()] * 2), False),
        (spaces.Discrete(3), Count(3), True),
        (spaces.Discrete(4), Count(3), False),
        (TEXT, Count(3), False),
        (spaces.Discrete(4), spaces.Discrete(3), False),
    ],
)
def test_what_a_space_travels_as(remote: Any, local: Any, known: bool) -> None:
    assert carries(remote, local) is known
