"""Trainer process, no I/O: what was asked of some environments, kept until it is answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from remote_gym import values
from remote_gym.client.actions import Actions
from remote_gym.client.parts import Part

End = tuple[float, bool, bool]
"""Reward, terminated, truncated."""


@dataclass
class Operation:
    """A reset or step of some environments of one server. Its session keeps it until it is answered.

    Attributes:
        indices: Env indices, of the whole batch.
        resets: Whether it is a reset.
        options: Of a reset, packed.
        seeds: Of a reset: one per env index.
        notes: Of a reset after a loss: what infos are to tell, by env index.
        truncated: Whether the reset is that of a truncated episode, in SAME_STEP.
        seed: Of a hosted vector environment's reset: packed, verbatim.
        steps: Whether it is a step that resets, by itself.
        ends: Of a reset that begins, on another server, what follows an episode that has ended: by env index the
            reward and flags of that end, in SAME_STEP.
    """

    indices: Sequence[int]
    resets: bool
    options: bytes = b""
    seeds: Sequence[int | None] = ()
    notes: dict[int, dict[str, Any]] = field(default_factory=dict)
    truncated: bool = False
    seed: bytes | None = None
    steps: bool = False
    ends: dict[int, End] = field(default_factory=dict)

    def some(self, indices: Sequence[int]) -> Operation:
        """Return the same for some of its environments."""
        notes = {index: self.notes[index] for index in indices if index in self.notes}
        seeds = self.seeds_of(indices) if self.seeds else ()
        return replace(self, indices=list(indices), seeds=seeds, notes=notes)

    def seeds_of(self, indices: Iterable[int]) -> list[int | None]:
        """Return the seeds that a reset gave to some of its environments."""
        given = dict(zip(self.indices, self.seeds, strict=True))
        return [given[index] for index in indices]

    def mark(self, part: Part, indices: Sequence[int]) -> None:
        """Add to the answer to a reset, which is for `indices`, what makes up for a loss."""
        part.notes.update({index: self.notes[index] for index in indices if index in self.notes})
        if self.truncated:
            part.truncations = np.ones(len(indices), np.bool_)
        self.end(part, indices)

    def end(self, part: Part, indices: Sequence[int]) -> None:
        """Let `part`, which is for `indices`, tell of the ends that the reset has followed."""
        if not self.ends:
            return
        rewards, terminations, truncations = part.scalars(len(indices))
        for at, index in enumerate(indices):
            if index in self.ends:
                rewards[at], terminations[at], truncations[at] = self.ends[index]
        part.rewards, part.terminations, part.truncations = rewards, terminations, truncations


def chosen(indices: Sequence[int], actions: Actions, positions: Sequence[int]) -> tuple[Sequence[int], Actions]:
    """Return env indices and encoded actions of some positions; a range of a range is one again."""
    where = slice(positions[0], positions[-1] + 1) if isinstance(positions, range) else list(positions)
    rows, variable, dtypes, given = actions
    some = [np.ascontiguousarray(leaf[where]) for leaf in rows]
    if isinstance(indices, range) and isinstance(positions, range):
        own: Sequence[int] = indices[positions.start : positions.stop]
    else:
        own = [indices[at] for at in positions]
    return own, Actions(some, _of(variable, positions), dtypes, _of(given, positions))


def _of(packed: bytes, positions: Sequence[int]) -> bytes:
    """Return some elements of a packed list, packed; nothing of nothing."""
    if not packed:
        return b""
    elements = values.unpack(packed, "actions")
    return values.pack([elements[at] for at in positions], "actions")
