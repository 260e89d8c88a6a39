"""Trainer process: answers -> arrays. One copy at most; none where the caller takes views.

`TransitionReader.read` checks whatever a server says; what comes after it relies on that.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from gymnasium import spaces

from remote_gym import values
from remote_gym.client.checks import LARGE_INFOS, Share, check_flags, check_room, rewards_dtype
from remote_gym.client.compressed import CompressedRows, Filling
from remote_gym.client.vector_infos import add_infos
from remote_gym.errors import ProtocolError
from remote_gym.infos import InfoBlock, unpack_infos
from remote_gym.leaves import Array, leaves_of, rows_at, unflattener, variable_leaves_of
from remote_gym.messages import Buffer, Failure, Indices, Transition
from remote_gym.texts import printable


@dataclass
class Part:
    """An answer, or what stands for one, for some environments of a request.

    Attributes:
        indices: Env indices, one per row; None: all environments in order.
        leaves: Per leaf of the observation space (rows, *leaf.shape).
        rewards: (rows,) float64; None, as for the flags: those of a reset, zero and False.
        terminations: (rows,) bool.
        truncations: (rows,) bool.
        blocks: Infos.
        info_bytes: What `blocks` took on the wire.
        notes: What the client adds to infos: env index -> info.
        failures: What went wrong; the rows of these env indices hold no meaning.
        exact: By env index, what a single environment returned with its own types.
        variable: By env index, the elements of the observation's variable leaves.
        whole: What a hosted vector environment says: its infos, and the dtype of its rewards if that is not float64.
        unpacked: Whether some leaves were compressed, and so are arrays of our own.
        source: What it came from: a part that comes again after an interrupt is known by that.
    """

    indices: Indices
    leaves: list[Array]
    rewards: Array | None = None
    terminations: Array | None = None
    truncations: Array | None = None
    blocks: list[InfoBlock] = field(default_factory=list)
    info_bytes: int = 0
    notes: dict[int, dict[str, Any]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    exact: dict[int, dict[str, Any]] = field(default_factory=dict)
    variable: dict[int, list[Any]] = field(default_factory=dict)
    whole: tuple[dict[Any, Any], np.dtype[Any] | None] | None = None
    unpacked: bool = False
    source: tuple[Any, ...] = field(default_factory=lambda: (object(),))

    def scalars(self, rows: int) -> tuple[Array, Array, Array]:
        """Return rewards, terminations and truncations of its `rows` rows, zeros where there are none."""
        return (
            np.zeros(rows) if self.rewards is None else self.rewards,
            np.zeros(rows, np.bool_) if self.terminations is None else self.terminations,
            np.zeros(rows, np.bool_) if self.truncations is None else self.truncations,
        )

    @property
    def is_plain(self) -> bool:
        """Whether this is everyone's observations as they came, and nothing besides rewards and flags."""
        return self.indices is None and not (
            self.blocks or self.notes or self.failures or self.variable or self.whole or self.unpacked
        )

    def rows(self, chosen: slice | Array) -> Part:
        """Return a part of some rows, a slice or positions; failures stay behind.

        Its `blocks` still hold the infos of the other rows.
        """
        assert self.indices is not None
        indices = np.asarray(self.indices)[chosen].tolist()
        return replace(
            self,
            indices=indices,
            leaves=[leaf[chosen] for leaf in self.leaves],
            rewards=None if self.rewards is None else self.rewards[chosen],
            terminations=None if self.terminations is None else self.terminations[chosen],
            truncations=None if self.truncations is None else self.truncations[chosen],
            notes={index: self.notes[index] for index in indices if index in self.notes},
            variable={index: self.variable[index] for index in indices if index in self.variable},
            failures=[],
        )


@dataclass
class Batch:
    """Parts put together.

    Attributes:
        leaves: Per leaf of the observation space (rows, *leaf.shape).
        rewards: (rows,) float64.
        terminations: (rows,) bool.
        truncations: (rows,) bool.
        infos: As `VectorEnv` aggregates them; complete after `TransitionReader.commit`.
        rows: How many there will be.
        parts: By their source.
    """

    rows: int
    leaves: list[Array] | None
    rewards: Array
    terminations: Array
    truncations: Array
    parts: dict[tuple[Any, ...], Part] = field(default_factory=dict)
    infos: dict[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> int:
        """Rows that have not come yet."""
        return self.rows - sum(self.rows if part.indices is None else len(part.indices) for part in self.parts.values())

    @property
    def failures(self) -> list[Failure]:
        """Of all parts."""
        return [failure for part in self.parts.values() for failure in part.failures]

    @property
    def notes(self) -> dict[int, dict[str, Any]]:
        """Of all parts."""
        return {index: note for part in self.parts.values() for index, note in part.notes.items()}


class TransitionReader:
    """Turns answers into parts and parts into batches, and remembers the last observation of each environment.

    Guarantees: arrays handed out are never written again.
    """

    def __init__(self, space: spaces.Space[Any], num_envs: int, compression: str | None = None) -> None:
        """Prepare for environments with this (single) observation space, and what the session was opened with."""
        self._leaves = leaves_of(space)
        self._flags = [at for at, leaf in enumerate(self._leaves) if leaf.dtype.kind == "b"]
        self._compressed = None if compression is None else CompressedRows(self._leaves, compression)
        self._unflatten = unflattener(space)
        self._num_envs = num_envs
        self._last: list[Array] | None = None  # read-only
        self._own_last = False  # nobody else holds `_last`
        self.frames: dict[int, Any] = {}  # by env index, where they travel with the steps
        self._warned = False
        # Per variable leaf, the element of each environment.
        self._last_variable: list[list[Any]] = [[None] * num_envs for _ in variable_leaves_of(space)]

    def read(self, answer: Transition, first: int = 0, count: int | None = None) -> Part:
        """Return what a server answered.

        Args:
            answer: As it came; its arrays are looked into.
            first: The env index of the first environment of its session.
            count: Environments of that session; None: all there are.

        Raises:
            ProtocolError, CodecError: It does not fit the spaces, or is malformed.
            Exception: The same; whatever else hostile bytes provoke. `SessionStream.misread` makes one error of all.
        """
        share = Share(answer.indices, self._num_envs if count is None else count, first)
        indices: Indices = answer.indices
        if count is not None and count != self._num_envs:  # one server of several
            indices = [first + index for index in share.indices]
        rows = len(share.indices)
        part = Part(indices, self._arrays(answer, rows), failures=list(answer.failures))
        if len(answer.rewards) > 0:
            part.rewards = _flat(answer.rewards, np.float64, rows)
            # Bytes of 0 and 1: the readers of the wire see to that.
            part.terminations = _flat(answer.terminations, np.bool_, rows)
            part.truncations = _flat(answer.truncations, np.bool_, rows)
        elif len(answer.terminations) or len(answer.truncations):
            raise ProtocolError("flags without rewards")
        filling = None if self._compressed is None else self._compressed.begin(part.leaves, answer)
        part.unpacked = filling is not None
        for said in answer.infos:
            self._take(part, values.unpack(said, "infos"), share, filling)
        failed = [failure.index for failure in answer.failures]
        if failed:
            share.check(failed, "a failure")
        if filling is not None:
            filling.finish(failed)
        for at in self._flags:
            check_flags(part.leaves[at])
        if self._last_variable:
            self._check_variable(part, share, failed)
        return part

    def _take(self, part: Part, said: Any, share: Share, filling: Filling | None) -> None:
        block, exact, variable, extras = said
        if block is not None:
            part.blocks.append(self._block(block, share))
            part.info_bytes += len(block)
        if exact is not None:
            share.check(exact, "an exact value")
            if not {dict}.issuperset(map(type, exact.values())):
                raise ProtocolError("exact values must be dicts")
            part.exact.update(exact)
        if variable is not None:
            self._take_variable(part, variable, share)
        if extras is None:
            return
        if type(extras) is not dict:
            raise ProtocolError(f"extras of type {type(extras).__name__}")
        if filling is not None and "compressed" in extras:
            filling.take(extras["compressed"])
        else:
            self._take_extras(part, extras, share)

    def _block(self, data: Any, share: Share) -> InfoBlock:
        if type(data) is not bytes:
            raise ProtocolError(f"an info block of type {type(data).__name__}")
        infos = unpack_infos(data)
        if share.said is not None:
            share.check(infos.indices, "an info")
        elif any(group.indices[-1] >= share.count for group in infos.groups):  # they rise
            raise ProtocolError(f"an info of an environment beyond the {share.count} of its session")
        return infos.select(np.arange(share.first, share.first + share.count)) if share.first else infos

    def _take_variable(self, part: Part, said: Any, share: Share) -> None:
        indices, rows = said
        if type(indices) is not list or type(rows) is not list or len(indices) != len(rows):
            raise ProtocolError("variable elements must be two lists of one length")
        share.check(indices, "a variable element")
        columns = len(self._last_variable)
        if any(type(row) is not list or len(row) != columns for row in rows):
            raise ProtocolError(f"variable elements must come in lists of {columns}")
        part.variable.update((share.first + index, row) for index, row in zip(indices, rows, strict=True))

    @staticmethod
    def _check_variable(part: Part, share: Share, failed: Sequence[int]) -> None:
        lacking = set(share.indices).difference(failed, (index - share.first for index in part.variable))
        if lacking:
            raise ProtocolError(f"the variable elements of environment {min(lacking)} are missing")

    def _take_extras(self, part: Part, extras: dict[Any, Any], share: Share) -> None:
        frames = extras.get("frames")
        if frames is not None:
            share.check(frames, "a frame")
            self.frames.update((share.first + index, frame) for index, frame in frames.items())
        if "infos" in extras:
            if not isinstance(extras["infos"], dict):
                raise ProtocolError(f"infos of type {type(extras['infos']).__name__}")
            part.whole = extras["infos"], rewards_dtype(extras.get("rewards_dtype"))
        dropped = extras.get("dropped")
        if dropped is not None and (type(dropped) is not list or not {str}.issuperset(map(type, dropped))):
            raise ProtocolError("what was dropped must be a list of paths")
        if dropped and not self._warned:
            self._warned = True
            paths = ", ".join(map(printable, dropped[:8]))
            warnings.warn(f"infos hold what cannot travel; left out, here and from now on: {paths}", stacklevel=6)

    def _arrays(self, part: Transition, rows: int) -> list[Array]:
        if len(part.observations) != len(self._leaves):
            raise ProtocolError(f"{len(part.observations)} observation leaves, expected {len(self._leaves)}")
        compressed = () if self._compressed is None else self._compressed.numbers
        arrays = []
        for at, (leaf, data) in enumerate(zip(self._leaves, part.observations, strict=True)):
            room = at in compressed and not len(data)  # without a buffer: room, to be filled
            if not room and len(data) != rows * leaf.row_bytes:
                said = f"observation leaf {at} has {len(data)} bytes"
                raise ProtocolError(f"{said}, its space says {rows} rows of {leaf.row_bytes}")
            arrays.append(np.ndarray((rows, *leaf.shape), leaf.dtype, None if room else data))
        return arrays

    # Whole batches: one row per environment

    def begin(self, indices: Indices) -> Batch:
        """Return an empty batch for a request over `indices`; it has a row for every environment all the same."""
        return Batch(self._num_envs if indices is None else len(indices), None, *_NOTHING)

    def add(self, batch: Batch, part: Part) -> None:
        """Take in one part; the same again does no harm, as it counts with the last line only."""
        if part.indices is None:
            batch.leaves = part.leaves
            batch.rewards, batch.terminations, batch.truncations = part.scalars(self._num_envs)
        else:
            self._add_rows(batch, part)
        batch.parts[part.source] = part

    def _add_rows(self, batch: Batch, part: Part) -> None:
        assert part.indices is not None
        if not batch.parts:
            batch.rewards, batch.terminations, batch.truncations = Part(None, []).scalars(self._num_envs)
        where = rows_at(part.indices)
        if batch.leaves is None:
            batch.leaves = self._copy_of_last()
        for whole, array in zip(batch.leaves, part.leaves, strict=True):
            whole[where] = array
        if part.rewards is not None:
            batch.rewards[where] = part.rewards
        if part.terminations is not None:
            batch.terminations[where] = part.terminations
        if part.truncations is not None:
            batch.truncations[where] = part.truncations

    def last_rows(self, indices: Sequence[int]) -> list[Array]:
        """Return copies of the last observations handed out for these environments; zeros before the first."""
        if self._last is None:
            self._last = self._copy_of_last()
        return [leaf[list(indices)] for leaf in self._last]

    def last_single(self, index: int) -> Any:
        """Return a copy of the last observation handed out for one environment, as it would return it."""
        elements = [deepcopy(column[index]) for column in self._last_variable]
        return self._unflatten([leaf[0] for leaf in self.last_rows([index])], elements)

    def _copy_of_last(self) -> list[Array]:
        if self._last is not None:
            return [leaf.copy() for leaf in self._last]
        return [np.zeros((self._num_envs, *leaf.shape), leaf.dtype) for leaf in self._leaves]

    def remember(self, part: Part) -> None:
        """Make `part` the last observation; for a single environment, whose infos stay as they are."""
        self._last = part.leaves
        self._remember_variable(part)

    def _remember_variable(self, part: Part) -> None:
        for index, row in part.variable.items():
            for column, element in zip(self._last_variable, row, strict=True):
                column[index] = element

    def commit(self, batch: Batch) -> None:
        """Make `batch` the last observation, but for the rows that failed, and aggregate its infos."""
        assert batch.leaves is not None
        leaves = batch.leaves
        part = next(iter(batch.parts.values()))
        if part.is_plain:  # the usual case: one answer with nothing to tell, whose arrays are read-only views
            self._last, self._own_last = leaves, False
            return
        if failed := [failure.index for failure in batch.failures]:
            kept = self._copy_of_last()
            leaves = [leaf.copy() for leaf in leaves]
            for leaf, old in zip(leaves, kept, strict=True):
                leaf[failed] = old[failed]
        for leaf in leaves:
            leaf.flags.writeable = False
        self._last, self._own_last = leaves, False
        for part in batch.parts.values():
            self._remember_variable(part)
            if part.whole is not None:
                batch.infos, dtype = part.whole
                if dtype is not None:
                    with np.errstate(all="ignore"):  # of the very dtype that the environment has returned
                        batch.rewards = batch.rewards.astype(dtype)
        blocks = [block for part in batch.parts.values() for block in part.blocks]
        self._aggregate(batch, blocks, range(self._num_envs))

    @staticmethod
    def _aggregate(batch: Batch, blocks: list[InfoBlock], everyone: Sequence[int]) -> None:
        """Add infos, and notes of the environments `everyone`, whose rows are in this order.

        Raises:
            ProtocolError: They would take far more memory than any honest ones.
            Exception: What Gymnasium raises, when environments disagree about the shape or type of a key.
        """
        # In the order of rows: the first one that has a key decides the type of its array, as locally.
        if sum(part.info_bytes for part in batch.parts.values()) * len(everyone) > LARGE_INFOS:
            check_room(blocks, len(everyone))
        for block in sorted(blocks, key=lambda block: min(block.indices, default=0)):
            batch.infos = add_infos(batch.infos, block, len(everyone))
        if notes := batch.notes:
            _add_notes(batch, notes, everyone)

    def observations(self, copy: bool) -> Any:
        """Return the last observations: writable copies, or read-only views."""
        assert self._last is not None
        columns = [tuple(column) for column in self._last_variable]
        if copy:
            return self._unflatten([leaf.copy() for leaf in self._last], deepcopy(columns) if columns else columns)
        return self._unflatten(self._last, columns)

    # Batches of whoever was first: one row per environment that is ready

    def join(self, parts: Sequence[Part], copy: bool) -> tuple[Any, Batch]:
        """Return observations and batch of the environments in `parts`, in their order, and remember them.

        The observations are writable copies, or read-only arrays that nobody else writes.
        """
        everyone = [index for part in parts for index in part.indices or ()]
        leaves = [np.concatenate(each) for each in zip(*(part.leaves for part in parts), strict=True)]
        if not copy:
            for leaf in leaves:
                leaf.flags.writeable = False
        columns = zip(*(part.scalars(len(part.indices or ())) for part in parts), strict=True)
        rewards, terminations, truncations = map(np.concatenate, columns)
        parts_by_row = {(at,): part for at, part in enumerate(parts)}
        batch = Batch(len(everyone), leaves, rewards, terminations, truncations, parts_by_row)
        self._remember_rows(everyone, leaves)
        for part in parts:
            self._remember_variable(part)
        self._aggregate(batch, list(self._placed(parts)), everyone)
        batch.infos["env_id"] = np.array(everyone, np.int64)
        elements = [tuple(column[index] for index in everyone) for column in self._last_variable]
        return self._unflatten(leaves, deepcopy(elements) if copy else elements), batch

    def _placed(self, parts: Sequence[Part]) -> Iterable[InfoBlock]:
        """Yield the infos of `parts`, by row instead of env index."""
        row = 0
        for part in parts:
            assert part.indices is not None
            stop = row + len(part.indices)
            if part.blocks:
                places = np.full(self._num_envs, -1, np.int64)
                places[list(part.indices)] = np.arange(row, stop)
                yield from (block.select(places) for block in part.blocks)
            row = stop

    def _remember_rows(self, indices: Sequence[int], leaves: Iterable[Array]) -> None:
        if not self._own_last:  # views of it may be in the user's hands
            self._last, self._own_last = self._copy_of_last(), True
        assert self._last is not None
        where = rows_at(indices)
        for last, leaf in zip(self._last, leaves, strict=True):
            last[where] = leaf

    def single(self) -> Any:
        """Return the last observation of the only environment, a writable copy."""
        assert self._last is not None
        elements = [deepcopy(column[0]) for column in self._last_variable]
        return self._unflatten([leaf[0, ...].copy() for leaf in self._last], elements)


_NOTHING = np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.bool_)
"""Rewards and flags of a batch without parts."""


def _add_notes(batch: Batch, notes: dict[int, dict[str, Any]], everyone: Sequence[int]) -> None:
    for key in ("remote_gym", "_remote_gym"):  # the client's own word, whatever a server may call so
        batch.infos.pop(key, None)
    try:
        for row, index in enumerate(everyone):
            if index in notes:
                batch.infos = add_infos(batch.infos, InfoBlock.of(row, notes[index]), len(everyone))
    except Exception as error:
        raise ProtocolError(f"infos in which the end of an episode has no place: {error}") from error


def _flat(data: Buffer, dtype: Any, rows: int) -> Array:
    array = np.frombuffer(bytearray(data), dtype)  # the bytearray is the copy: it is quicker than NumPy's
    if len(array) != rows:
        raise ProtocolError(f"{len(array)} rewards or flags for {rows} environments")
    return array
