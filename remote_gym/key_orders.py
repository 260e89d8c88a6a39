"""No I/O: in which order the keys of a single environment's Dict observation come, where it is not the space's.

Leaves travel in the order of the space, and batches have it. But an environment makes its dicts in an order of its own,
and whoever joins their values depends on it. So an answer says the order, as positions and not as keys: a list with an
item for each Dict of the space, those within it after it. An item is None where the keys come as in the space, else the
positions that they have there, in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, List, NamedTuple, Union

from remote_gym.errors import ProtocolError
from remote_gym.leaves import kind_of

Orders = List[Union[List[int], None]]
"""One item per Dict; see above."""


class _Node(NamedTuple):
    """A Dict or Tuple of a space.

    Attributes:
        is_dict: Which of them.
        keys: In the order of the space; of a Tuple the positions.
        kinds: The types of the keys.
        places: Key -> its position.
        below: Keys and nodes of what is a Dict or Tuple itself.
    """

    is_dict: bool
    keys: list[Any]
    kinds: frozenset[type]
    places: dict[Any, int]
    below: list[tuple[Any, Any]]


class KeyOrders:
    """Reads and applies the orders of observations of one space."""

    def __init__(self, space: Any) -> None:
        """Prepare for observations of `space`."""
        self._root = _node_of(space)
        self._sizes = list(_dict_sizes(self._root))

    def read(self, value: Any) -> Orders | None:
        """Return the orders in `value`; None if it is not made of the dicts and tuples that the space says."""
        orders: Orders = []
        return orders if _read(self._root, value, orders) else None

    def apply(self, orders: Orders, value: Any) -> Any:
        """Return `value`, which has the order of the space, with its keys in these `orders`."""
        return _applied(self._root, iter(orders), value)

    def check(self, orders: Any) -> None:
        """Raise ProtocolError unless `orders`, from a peer, are orders of this space."""
        if type(orders) is not list or len(orders) != len(self._sizes):
            raise ProtocolError(f"the order of keys must be a list, an item for each of {len(self._sizes)} Dicts")
        for order, size in zip(orders, self._sizes):
            if order is not None and not (
                type(order) is list
                and len(order) == size
                and all(type(position) is int for position in order)
                and sorted(order) == list(range(size))
            ):
                raise ProtocolError(f"the order of {size} keys must hold each of their positions once")


def _node_of(space: Any) -> _Node | None:
    kind = kind_of(space)
    if kind not in ("Dict", "Tuple"):
        return None
    children = dict(space.spaces.items() if kind == "Dict" else enumerate(space.spaces))
    nodes = [(key, _node_of(child)) for key, child in children.items()]
    places = {key: position for position, key in enumerate(children)}
    below = [(key, node) for key, node in nodes if node is not None]
    return _Node(kind == "Dict", list(children), frozenset(map(type, children)), places, below)


def _dict_sizes(node: _Node | None) -> Iterator[int]:
    if node is not None:
        if node.is_dict:
            yield len(node.keys)
        for _, below in node.below:
            yield from _dict_sizes(below)


def _read(node: _Node | None, value: Any, orders: Orders) -> bool:
    if node is None:
        return True
    if not node.is_dict:
        if type(value) is not tuple or len(value) != len(node.keys):
            return False
    elif type(value) is not dict or len(value) != len(node.keys) or not node.kinds.issuperset(map(type, value)):
        return False
    elif [*value] == node.keys:
        orders.append(None)
    else:
        positions = [node.places.get(key, -1) for key in value]
        if -1 in positions:
            return False
        orders.append(positions)
    return all(_read(below, value[key], orders) for key, below in node.below)


def _applied(node: _Node | None, orders: Iterator[list[int] | None], value: Any) -> Any:
    if node is None:
        return value
    if not node.is_dict:
        below = dict(node.below)
        return tuple([_applied(below.get(at), orders, item) for at, item in enumerate(value)])
    order = next(orders)
    value = {**value, **{key: _applied(below, orders, value[key]) for key, below in node.below}}
    return value if order is None else {node.keys[position]: value[node.keys[position]] for position in order}
