"""Orders of keys: what is read is applied, what a peer may say is checked."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from remote_gym import ProtocolError
from remote_gym.key_orders import KeyOrders

LEAF = spaces.Discrete(3)
SPACE = spaces.Dict(
    a=LEAF, b=spaces.Tuple([spaces.Dict({2: LEAF, 1: LEAF}), LEAF]), c=spaces.Dict(d=spaces.Dict(e=LEAF), f=LEAF)
)
ORDERS = KeyOrders(SPACE)


def shuffled(permute: Any, space: spaces.Space[Any]) -> Any:
    """Return an element of `space` with the keys of each dict in the order that ``permute(keys)`` says."""
    if isinstance(space, spaces.Dict):
        return {key: shuffled(permute, space.spaces[key]) for key in permute(list(space.spaces))}
    if isinstance(space, spaces.Tuple):
        return tuple(shuffled(permute, child) for child in space.spaces)
    return 0


def told(value: Any) -> str:
    return repr(value)  # equality knows no order


@given(st.data())
def test_what_is_read_is_applied(data: Any) -> None:
    value = shuffled(lambda keys: data.draw(st.permutations(keys)), SPACE)
    orders = ORDERS.read(value)
    ORDERS.check(orders)
    assert orders is not None
    assert told(ORDERS.apply(orders, shuffled(list, SPACE))) == told(value)


def test_the_order_of_the_space_is_none() -> None:
    assert ORDERS.read(shuffled(list, SPACE)) == [None] * 4
    assert KeyOrders(LEAF).read(object()) == []


@pytest.mark.parametrize(
    "value", [{}, None, (), {"a": 0, "b": 0, "c": 0}, {**shuffled(list, SPACE), "d": 0}, [*shuffled(list, SPACE)]]
)
def test_what_is_made_otherwise_has_none(value: Any) -> None:
    assert ORDERS.read(value) is None


@pytest.mark.parametrize(
    "orders",
    [
        None, {}, (), [], [None] * 3, [None] * 5, [0, None, None, None], [[0, 1], None, None, None],
        [[0, 1, 1], None, None, None], [[0, 1, 3], None, None, None], [[-1, 0, 1], None, None, None],
        [[0, 1, "2"], None, None, None], [[0.0, 1, 2], None, None, None], [[False, True, 2], None, None, None],
        [(0, 1, 2), None, None, None], [[2, 1, 0, 0], None, None, None],
    ],
)  # fmt: skip
def test_what_a_peer_may_not_say(orders: Any) -> None:
    with pytest.raises(ProtocolError, match="the order of"):
        ORDERS.check(orders)
