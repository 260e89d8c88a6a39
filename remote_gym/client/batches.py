"""Trainer process, no I/O: parts -> what `step` and `recv` return. At most one copy; none for who takes views."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from remote_gym.client.checks import LARGE_INFOS, check_room
from remote_gym.client.listed_infos import add_listed_infos, listed
from remote_gym.client.observations import Observations
from remote_gym.client.old_infos import add_old_infos, as_old_infos
from remote_gym.client.parts import Part
from remote_gym.client.settings import GYMNASIUM, GYMNASIUM_0_29, LIST
from remote_gym.client.vector_infos import add_infos
from remote_gym.errors import ProtocolError
from remote_gym.info_blocks import InfoBlock
from remote_gym.infos import split
from remote_gym.leaves import Array, rows_at
from remote_gym.messages import Failure, Indices, every

_NO_REWARDS, _NO_FLAGS = np.zeros(0), np.zeros(0, np.bool_)
"""Of a batch without parts."""

AddInfos = Callable[[Any, InfoBlock, int], Any]
"""Adds a block to the infos of so many rows, and returns these."""

_ADD: dict[str, AddInfos] = {GYMNASIUM: add_infos, GYMNASIUM_0_29: add_old_infos, LIST: add_listed_infos}


@dataclass
class Batch:
    """Parts put together.

    Attributes:
        rows: How many there will be.
        missing: Rows that have not come yet; less than none if some came twice after a loss.
        asked: Whether all of them were asked for; an interrupt may have come before that.
        order: Env indices, one per row; None: a row for every environment, those that were not asked for included.
        leaves: Per leaf of the observation space (rows, *leaf.shape).
        rewards: (rows,) float64.
        terminations: (rows,) bool.
        truncations: (rows,) bool.
        parts: By their source.
        infos: As `VectorEnv` aggregates them; complete after `Batches.commit`, as are:
        failures: Of all parts.
        notes: Of all parts.
    """

    rows: int
    missing: int
    asked: bool = False
    leaves: list[Array] | None = None
    rewards: Array = field(default_factory=lambda: _NO_REWARDS)
    terminations: Array = field(default_factory=lambda: _NO_FLAGS)
    truncations: Array = field(default_factory=lambda: _NO_FLAGS)
    parts: dict[tuple[Any, ...], Part] = field(default_factory=dict)
    infos: Any = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    notes: dict[int, dict[str, Any]] = field(default_factory=dict)
    order: Sequence[int] | None = None


class Batches:
    """Puts parts together, and what is handed out into `observations`."""

    def __init__(self, observations: Observations, num_envs: int, info_format: str = GYMNASIUM) -> None:
        """Prepare for `num_envs` environments."""
        self._observations = observations
        self._num_envs = num_envs
        self._format = info_format
        self._add_infos: AddInfos = _ADD[info_format]

    # Whole batches: one row per environment

    def begin(self, indices: Indices) -> Batch:
        """Return an empty batch for a request over `indices`; it has a row for every environment all the same."""
        rows = self._num_envs if indices is None else len(indices)
        return Batch(rows, rows)

    def add(self, batch: Batch, part: Part) -> None:
        """Take in one part; the same again does no harm."""
        if batch.order is not None:  # laid out once all are here
            part.indices = every(part.indices, self._num_envs)
        elif part.indices is not None:
            if len(part.indices):  # else all of them are still to come
                self._add_rows(batch, part, rows_at(part.indices))
        else:
            batch.leaves = part.leaves
            if part.rewards is not None and part.terminations is not None and part.truncations is not None:
                batch.rewards, batch.terminations, batch.truncations = part.rewards, part.terminations, part.truncations
            else:
                batch.rewards, batch.terminations, batch.truncations = part.scalars(self._num_envs)
        if part.source not in batch.parts:
            batch.parts[part.source] = part
            batch.missing -= _rows_of(part, batch)
        else:  # an interrupt has come in between, before or after it was counted
            batch.missing = batch.rows - sum(_rows_of(each, batch) for each in batch.parts.values())

    def _add_rows(self, batch: Batch, part: Part, where: Any) -> None:
        if batch.leaves is None:  # the first that has any
            batch.rewards, batch.terminations, batch.truncations = Part(None, []).scalars(self._num_envs)
            batch.leaves = self._observations.leaves()
        for whole, array in zip(batch.leaves, part.leaves, strict=True):
            whole[where] = array
        if part.rewards is not None:
            batch.rewards[where] = part.rewards
        if part.terminations is not None:
            batch.terminations[where] = part.terminations
        if part.truncations is not None:
            batch.truncations[where] = part.truncations

    def commit(self, batch: Batch, copy: bool) -> Any:
        """Make `batch` the last observation, but for the rows that failed, and aggregate its infos.

        Returns:
            The observations of all, as `Observations.batch` gives them; with `Batch.order` those of its environments.

        Raises:
            Exception: What Gymnasium raises for infos that do not aggregate; the observation is the last one all the
                same.
        """
        if batch.order is not None:
            return self._commit_some(batch, batch.order, copy)
        assert batch.leaves is not None
        if len(batch.parts) == 1:
            (part,) = batch.parts.values()
            if part.indices is None and not (
                part.blocks or part.notes or part.failures or part.variable or part.whole or part.unpacked
            ):  # the usual case: one answer with nothing to tell, whose arrays are views
                return self._observations.put_batch(batch.leaves, copy)
        self._commit(batch, batch.leaves)
        return self._observations.batch(copy)

    def _commit_some(self, batch: Batch, order: Sequence[int], copy: bool) -> Any:
        parts = list(batch.parts.values())
        batch.failures = [failure for part in parts for failure in part.failures]
        if batch.failures:
            failed = {failure.index for failure in batch.failures}
            parts = [part.without(failed) for part in parts]
            order = [index for index in order if index not in failed]
            if not order:
                return None
        observations, joined = self._joined(parts, copy, order)
        batch.rewards, batch.terminations, batch.truncations = joined.rewards, joined.terminations, joined.truncations
        batch.infos, batch.notes = joined.infos, joined.notes
        return observations

    def _commit(self, batch: Batch, leaves: list[Array]) -> None:
        batch.failures = [failure for part in batch.parts.values() for failure in part.failures]
        batch.notes = notes_of(batch.parts.values())
        self._observations.put(self._read_only(leaves, [failure.index for failure in batch.failures]))
        for part in batch.parts.values():
            self._observations.put_variable(part)
            if part.whole is not None:
                batch.infos, dtype = part.whole
                if self._format == GYMNASIUM_0_29:
                    batch.infos = as_old_infos(batch.infos, self._num_envs)
                elif self._format == LIST:
                    batch.infos = split(batch.infos, self._num_envs)
                if dtype is not None:
                    with np.errstate(all="ignore"):  # of the very dtype that the environment has returned
                        batch.rewards = batch.rewards.astype(dtype)
        blocks = [block for part in batch.parts.values() for block in part.blocks]
        self._aggregate(batch, blocks, range(self._num_envs))

    def _read_only(self, leaves: list[Array], failed: list[int]) -> list[Array]:
        """Return `leaves` with the last observation in the rows that `failed`."""
        if failed:
            kept = self._observations.leaves()
            leaves = [leaf.copy() for leaf in leaves]
            for leaf, old in zip(leaves, kept, strict=True):
                leaf[failed] = old[failed]
        for leaf in leaves:
            leaf.flags.writeable = False
        return leaves

    # Batches of whoever was first: one row per environment that is ready

    def join(self, parts: Sequence[Part], copy: bool) -> tuple[Any, Batch]:
        """Return observations and batch of the environments in `parts`, in their order, and remember them.

        The observations are writable copies, or read-only arrays that nobody else writes.
        """
        observations, batch = self._joined(parts, copy, None)
        everyone = [index for part in parts for index in part.indices or ()]
        if self._format == LIST:
            batch.infos = listed(batch.infos, len(everyone))
            for info, index in zip(batch.infos, everyone, strict=True):
                info["env_id"] = index
        else:
            batch.infos["env_id"] = np.array(everyone, np.int64)
        return observations, batch

    def _joined(self, parts: Sequence[Part], copy: bool, order: Sequence[int] | None) -> tuple[Any, Batch]:
        """Do what `join` does, in the `order` of these env indices; None: that of the parts."""
        everyone = [index for part in parts for index in part.indices or ()]
        rows = None
        if order is not None and everyone != list(order):
            row_of = {index: row for row, index in enumerate(everyone)}
            rows = [row_of[index] for index in order]
            everyone = list(order)
        leaves = [_together(each, rows) for each in zip(*(part.leaves for part in parts), strict=True)]
        if not copy:
            for leaf in leaves:
                leaf.flags.writeable = False
        columns = zip(*(part.scalars(len(part.indices or ())) for part in parts), strict=True)
        rewards, terminations, truncations = (_together(each, rows) for each in columns)
        parts_by_row = {(at,): part for at, part in enumerate(parts)}
        batch = Batch(
            len(everyone), 0, True, leaves, rewards, terminations, truncations, parts_by_row, notes=notes_of(parts)
        )
        self._observations.put_rows(everyone, leaves)
        for part in parts:
            self._observations.put_variable(part)
        self._aggregate(batch, list(self._placed(parts, everyone)), everyone)
        return self._observations.some(everyone, leaves, copy), batch

    def _placed(self, parts: Sequence[Part], everyone: Sequence[int]) -> Iterable[InfoBlock]:
        """Yield the infos of `parts`, by row instead of env index; `everyone` has the env index of each row."""
        if not any(part.blocks for part in parts):
            return
        row_of = np.full(self._num_envs, -1, np.int64)
        row_of[list(everyone)] = np.arange(len(everyone))
        for part in parts:
            if part.blocks:
                own = list(part.indices or ())
                places = np.full(self._num_envs, -1, np.int64)
                places[own] = row_of[own]
                yield from (block.select(places) for block in part.blocks)

    # Infos

    def _aggregate(self, batch: Batch, blocks: list[InfoBlock], everyone: Sequence[int]) -> None:
        """Add infos, and notes of the environments `everyone`, whose rows are in this order.

        Raises:
            ProtocolError: They would take far more memory than any honest ones.
            Exception: What Gymnasium raises, when environments disagree about the shape or type of a key.
        """
        if sum(part.info_bytes for part in batch.parts.values()) * len(everyone) > LARGE_INFOS:
            check_room(blocks, len(everyone))
        for block in _rising(blocks):
            batch.infos = self._add_infos(batch.infos, block, len(everyone))
        if batch.notes:
            self._add_notes(batch, batch.notes, everyone)

    def _add_notes(self, batch: Batch, notes: dict[int, dict[str, Any]], everyone: Sequence[int]) -> None:
        for infos in batch.infos if self._format == LIST else (batch.infos,):
            for key in ("remote_gym", "_remote_gym"):  # the client's own word, whatever a server may call so
                infos.pop(key, None)
        try:
            for row, index in enumerate(everyone):
                if index in notes:
                    batch.infos = self._add_infos(batch.infos, InfoBlock.of(row, notes[index]), len(everyone))
        except Exception as error:
            raise ProtocolError(f"infos in which the end of an episode has no place: {error}") from error


def _rows_of(part: Part, batch: Batch) -> int:
    return batch.rows if part.indices is None else len(part.indices)


def _together(arrays: Sequence[Array], rows: list[int] | None) -> Array:
    """Return a copy of all `arrays`, one after the other, or of these rows of that."""
    if rows is None:
        return np.concatenate(arrays)
    return (arrays[0] if len(arrays) == 1 else np.concatenate(arrays))[rows]


def _rising(blocks: Iterable[InfoBlock]) -> list[InfoBlock]:
    """Return `blocks` in the order of rows: the first row that has a key decides the type of its array, as locally."""
    ranges = sorted(
        ((rows[0], rows[-1], at, block) for at, block in enumerate(blocks) if (rows := block.indices)),
        key=lambda one: one[:3],
    )
    if all(one[1] < other[0] for one, other in itertools.pairwise(ranges)):
        return [block for *_, block in ranges]
    # Those of several workers lie between each other where the caller has asked for some in an order of their own.
    each = sorted((row for *_, block in ranges for row in block.rows()), key=lambda row: row[0])
    return list(itertools.starmap(InfoBlock.of, each))


def notes_of(parts: Iterable[Part]) -> dict[int, dict[str, Any]]:
    """Return the notes of all `parts`, by env index."""
    return {index: note for part in parts for index, note in part.notes.items()}
