"""No I/O: how a request over env indices is split among the blocks, and so the workers, of a session."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from remote_gym.messages import Indices
from remote_gym.pool import Block

CHUNK_SECONDS = 0.002
"""Work of one worker that is answered together, where the client wants early answers. Shorter costs more messages than
it saves waiting; longer keeps environments that are ready from being stepped again."""


class Portion(NamedTuple):
    """One block's portion of a request.

    Attributes:
        block: Whose.
        own: Its env indices in the request; None: all of its, in order.
        positions: Where they stand in the request.
    """

    block: Block
    own: list[int] | None
    positions: Sequence[int]

    @property
    def indices(self) -> Sequence[int]:
        """Its env indices, None spelled out."""
        return range(self.block.first, self.block.stop) if self.own is None else self.own


def portions(blocks: Sequence[Block], firsts: Sequence[int], indices: Indices) -> list[Portion]:
    """Return the portion of each block concerned, in the order of the blocks; `firsts` are their first env indices."""
    if indices is None:
        return [Portion(block, None, range(block.first, block.stop)) for block in blocks]
    concerned: dict[int, tuple[list[int], list[int]]] = {}  # position of a block -> its env indices, their positions
    for position, index in enumerate(indices):
        own, positions = concerned.setdefault(bisect_right(firsts, index) - 1, ([], []))
        own.append(index)
        positions.append(position)
    return [Portion(blocks[at], *concerned[at]) for at in sorted(concerned)]


def chunks(portion: Portion, step_seconds: float) -> Iterator[Portion]:
    """Yield a portion as several equal ones, each about `CHUNK_SECONDS` of work: answers need not wait for the rest."""
    block, _, positions = portion
    count = min(len(positions), round(len(positions) * step_seconds / CHUNK_SECONDS))
    if count < 2:
        yield portion
        return
    own = list(portion.indices)
    size = -(-len(own) // count)
    for start in range(0, len(own), size):
        yield Portion(block, own[start : start + size], positions[start : start + size])
