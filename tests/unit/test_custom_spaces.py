"""Custom spaces travel as what is registered for their class; MiniGrid's missions without anybody's doing."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from remote_gym import MisuseError, register_space
from remote_gym.custom_spaces import MAX_MISSIONS
from remote_gym.spaces import bases_assumed, build, describe


class Angle(gymnasium.Space[Any]):
    """A number on a circle."""

    def __init__(self, turns: int = 1) -> None:
        super().__init__((), np.float32)
        self.turns = turns


class Narrow(Angle):
    """Registered as its base is."""


class Grid(spaces.Box[Any]):
    """A subclass of Gymnasium's that is registered."""


class Holder(gymnasium.Space[Any]):
    """Holds another custom space."""


def to_box(space: Angle) -> spaces.Box[Any]:
    return spaces.Box(-space.turns, space.turns, (), np.float32)


def from_box(space: Any) -> Angle:
    return Angle(int(space.high))


register_space(Angle, to_box, from_box)
register_space(Grid, lambda space: spaces.MultiBinary(space.shape))
register_space(Holder, lambda space: spaces.Tuple([Angle(3), spaces.Discrete(2)]), name="holder")


@pytest.mark.parametrize("kind", [Angle, Narrow])
def test_there_and_back(kind: type[Angle]) -> None:
    space = spaces.Dict({"a": kind(2), "b": spaces.Tuple([kind(1)])})
    data = describe(space)
    assert bases_assumed(data) == []
    box = spaces.Box(-2, 2, (), np.float32)
    assert build(data) == spaces.Dict({"a": box, "b": spaces.Tuple([to_box(Angle(1))])})
    back: Any = build(data, custom=True)
    assert type(back["a"]) is Angle and back["a"].turns == 2
    assert type(back["b"][0]) is Angle and back["b"][0].turns == 1


def test_its_generator_goes_along() -> None:
    space = Angle()
    assert build(describe(space), custom=True)._np_random is None
    space.seed(5)
    back = build(describe(space), custom=True)
    assert back.np_random.random() == space.np_random.random()


def test_what_is_not_built_back_stays_portable() -> None:
    assert build(describe(Grid(0, 1, (2, 3))), custom=True) == spaces.MultiBinary((2, 3))


def test_a_portable_space_may_hold_custom_ones() -> None:
    data = describe(Holder())
    assert data["type"] == "holder"
    back: Any = build(data, custom=True)
    plain: Any = build(data)
    assert type(back[0]) is Angle and plain[0] == to_box(Angle(3))


def test_a_name_that_this_process_has_not_registered_builds_nothing() -> None:
    data = {**describe(Angle()), "type": "os.system"}
    assert build(data, custom=True) == to_box(Angle())


@pytest.mark.parametrize(
    ("to_portable", "said"),
    [
        (lambda space: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda space: "Box", "returned 'Box', which is no space"),
        (lambda space: space, "returned .* which is no space of Gymnasium's"),
    ],
)
def test_a_function_that_does_not_do_what_it_should(to_portable: Callable[[Any], Any], said: str) -> None:
    class Odd(gymnasium.Space[Any]):
        """Badly registered."""

    register_space(Odd, to_portable)
    with pytest.raises(MisuseError, match=f"to_portable of .*Odd {said}"):
        describe(Odd())


@pytest.mark.parametrize(
    ("from_portable", "said"), [(lambda space: 1 / 0, "raised ZeroDivisionError"), (lambda space: 1, "returned 1")]
)
def test_nor_when_building_back(from_portable: Callable[[Any], Any], said: str) -> None:
    class Odd(gymnasium.Space[Any]):
        """Badly registered."""

    register_space(Odd, lambda space: spaces.Discrete(2), from_portable)
    with pytest.raises(MisuseError, match=f"from_portable of .*Odd {said}"):
        build(describe(Odd()), custom=True)


@pytest.mark.parametrize(
    "arguments", [(spaces.Box, to_box), (int, to_box), ("Angle", to_box), (Angle, None), (Angle, to_box, 3)]
)
def test_misuse(arguments: Any) -> None:
    with pytest.raises(MisuseError, match="register_space takes"):
        register_space(*arguments)


# --- MiniGrid ---------------------------------------------------------------------------------------------------------


class MissionSpace(gymnasium.Space[str]):
    """As MiniGrid has it, as far as it is looked at."""

    __module__ = "minigrid.core.mission"

    def __init__(self, mission_func: Callable[..., str], ordered_placeholders: list[list[str]] | None = None) -> None:
        super().__init__(dtype=str)
        self.mission_func, self.ordered_placeholders = mission_func, ordered_placeholders


class BabyAIMissionSpace(MissionSpace):
    """As BabyAI has it: its missions are put together elsewhere."""


def test_missions_travel_as_the_text_that_they_are() -> None:
    space = MissionSpace(lambda colour, kind: f"get the {colour} {kind}", [["red", "blue"], ["key", "ball"]])
    letters = "".join(sorted({*"get the red blue key ball"}))
    assert build(describe(space)) == spaces.Text(17, min_length=15, charset=letters)
    one = MissionSpace(lambda: "go")
    assert build(describe(one)) == spaces.Text(2, min_length=2, charset="go")


@pytest.mark.parametrize(
    "space",
    [
        BabyAIMissionSpace(lambda: "go"),
        MissionSpace(lambda *words: "".join(words), [[*map(str, range(MAX_MISSIONS))], ["a", "b"]]),
        MissionSpace(lambda: ""),
    ],
    ids=["a subclass", "too many", "empty"],
)
def test_missions_that_cannot_be_counted_out_are_any_text(space: Any) -> None:
    text: Any = build(describe(space))
    assert isinstance(text, spaces.Text)
    for mission in ("", "pick up the red ball, then open a door " * 20 + string.punctuation):
        assert text.contains(mission)
