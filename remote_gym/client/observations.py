"""Trainer process, no I/O: the last observation of each environment, and observations out of their leaves."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym.client.parts import Part
from remote_gym.key_orders import KeyOrders, Orders
from remote_gym.leaves import Array, is_one_array, leaves_of, rows_at, unflattener, variable_leaves_of


class Observations:
    """The last observation that was handed out for each environment; zeros before the first.

    Guarantees: arrays handed out are never written again.
    """

    def __init__(self, space: spaces.Space[Any], num_envs: int) -> None:
        """Prepare for environments with this (single) observation space."""
        self._leaves = leaves_of(space)
        self._unflatten = unflattener(space)
        self._key_orders = KeyOrders(space)
        self._is_one_array = is_one_array(space)
        self._num_envs = num_envs
        self._last: list[Array] | None = None  # read-only
        self._own = False  # nobody else holds `_last`
        # Per variable leaf, the element of each environment.
        self._variable: list[list[Any]] = [[None] * num_envs for _ in variable_leaves_of(space)]

    # Read

    def rows(self, indices: Sequence[int]) -> list[Array]:
        """Return copies of the rows of these environments, per leaf (rows, *leaf.shape)."""
        if self._last is None:
            self._last = self.leaves()
        return [leaf[list(indices)] for leaf in self._last]

    def leaves(self) -> list[Array]:
        """Return copies of all rows, per leaf (num_envs, *leaf.shape)."""
        if self._last is not None:
            return [leaf.copy() for leaf in self._last]
        return [np.zeros((self._num_envs, *leaf.shape), leaf.dtype) for leaf in self._leaves]

    def element(self, index: int) -> Any:
        """Return a copy of one environment's observation, as that environment would return it."""
        elements = [deepcopy(column[index]) for column in self._variable]
        return self._unflatten([leaf[0] for leaf in self.rows([index])], elements)

    def only(self, orders: Orders | None = None) -> Any:
        """Return the observation of the only environment, a writable copy; its keys in these orders, if given."""
        assert self._last is not None
        if self._is_one_array:  # the usual case
            return self._last[0][0, ...].copy()
        elements = [deepcopy(column[0]) for column in self._variable]
        observation = self._unflatten([leaf[0, ...].copy() for leaf in self._last], elements)
        return observation if orders is None else self._key_orders.apply(orders, observation)

    def batch(self, copy: bool) -> Any:
        """Return the observations of all: writable copies, or read-only views."""
        assert self._last is not None
        columns = [tuple(column) for column in self._variable]
        if copy:
            return self._unflatten([leaf.copy() for leaf in self._last], deepcopy(columns) if columns else columns)
        self._own = False  # from here on the user holds it as well
        return self._unflatten(self._last, columns)

    def some(self, indices: Sequence[int], leaves: list[Array], copy: bool) -> Any:
        """Return the observations of some environments, whose rows are `leaves`."""
        elements = [tuple(column[index] for index in indices) for column in self._variable]
        return self._unflatten(leaves, deepcopy(elements) if copy else elements)

    # Written

    def put_batch(self, leaves: list[Array], copy: bool) -> Any:
        """Do what `put` does, and return what `batch` does.

        Writable leaves look into memory that is nobody else's: they are handed out as they are, and of the two that
        may be written from now on, the user's and ours, ours is the copy: into memory that we have already.
        """
        if copy and not self._variable and all(leaf.flags.writeable for leaf in leaves):
            self._keep(leaves)
            return leaves[0] if self._is_one_array else self._unflatten(leaves, [])
        self.put(leaves)
        if self._is_one_array:  # the usual case
            return leaves[0].copy() if copy else leaves[0]
        return self.batch(copy)

    def put(self, leaves: list[Array]) -> None:
        """Make `leaves` the observations of all; they are not written from now on."""
        self._last, self._own = leaves, False

    def _keep(self, leaves: list[Array]) -> None:
        """Make copies of `leaves` the observations of all."""
        if self._own and self._last is not None:
            for last, leaf in zip(self._last, leaves, strict=True):
                np.copyto(last, leaf)
        else:
            self._last, self._own = [leaf.copy() for leaf in leaves], True

    def put_rows(self, indices: Sequence[int], leaves: Iterable[Array]) -> None:
        """Copy the rows of some environments in."""
        if not self._own:  # views of it may be in the user's hands
            self._last, self._own = self.leaves(), True
        assert self._last is not None
        where = rows_at(indices)
        for last, leaf in zip(self._last, leaves, strict=True):
            last[where] = leaf

    def put_variable(self, part: Part) -> None:
        """Take over the elements of variable leaves that are in `part`."""
        for index, row in part.variable.items():
            for column, element in zip(self._variable, row, strict=True):
                column[index] = element
