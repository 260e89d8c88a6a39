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


Said = tuple[Sequence[int], bytes]
"""What there is to say besides the rows, and the env indices that it is about."""


def parts(
    everyone: Sequence[int], row_bytes: int, said: Sequence[Said], limit_bytes: int
) -> Iterator[tuple[list[int], list[Said]]]:
    """Yield an answer for `everyone` as parts of about `limit_bytes` at most, each for environments of its own.

    Args:
        everyone: Env indices.
        row_bytes: Of one environment.
        said: What is about several environments goes into one part with all of them.
        limit_bytes: What is more for itself is a part for itself.
    """
    own: list[int] = []
    infos: list[Said] = []
    size = 0
    for indices, more in _bound(everyone, said):
        added = len(indices) * row_bytes + sum(len(packed) for _, packed in more)
        if own and size + added > limit_bytes:
            yield own, infos
            own, infos, size = [], [], 0
        own, infos, size = own + indices, infos + more, size + added
    yield own, infos


def _bound(everyone: Sequence[int], said: Sequence[Said]) -> Iterator[tuple[list[int], list[Said]]]:
    """Yield the environments that something is said of together, or alone, and what that is."""
    of: dict[int, tuple[list[int], list[Said]]] = {}
    for one in said:
        first = one[0][0]
        if first in of:
            of[first][1].append(one)
        else:
            of.update(dict.fromkeys(one[0], (list(one[0]), [one])))
    for index in everyone:
        indices, infos = of.get(index, ([index], []))
        if index == indices[0]:
            yield indices, infos
