"""Layout: the order, dtypes and shapes of leaves, and taking values apart and putting them together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from sameness import assert_same
from toys import SPACES

from remote_gym.errors import MisuseError
from remote_gym.leaves import MAX_SPACE_DEPTH, Leaf, flattener, leaves_of, unflattener, variable_leaves_of


def test_order_dtype_and_shape() -> None:
    leaves = leaves_of(SPACES["nested"]())
    assert leaves == (
        Leaf(("c", "a"), np.dtype("<i8"), (2,)),
        Leaf(("c", "x"), np.dtype("<f8"), (1,)),
        Leaf(("z", 0), np.dtype("<i8"), ()),
        Leaf(("z", 1, "k"), np.dtype("u1"), (2, 2)),
    )
    assert [leaf.row_bytes for leaf in leaves] == [16, 8, 8, 4]
    assert str(leaves[3]) == "['z'][1]['k']"


def test_variable_leaves_are_apart() -> None:
    space = SPACES["mixed"]()
    assert [str(leaf) for leaf in leaves_of(space)] == ["['seen'][0]"]
    assert [str(leaf) for leaf in variable_leaves_of(space)] == ["['said']", "['seen'][1]"]


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", list(SPACES))
def test_apart_and_together(name: str, batched: bool) -> None:
    space = SPACES[name]()
    value = (batch_space(space, 3) if batched else space).sample()
    fixed, variable = flattener(space)(value)
    assert (len(fixed), len(variable)) == (len(leaves_of(space)), len(variable_leaves_of(space)))
    assert_same(unflattener(space)(fixed, variable), value)


def test_big_endian_spaces_are_little_endian_rows() -> None:
    (leaf,) = leaves_of(spaces.Box(-1, 1, (2,), np.dtype(">f4")))  # type: ignore[arg-type]
    assert leaf.dtype.str == "<f4"


def test_empty_shapes_have_no_bytes() -> None:
    assert leaves_of(SPACES["box empty"]())[0].row_bytes == 0


@pytest.mark.parametrize(
    "value, message",
    [
        ({"c": {"a": 1, "x": 2}}, r"keys \['c', 'z'\], got the keys \['c'\]"),
        (3, r"expected a dict with the keys \['c', 'z'\], got int"),
        ({"c": {"a": 1}, "z": (1, {"k": 2})}, r"keys \['a', 'x'\] at \['c'\], got the keys \['a'\]"),
        ({"c": {"a": 1, "x": 2}, "z": (1,)}, r"a tuple of length 2 at \['z'\], got tuple of length 1"),
        ({"c": {"a": 1, "x": 2}, "z": 5}, r"a tuple of length 2 at \['z'\], got int"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, message: str) -> None:
    with pytest.raises(MisuseError, match=message):
        flattener(SPACES["nested"]())(value)


def test_custom_spaces_are_refused_by_name() -> None:
    class Strange(spaces.Space[Any]):
        pass

    class Sub(spaces.Box[Any]):
        pass

    with pytest.raises(MisuseError, match=r"Strange at \['a'\]\[0\] is a custom one"):
        leaves_of(spaces.Dict({"a": spaces.Tuple((Strange(),))}))
    assert leaves_of(Sub(0, 1, (2,))), "a subclass has the layout of its base"


def test_depth_is_bounded() -> None:
    space: spaces.Space[Any] = spaces.Discrete(2)
    for _ in range(MAX_SPACE_DEPTH):
        space = spaces.Tuple((space,))
    leaves_of(space)
    with pytest.raises(MisuseError, match="nested deeper"):
        leaves_of(spaces.Tuple((space,)))
