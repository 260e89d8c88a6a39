"""Trainer process: answers -> batches of arrays. One copy at most; none where the caller takes views."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.batches import Buffer, Failure, Indices, Transition
from remote_gym.client.compressed import CompressedRows
from remote_gym.errors import ProtocolError
from remote_gym.infos import InfoBlock, unpack_infos
from remote_gym.leaves import Array, leaves_of, unflattener, variable_leaves_of
from remote_gym.vector_infos import add_infos


@dataclass
class Batch:
    """The answer to one request as it comes in, in one part or in several.

    Attributes:
        indices: Env indices of the request; None: all.
        missing: How many of them have not come yet.
        rewards: (num_envs,) float64.
        terminations: (num_envs,) bool.
        truncations: (num_envs,) bool.
        infos: As `VectorEnv` aggregates them; complete after `TransitionReader.commit`.
    """

    indices: Indices
    missing: int
    leaves: list[Array] | None
    rewards: Array
    terminations: Array
    truncations: Array
    info_blocks: list[InfoBlock] = field(default_factory=list)
    exact: dict[int, dict[str, Any]] = field(default_factory=dict)
    variable: dict[int, list[Any]] = field(default_factory=dict)
    whole: dict[str, Any] | None = None  # of a hosted vector environment
    infos: dict[str, Any] = field(default_factory=dict)


class TransitionReader:
    """Puts answers together and remembers the last observation of each environment.

    Guarantees: arrays handed out are never written again.
    """

    def __init__(self, space: spaces.Space[Any], num_envs: int, compression: str | None = None) -> None:
        """Prepare for environments with this (single) observation space, and what the session was opened with."""
        self._leaves = leaves_of(space)
        self._compressed = None if compression is None else CompressedRows(self._leaves, compression)
        self._unflatten = unflattener(space)
        self._num_envs = num_envs
        self._last: list[Array] | None = None  # read-only
        self.frames: dict[int, Any] = {}  # by env index, where they travel with the steps
        self._warned = False
        # Per variable leaf, the element of each environment.
        self._last_variable: list[list[Any]] = [[None] * num_envs for _ in variable_leaves_of(space)]

    def begin(self, indices: Indices) -> Batch:
        """Return an empty batch for a request over `indices`."""
        n = self._num_envs
        count = n if indices is None else len(indices)
        return Batch(indices, count, None, np.zeros(n), np.zeros(n, np.bool_), np.zeros(n, np.bool_))

    def add(self, batch: Batch, part: Transition) -> None:
        """Take in one answer.

        Raises:
            ProtocolError: Its size does not fit the spaces.
        """
        rows = self._num_envs if part.indices is None else len(part.indices)
        arrays = self._arrays(part, rows)
        filling = None if self._compressed is None else self._compressed.begin(arrays, part)
        for said in part.infos:
            block, exact, variable, extras = values.unpack(said, "infos")
            if block is not None:
                batch.info_blocks.append(unpack_infos(block))
            batch.exact.update(exact or {})
            if variable is not None:
                batch.variable.update(zip(*variable, strict=True))
            if extras is not None and "compressed" in extras:
                if filling is not None:
                    filling.take(extras["compressed"])
            elif extras is not None:
                self._take_extras(batch, extras)
        if filling is not None:
            filling.finish([failure.index for failure in part.failures])
        batch.missing -= rows
        stepped = len(part.rewards) > 0
        if part.indices is None:
            batch.leaves = arrays
            if stepped:
                batch.rewards = _flat(part.rewards, np.float64, rows)
                batch.terminations = _flat(part.terminations, np.bool_, rows)
                batch.truncations = _flat(part.truncations, np.bool_, rows)
            return
        where = list(part.indices)
        if batch.leaves is None:
            batch.leaves = self._copy_of_last()
        for whole, array in zip(batch.leaves, arrays, strict=True):
            whole[where] = array
        if stepped:
            batch.rewards[where] = _flat(part.rewards, np.float64, rows)
            batch.terminations[where] = _flat(part.terminations, np.bool_, rows)
            batch.truncations[where] = _flat(part.truncations, np.bool_, rows)

    def _take_extras(self, batch: Batch, extras: dict[str, Any]) -> None:
        self.frames.update(extras.get("frames", {}))
        if "infos" in extras:
            batch.whole = extras
        if extras.get("dropped") and not self._warned:
            self._warned = True
            warnings.warn(
                f"infos hold what cannot travel; left out, here and from now on: {', '.join(extras['dropped'][:8])}",
                stacklevel=6,
            )

    def _arrays(self, part: Transition, rows: int) -> list[Array]:
        if len(part.observations) != len(self._leaves):
            raise ProtocolError(f"{len(part.observations)} observation leaves, expected {len(self._leaves)}")
        compressed = () if self._compressed is None else self._compressed.numbers
        try:
            return [
                # An empty one travels compressed: room for it, to be filled.
                np.ndarray((rows, *leaf.shape), leaf.dtype, None if at in compressed and not len(data) else data)
                for at, (leaf, data) in enumerate(zip(self._leaves, part.observations, strict=True))
            ]
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"observations do not fit their space: {error}") from None

    def _copy_of_last(self) -> list[Array]:
        if self._last is not None:
            return [leaf.copy() for leaf in self._last]
        return [np.zeros((self._num_envs, *leaf.shape), leaf.dtype) for leaf in self._leaves]

    def remember(self, batch: Batch) -> None:
        """Make `batch` the last observation; for a single environment, whose infos stay as they are."""
        self._last = batch.leaves
        self._remember_variable(batch)

    def _remember_variable(self, batch: Batch) -> None:
        for index, row in batch.variable.items():
            for column, element in zip(self._last_variable, row, strict=True):
                column[index] = element

    def commit(self, batch: Batch, failures: Sequence[Failure]) -> None:
        """Make `batch` the last observation, but for the rows that failed, and aggregate its infos."""
        assert batch.leaves is not None
        leaves = batch.leaves
        if failures:
            failed = [failure.index for failure in failures]
            kept = self._copy_of_last()
            leaves = [leaf.copy() for leaf in leaves]
            for leaf, old in zip(leaves, kept, strict=True):
                leaf[failed] = old[failed]
        for leaf in leaves:
            leaf.flags.writeable = False
        self._last = leaves
        self._remember_variable(batch)
        if batch.whole is not None:
            batch.infos = batch.whole["infos"]
            if batch.whole["rewards_dtype"] is not None:
                batch.rewards = batch.rewards.astype(batch.whole["rewards_dtype"])
            return
        # In the order of environments: the first one that has a key decides the type of its array, as locally.
        batch.info_blocks.sort(key=lambda block: min(block.indices, default=0))
        for block in batch.info_blocks:
            batch.infos = add_infos(batch.infos, block, self._num_envs)

    def observations(self, copy: bool) -> Any:
        """Return the last observations: writable copies, or read-only views."""
        assert self._last is not None
        columns = [tuple(column) for column in self._last_variable]
        if copy:
            return self._unflatten([leaf.copy() for leaf in self._last], deepcopy(columns) if columns else columns)
        return self._unflatten(self._last, columns)

    def single(self) -> Any:
        """Return the last observation of the only environment, a writable copy."""
        assert self._last is not None
        elements = [deepcopy(column[0]) for column in self._last_variable]
        return self._unflatten([leaf[0, ...].copy() for leaf in self._last], elements)


def _flat(data: Buffer, dtype: Any, rows: int) -> Array:
    array = np.frombuffer(data, dtype)
    if len(array) != rows:
        raise ProtocolError(f"{len(array)} rewards or flags for {rows} environments")
    return array.copy()
