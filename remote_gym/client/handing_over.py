"""Trainer process: rows that go to another server when their episodes end, so that nothing is cut short.

The mover opens sessions there beforehand; which row is to leave for which of them is in the fleet's layout. A row goes
where it begins another episode::

    NEXT_STEP    with the step after the end, which resets; it is sent to the new server, as a reset
    SAME_STEP    with the answer that ends the episode: what the old server has begun is dropped, and the row's answer
                 comes once the new one has begun
    DISABLED     with the reset that its user asks for
    any          with a reset that is asked for before the end

and is told of like this in its infos: not lost, where it is now, and why. `Exchange` is the rest of the same object.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from gymnasium.vector import AutoresetMode

from remote_gym.client.fleet import has_sent
from remote_gym.client.operations import Operation
from remote_gym.client.parts import Part
from remote_gym.client.recovery import Recovery
from remote_gym.client.shards import Shard
from remote_gym.errors import SessionLost
from remote_gym.messages import Reset, every

FINAL = ("final_obs", "final_info")
"""What the end of an episode leaves in the info of the next one's beginning."""


@dataclass(eq=False)
class Beginning:
    """Episodes that begin on another server, after the ends that an answer has told of.

    Attributes:
        operation: The resets.
        generations: By env index, that of the new environments.
        parts: What is sent to whom; None: that is not settled yet.
    """

    operation: Operation
    generations: dict[int, int]
    parts: list[tuple[Shard, Reset, Operation]] | None = None


class HandingOver(Recovery):
    """Rows that leave; see `Exchange`."""

    def _let_go(self, indices: Sequence[int], resets: bool) -> None:
        """Let those of `indices` go that are about to begin another episode, by a step or by `resets`."""
        fleet = self._fleet
        if self._mover is not None and self._mover.has_news():
            self.adopt()
        if resets or self._mode is AutoresetMode.NEXT_STEP:
            leaving, untold = fleet.layout.leaving, self.losses.untold
            self._go([i for i in indices if i in leaving and i not in untold and (resets or self.over[i])])
        fleet.dismiss()

    def _go(self, rows: Iterable[int]) -> None:
        """Hand rows over that are reset next; those whose new session cannot be reached stay."""
        going = self._going(rows)
        for index in going:
            self.losses.moved(index, self.losses.generations[index] + 1)
        self._place(going)  # last: an interrupt before it leaves rows where they are, to be reset there

    def _place(self, rows: Sequence[int]) -> None:
        """Let those of `rows` that are leaving be where they go to, and the answers to their resets say where."""
        leaving = self._fleet.layout.leaving
        self._places.update((row, (leaving[row].name, leaving[row].reason)) for row in rows if row in leaving)
        self._fleet.hand_over(rows)

    def _going(self, rows: Iterable[int]) -> list[int]:
        """Return those of `rows` whose new session can be reached just now; gives up those that are lost."""
        leaving = self._fleet.layout.leaving
        going = {row: leaving[row] for row in rows}
        for shard in set(going.values()):
            try:
                shard.session.check()
            except SessionLost as error:
                self._session_lost(shard, error)
        return [row for row, shard in going.items() if shard.session.attached]

    # In SAME_STEP

    def _without_leaving(self, part: Part) -> Part:
        """Return `part`, the answer to a step, without the rows whose next episode begins elsewhere.

        Nothing else happens: `_begin_elsewhere` is for who takes it in.
        """
        leaving = self._fleet.layout.leaving
        assert part.rewards is not None and part.terminations is not None and part.truncations is not None
        indices = every(part.indices, self._fleet.num_envs)
        gone = {failure.index for failure in part.failures}
        gone.update(row for row, shard in leaving.items() if not shard.session.attached)
        over = np.flatnonzero(part.terminations | part.truncations).tolist()
        ends = {
            indices[at]: (float(part.rewards[at]), bool(part.terminations[at]), bool(part.truncations[at]))
            for at in over
            if indices[at] in leaving and indices[at] not in gone
        }
        if not ends:
            return part
        notes = {row: {key: info[key] for key in FINAL if key in info} for row, info in _infos(part, ends)}
        generations = {row: self.losses.generations[row] + 1 for row in ends}
        seeds = [self.losses.fresh_seed(row, generation) for row, generation in generations.items()]
        part.indices = indices
        rest = part.without(ends)
        places = np.arange(self._fleet.num_envs)
        places[list(ends)] = -1
        rest.blocks = [block for old in part.blocks if (block := old.select(places)).groups]
        rest.leaving = Beginning(Operation(list(ends), True, b"", seeds, notes, steps=True, ends=ends), generations)
        return rest

    def _begin_elsewhere(self, beginning: Beginning) -> None:
        """Begin these episodes; the same again, after an interrupt, does no harm."""
        if beginning.parts is None:
            for index, generation in beginning.generations.items():
                self.losses.moved(index, generation)
            self._place(beginning.operation.indices)
            beginning.parts = self._reset_parts(beginning.operation)
        for part in beginning.parts:
            if not has_sent(part):
                self._send(*part)


def _infos(part: Part, rows: Iterable[int]) -> Iterable[tuple[int, dict[str, object]]]:
    """Yield the infos of `rows`, by env index."""
    wanted = set(rows)
    return ((row, info) for block in part.blocks for row, info in block.rows() if row in wanted)
