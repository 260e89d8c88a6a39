"""Trainer process, no I/O: what has come of a reset or step for some environments, or stands for what was lost."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from remote_gym.info_blocks import InfoBlock
from remote_gym.leaves import Array
from remote_gym.messages import Failure, Indices


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
        leaving: What is still to come of rows that were in it: their next episodes begin elsewhere.
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
    leaving: Any = None

    @classmethod
    def of_ends(cls, indices: list[int], leaves: list[Array], notes: dict[int, dict[str, Any]]) -> Part:
        """Return the truncated ends of these environments' episodes, with `leaves` as their last observations."""
        rows = len(indices)
        return cls(indices, leaves, np.zeros(rows), np.zeros(rows, np.bool_), np.ones(rows, np.bool_), notes=notes)

    def scalars(self, rows: int) -> tuple[Array, Array, Array]:
        """Return rewards, terminations and truncations of its `rows` rows, zeros where there are none."""
        return (
            np.zeros(rows) if self.rewards is None else self.rewards,
            np.zeros(rows, np.bool_) if self.terminations is None else self.terminations,
            np.zeros(rows, np.bool_) if self.truncations is None else self.truncations,
        )

    def without(self, indices: Container[int]) -> Part:
        """Return a part of all rows but those of `indices`, and of all other failures."""
        assert self.indices is not None
        rest = self.rows(np.array([at for at, index in enumerate(self.indices) if index not in indices], np.intp))
        rest.failures = [failure for failure in self.failures if failure.index not in indices]
        return rest

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
